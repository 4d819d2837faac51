"""The tokens of a run: calibration, held-out and training blocks, each from its own slice of text.

Held-out blocks are spread evenly over the whole held-out text and never depend on a seed. A held-out parquet file, or a
data set on the Hub, may have a column `source`; then every token knows the source of its document.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leaderboard.errors import P2Error
from leaderboard.logs.contract import WRAPPED
from zoo.inputs.packing import PADDING, Blocks, load_blocks, pack, save_blocks
from zoo.inputs.text import Hashed, documents, forget, labelled, tokenize
from zoo.recipe.spec import Recipe, TextSpec, TrainSpec

_EVERYTHING = 2**62
_CALIBRATION_ROWS = 8
_POOL = 4_194_304  # a short training draws its blocks from this many tokens, so that no document fills a step
MOST = 20  # sources; more of them are no table
UNTOLD = "not told"
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


@dataclass(frozen=True)
class Trained:
    """What a run that goes on was trained on: its `stages`, tokens from the start, and the hash of the last one."""

    stages: tuple[int, ...]
    sha256: str


def gather(
    recipe: Recipe, tokenizer: Any, commits: dict[str, str], cache: Path, trained: Trained | None = None
) -> Materials:
    """Tokenize what the recipe names; `commits` pin Hub data sets, `cache` keeps the training blocks.

    Where it goes on with what was `trained`, the training blocks are fresh ones. Afterwards no text stays in memory.
    """
    heldout, sha256, sources = heldout_blocks(recipe, tokenizer, commits["heldout"])
    train, before = _train(recipe, tokenizer, commits["train"], cache, trained)
    materials = Materials(
        heldout=heldout,
        heldout_sha256=sha256,
        train=train,
        before=before,
        calibration=_calibration(recipe, tokenizer, commits["train"]) if recipe.prune.needs_calibration else [],
        sources=sources,
        heldout_bytes=text_bytes(heldout, tokenizer),
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
    told = list(labelled(recipe.data.heldout, recipe.folder, "data.heldout", commit=commit))
    texts = Hashed(text for text, _ in told)
    train, wanted = recipe.train, recipe.evaluate.tokens
    tokenized = list(tokenize(texts, tokenizer))
    blocks = pack(tokenized, train.seq_len, train.packing, _EVERYTHING)
    rows = max(1, wanted // train.seq_len)
    if len(blocks) < rows:
        raise _too_short("heldout", recipe.data.heldout, blocks, wanted, "evaluate.tokens")
    sources = heldout_sources(recipe, [source for _, source in told], [len(ids) for ids in tokenized])
    return blocks.spread(rows), texts.sha256, sources


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
    recipe: Recipe, tokenizer: Any, commit: str, cache: Path, trained: Trained | None
) -> tuple[Blocks, Blocks | None]:
    """The blocks to train on, and of a run that goes on the last that it was trained on."""
    before = cache.with_name("before")
    if (blocks := load_blocks(cache)) is not None:
        return blocks, None if trained is None else load_blocks(before)
    train = recipe.train
    texts = documents(recipe.data.train, recipe.folder, "data.train", seed=train.seed, commit=commit)
    stages = (*(trained.stages if trained else ()), train.planned_tokens)
    blocks = pack(tokenize(texts, tokenizer), train.seq_len, train.packing, _pool(stages[-1]), _pool(stages[0]))
    rows = _drawn(blocks, stages, train)
    if sum(blocks.select(drawn).tokens for drawn in rows) < train.planned_tokens:
        whole = blocks.select(np.concatenate(rows))
        raise _too_short("train", recipe.data.train, whole, train.planned_tokens, "train.tokens")
    last = None
    if trained is not None:
        if blocks.select(rows[-2]).sha256 != trained.sha256:
            raise P2Error(
                f"data.train: {recipe.data.train.label} no longer gives the tokens that this run was trained on, so "
                "which text is fresh cannot be told; choose another --out and train anew."
            )
        last = blocks.select(rows[-2][-REBUILD_STEPS * (train.batch_tokens // train.seq_len) :])
        save_blocks(last, before)
    blocks = blocks.select(rows[-1])
    save_blocks(blocks, cache)
    return blocks, last


def _pool(tokens: int) -> int:
    """Tokens of text that a training of `tokens` draws from."""
    return max(tokens, min(_POOL, 8 * tokens))


def _drawn(blocks: Blocks, stages: Sequence[int], train: TrainSpec) -> list[np.ndarray]:
    """Which blocks each stage draws, from its pool less what the stages before it drew."""
    drawn: list[np.ndarray] = []
    for number, until in enumerate(stages):
        used = np.concatenate([np.zeros(0, int), *drawn])
        rows = np.setdiff1d(np.arange(blocks.holding(_pool(until))), used)
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
        raise _too_short("train", recipe.data.train, blocks, wanted, "prune.calibration_tokens")
    return list(torch.from_numpy(blocks.ids.astype("int64")).split(_CALIBRATION_ROWS))


def _too_short(part: str, spec: TextSpec, blocks: Blocks, wanted: int, key: str) -> P2Error:
    return P2Error(
        f"data.{part}: {spec.label} gives {blocks.tokens:,} tokens in whole blocks, {key} asks for {wanted:,}; "
        f"give more text or lower {key}. Text is never repeated: a second pass is not fresh tokens."
    )
