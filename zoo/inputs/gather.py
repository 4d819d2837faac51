"""The tokens of a run: calibration, held-out and training blocks, each from its own slice of text.

Held-out blocks are spread evenly over the whole held-out text and never depend on a seed. A held-out parquet file, or a
data set on the Hub, may have a column `source`; then every token knows the source of its document.
"""

import collections
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leaderboard.errors import P2Error
from leaderboard.logs.contract import WRAPPED
from zoo.files import write_atomic
from zoo.inputs.packing import PADDING, Blocks, load_blocks, pack, pool_tokens, save_blocks
from zoo.inputs.spool import clear, spooled
from zoo.inputs.text import Hashed, Known, Tally, documents, forget, labelled, refuse_known, tokenize
from zoo.recipe.spec import Recipe, TextSpec, TrainSpec

_EVERYTHING = 2**62
_CALIBRATION_ROWS = 8
MOST = 20  # sources; more of them are no table
UNTOLD = "not told"
_COUNTS = "counts.json"
REBUILD_STEPS = 60  # that the moments of an optimiser remember: 0.95 ** 60 is 0.05


@dataclass(frozen=True)
class Sources:
    """`ids`, (blocks, seq_len), say which of `names` the token in the same place of the held-out blocks is from."""

    names: tuple[str, ...]
    ids: np.ndarray


@dataclass(frozen=True)
class Materials:
    """Everything a run reads besides the model."""

    heldout: Blocks
    heldout_sha256: str  # of the whole held-out text, before tokenization
    train: Blocks
    calibration: list[Tensor]  # (rows, seq_len) token ids each
    sources: Sources | None = None  # of the held-out tokens
    heldout_bytes: int | None = None  # of the text of the held-out blocks
    before: Blocks | None = None  # of a run that goes on: what the one before was trained on last
    heldout_in_train: int | None = None  # held-out documents that stand in the training text too
    without_text: tuple[int, int] = (0, 0)  # rows passed over in the training and the held-out text


@dataclass(frozen=True)
class Trained:
    """What a run that goes on was trained on: its `stages`, tokens from the start, and the hash of the last one."""

    stages: tuple[int, ...]
    sha256: str


def gather(
    recipe: Recipe, tokenizer: Any, commits: dict[str, str], cache: Path, trained: Trained | None = None
) -> Materials:
    """Tokenize what the recipe names; `commits` pin Hub data sets, `cache` keeps the training tokens as they are made.

    Where it goes on with what was `trained`, the training blocks are fresh ones. Afterwards no text stays in memory.
    Raises P2Error where nothing is held out, or there is too little text.
    """
    tally = Tally()
    heldout, sha256, sources, texts = _heldout(recipe, tokenizer, commits["heldout"], tally)
    train, before = _train(recipe, tokenizer, commits["train"], cache, texts, trained)
    known, without_text = json.loads((cache / _COUNTS).read_text(encoding="utf-8"))
    refuse_known(known, texts, recipe)
    materials = Materials(
        heldout=heldout,
        heldout_sha256=sha256,
        train=train,
        before=before,
        calibration=_calibration(recipe, tokenizer, commits["train"]) if recipe.prune.needs_calibration else [],
        sources=sources,
        heldout_bytes=text_bytes(heldout, tokenizer),
        heldout_in_train=known,
        without_text=(without_text, tally.without_text),
    )
    forget()
    return materials


def text_bytes(blocks: Blocks, tokenizer: Any) -> int | None:
    """Bytes of the text in blocks, marks of the end of a text left out; None where there are none.

    A character that a block cuts through counts as three bytes on either side.
    """
    rows = [ids[at != PADDING].tolist() for ids, at in zip(blocks.ids, blocks.positions, strict=True)]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) or None


def heldout_blocks(recipe: Recipe, tokenizer: Any, commit: str) -> tuple[Blocks, str, Sources | None]:
    """The held-out tokens of a run, the same for everybody with this recipe, tokenizer and text.

    With them the text's hash, and the tokens' sources where the text tells them.
    """
    return _heldout(recipe, tokenizer, commit, Tally())[:3]


def _heldout(
    recipe: Recipe, tokenizer: Any, commit: str, tally: Tally
) -> tuple[Blocks, str, Sources | None, list[str]]:
    """`heldout_blocks`, and the documents."""
    told = list(labelled(recipe.data.heldout, recipe.folder, "data.heldout", commit=commit, tally=tally))
    documents = [text for text, _ in told]
    texts = Hashed(documents)
    train, wanted = recipe.train, recipe.evaluate.tokens
    tokenized = list(tokenize(texts, tokenizer))
    blocks = pack(tokenized, train.seq_len, train.packing, _EVERYTHING)
    rows = max(1, wanted // train.seq_len)
    if len(blocks) < rows:
        raise _too_short("heldout", recipe.data.heldout, blocks.tokens, wanted, "evaluate.tokens")
    sources = heldout_sources(recipe, [source for _, source in told], [len(ids) for ids in tokenized])
    return blocks.spread(rows), texts.sha256, sources, documents


def heldout_sources(recipe: Recipe, told: Sequence[str | None], lengths: Sequence[int]) -> Sources | None:
    """Sources of a recipe's held-out blocks, whose documents `told` these and have such `lengths` in tokens.

    None where the text does not tell them, or tells too many.
    """
    labels = [str(source or UNTOLD) for source in told]
    names = sorted(set(labels))
    if len(names) > MOST or names in ([], [UNTOLD]):
        return None
    like = ([names.index(label)] * length for label, length in zip(labels, lengths, strict=True))
    train = recipe.train
    blocks = pack(like, train.seq_len, train.packing, _EVERYTHING)  # packing looks at lengths only
    return Sources(tuple(names), blocks.spread(max(1, recipe.evaluate.tokens // train.seq_len)).ids)


def _train(
    recipe: Recipe, tokenizer: Any, commit: str, cache: Path, heldout: Sequence[str], trained: Trained | None
) -> tuple[Blocks, Blocks | None]:
    """The blocks to train on, and of a run that goes on the last that it was trained on.

    `cache` gets them, and how many of the `heldout` documents their text holds and how many rows without text: of
    files the whole text is looked at, of a data set what was read to fill the blocks.
    """
    before = cache.with_name("before")
    if (blocks := load_blocks(cache)) is not None and (cache / _COUNTS).is_file():
        return blocks, None if trained is None else load_blocks(before)
    train, tally, known = recipe.train, Tally(), Known(heldout)
    texts = documents(recipe.data.train, recipe.folder, "data.train", train.seed, commit, tally)
    stages = (*(trained.stages if trained else ()), train.planned_tokens)
    ids, pools = spooled(known.watch(texts), tokenizer, cache), (pool_tokens(stages[-1]), pool_tokens(stages[0]))
    blocks = pack(ids, train.seq_len, train.packing, *pools, folder=cache)
    rows = _drawn(blocks, stages, train)
    if (tokens := sum(int(blocks.lengths[drawn].sum()) for drawn in rows)) < train.planned_tokens:
        raise _too_short("train", recipe.data.train, tokens, train.planned_tokens, "train.tokens")
    last = None
    if trained is not None:
        if blocks.select(rows[-2]).sha256 != trained.sha256:
            raise P2Error(
                f"data.train: {recipe.data.train.label} no longer gives the tokens that this run was trained on, so "
                "which text is fresh cannot be told; choose another --out and train anew."
            )
        last = blocks.select(rows[-2][-REBUILD_STEPS * (train.batch_tokens // train.seq_len) :])
        save_blocks(last, before)
    if recipe.data.train.local:
        texts = documents(replace(recipe.data.train, noise=None), recipe.folder, "data.train", tally=(tally := Tally()))
        collections.deque((known := Known(heldout)).watch(texts), maxlen=0)
    write_atomic(cache / _COUNTS, json.dumps([known.found, tally.without_text]))
    save_blocks(blocks, cache, rows[-1])
    clear(cache)
    saved = load_blocks(cache)
    assert saved is not None
    return saved, last


def _drawn(blocks: Blocks, stages: Sequence[int], train: TrainSpec) -> list[np.ndarray]:
    """Which blocks each stage draws, from its pool less what the stages before it drew."""
    drawn: list[np.ndarray] = []
    for number, until in enumerate(stages):
        used = np.concatenate([np.zeros(0, int), *drawn])
        rows = np.setdiff1d(np.arange(blocks.holding(pool_tokens(until))), used)
        wanted = until - int(blocks.lengths[used].sum())
        seed: int | list[int] = train.seed if number == 0 else [train.seed, number]
        drawn.append(blocks.drawn(rows, wanted, train.batch_tokens // train.seq_len, seed))
    return drawn


def _calibration(recipe: Recipe, tokenizer: Any, commit: str) -> list[Tensor]:
    clean = replace(recipe.data.train, noise=None)  # so that clean and noisy runs prune the same
    texts = documents(clean, recipe.folder, "data.train", seed=recipe.prune.seed, commit=commit)
    wanted, seq_len = recipe.prune.calibration_tokens, recipe.train.seq_len
    blocks = pack(tokenize(texts, tokenizer), seq_len, WRAPPED, wanted)
    if blocks.tokens < wanted:
        raise _too_short("train", recipe.data.train, blocks.tokens, wanted, "prune.calibration_tokens")
    return list(torch.from_numpy(blocks.ids.astype("int64")).split(_CALIBRATION_ROWS))


def _too_short(part: str, spec: TextSpec, tokens: int, wanted: int, key: str) -> P2Error:
    return P2Error(
        f"data.{part}: {spec.label} gives {tokens:,} tokens in whole blocks, {key} asks for {wanted:,}; "
        f"{'a blend ends where the first of its texts does; ' if spec.blend else ''}"
        f"give more text or lower {key}. Text is never repeated: a second pass is not fresh tokens."
    )
