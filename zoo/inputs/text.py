"""Documents: of files on this machine (text_files.py), or streamed from a data set on the Hub (text_stream.py).

The order is the text's own, or shuffled by a seed; the same seed gives the same documents, also where a stream broke
off and was opened again. A row without text is passed over and counted. What stands in a document is text, also
where it spells one of the tokenizer's special tokens.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard.errors import P2Error
from zoo.inputs import text_stream
from zoo.inputs.text_files import Texts, find_files, read_files, sha256_of
from zoo.recipe.spec import Recipe, TextSpec

_TOGETHER = 64  # documents tokenized in one call


@dataclass
class Tally:
    """What was passed over while documents were read: `without_text` counts rows."""

    without_text: int = 0


def check_text(spec: TextSpec, folder: Path, where: str) -> None:
    """Refuse what can be known without a network: a file that is missing, empty or lacks the column."""
    if spec.blend is not None:
        for number, part in enumerate(spec.blend):
            check_text(part, folder, f"{where}.blend[{number}]")
    elif spec.dataset is not None:
        text_stream.check_not_gone(spec.dataset, where)
    elif not any(text.strip() for text in documents(spec, folder, where)):
        raise P2Error(f"{where}: {spec.label} holds no text in this slice; give a file with text in it.")


def fingerprint(spec: TextSpec, folder: Path, where: str) -> str:
    """What pins the text: the sha256 of its files, or the commit of a data set; of a blend all of them, by commas."""
    if spec.blend is not None:
        return ",".join(fingerprint(part, folder, f"{where}.blend[{i}]") for i, part in enumerate(spec.blend))
    if spec.file is not None:
        return sha256_of(find_files(spec.file, folder, where))
    return text_stream.newest_commit(spec, where)


def documents(
    spec: TextSpec,
    folder: Path,
    where: str,
    seed: int | None = None,
    commit: str | None = None,
    tally: Tally | None = None,
) -> Iterator[str]:
    """The texts of a slice; `seed` shuffles them, None keeps their order. `where` is the key for messages."""
    return (text for text, _ in labelled(spec, folder, where, seed, commit, tally))


def labelled(
    spec: TextSpec,
    folder: Path,
    where: str,
    seed: int | None = None,
    commit: str | None = None,
    tally: Tally | None = None,
) -> Iterator[tuple[str, str | None]]:
    """`documents`, each with its source: what its row tells in the column `source`, None without one."""
    tally = tally or Tally()
    if spec.blend is not None:
        yield from _blended(spec.blend, folder, where, seed, commit, tally)
        return
    hub = spec.dataset is not None
    rows = text_stream.rows(spec, where, seed, commit) if hub else _chosen(spec, folder, where, seed)
    for text, source in rows:
        if text is None:
            tally.without_text += 1
        else:
            yield (text if spec.noise is None else shuffle_lines(text, spec.noise, seed or 0)), source


def _blended(
    parts: Sequence[TextSpec], folder: Path, where: str, seed: int | None, commit: str | None, tally: Tally
) -> Iterator[tuple[str, str | None]]:
    """The documents of a blend: the next is always of the text that has given least bytes for its weight so far.

    It ends where the first of its texts does: past that the weights would not hold.
    """
    pins = commit.split(",") if commit else [None] * len(parts)
    streams = [
        labelled(part, folder, f"{where}.blend[{i}]", seed, pin, tally)
        for i, (part, pin) in enumerate(zip(parts, pins, strict=True))
    ]
    given = [0] * len(parts)
    while True:
        turn = min(range(len(parts)), key=lambda i: given[i] / (parts[i].weight or 1))
        document = next(streams[turn], None)
        if document is None:
            return
        given[turn] += len(document[0].encode("utf-8", "surrogatepass")) + 1
        yield document


def _chosen(spec: TextSpec, folder: Path, where: str, seed: int | None) -> Iterator[tuple[str | None, str | None]]:
    read = _read_local(spec, folder, where)
    places = range(len(read.texts))[spec.skip :][: spec.take]
    order = places if seed is None else np.random.default_rng(seed).permutation(places)
    yield from ((read.texts[i], read.sources[i] if read.sources else None) for i in order)


def _read_local(spec: TextSpec, folder: Path, where: str) -> Texts:
    files = tuple(find_files(str(spec.file), folder, where))
    return _read(files, spec.column, where, tuple(path.stat().st_mtime_ns for path in files))


@lru_cache(maxsize=2)  # a run reads its file for several purposes, and a packed corpus takes seconds
def _read(files: tuple[Path, ...], column: str, where: str, changed_ns: tuple[int, ...]) -> Texts:
    """`changed_ns` tells another state of the files from the one that is remembered."""
    return read_files(files, column, where)


def forget() -> None:
    """Let go of the texts that were read, once nobody will ask for them again: a corpus is large beside its blocks."""
    _read.cache_clear()


class Known:
    """Passes texts on and counts which of the `heldout` ones are among them, space around them apart."""

    def __init__(self, heldout: Iterable[str]):
        self._wanted = {text.strip() for text in heldout}
        self._found: set[str] = set()

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, looked at one by one."""
        for text in texts:
            if (stripped := text.strip()) in self._wanted:
                self._found.add(stripped)
            yield text

    @property
    def found(self) -> int:
        """Different held-out documents seen so far."""
        return len(self._found)


def check_apart(recipe: Recipe) -> int | None:
    """How many held-out documents stand in the training text too; None where one of the texts is not at hand.

    Raises P2Error where all of them do.
    """
    data, folder = recipe.data, recipe.folder
    if not (data.train.local and data.heldout.local):
        return None
    heldout = list(documents(data.heldout, folder, "data.heldout"))
    known = Known(heldout)
    deque(known.watch(documents(replace(data.train, noise=None), folder, "data.train")), maxlen=0)
    refuse_known(known.found, heldout, recipe)
    return known.found


def refuse_known(found: int, heldout: Iterable[str], recipe: Recipe) -> None:
    """Raise P2Error where the held-out documents `found` in the training text are all there are."""
    if found and found == len({text.strip() for text in heldout}):
        raise P2Error(
            f"data.heldout: every document of {recipe.data.heldout.label} stands in data.train "
            f"({recipe.data.train.label}) too, so nothing is held out; measure on other text."
        )


def shuffle_lines(text: str, share: float, seed: int) -> str:
    """The document with `share` of its lines in random order among themselves; the others stay where they are.

    Depends on the document and the seed alone, whatever stands around it.
    """
    lines = text.split("\n")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    draw = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    places = draw.choice(len(lines), round(share * len(lines)), replace=False)
    moved = {int(to): lines[at] for to, at in zip(places, draw.permutation(places), strict=True)}
    return "\n".join(moved.get(i, line) for i, line in enumerate(lines))


class Hashed:
    """Passes texts on and hashes them, each with its length: `sha256` is that of all that were taken so far."""

    def __init__(self, texts: Iterable[str]):
        self.texts = texts
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            content = text.encode()
            self._digest.update(len(content).to_bytes(8, "little"))
            self._digest.update(content)
            yield text

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def tokenize(texts: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    """Token ids of each document, its end marked by the end-of-text token, which no text in it can spell."""
    end = tokenizer.eos_token_id
    if end is None:
        raise P2Error(
            "model: its tokenizer has no end-of-text token, so documents cannot be told apart; set eos_token."
        )
    ends_itself = tokenizer("a")["input_ids"][-1:] == [end]
    texts = iter(texts)
    while batch := list(islice(texts, _TOGETHER)):
        encoded = tokenizer(batch, return_attention_mask=False, verbose=False, split_special_tokens=True)
        for ids in encoded["input_ids"]:
            yield ids if ends_itself else [*ids, end]
