"""Tokens on disk as they are made: a tokenization that was stopped goes on after the last whole document.

    tokens.bin   the ids of all documents, int32
    ends.bin     where each document ends, in tokens, int64; written after its tokens

A document counts once its end stands there and its tokens do, so a process may be killed at any moment.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from zoo.files import disk
from zoo.inputs.packing import POOL_FILES
from zoo.inputs.text import tokenize

_TOGETHER = 64  # documents written at a time
_TOKENS, _ENDS = "tokens.bin", "ends.bin"


def spooled(texts: Iterable[str], tokenizer: Any, folder: Path) -> Iterator[Sequence[int]]:
    """Token ids of each document, those in `folder` first, which are not made again; the others are added to it."""
    texts = iter(texts)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        ends = _whole(folder)
    tokens = np.memmap(folder / _TOKENS, np.int32, mode="r") if len(ends) and ends[-1] else np.zeros(0, np.int32)
    for start, end in zip([0, *ends[:-1]], ends, strict=False):
        next(texts)
        yield tokens[start:end].tolist()
    at = int(ends[-1]) if len(ends) else 0
    made = tokenize(texts, tokenizer)
    with (folder / _TOKENS).open("ab") as ids_file, (folder / _ENDS).open("ab") as ends_file:
        while batch := list(islice(made, _TOGETHER)):
            places = at + np.cumsum([len(ids) for ids in batch])
            with disk(folder):
                ids_file.write(np.concatenate(batch).astype("<i4").tobytes())
                ids_file.flush()
                ends_file.write(places.astype("<i8").tobytes())
                ends_file.flush()
            at = int(places[-1])
            yield from batch


def _whole(folder: Path) -> np.ndarray:
    """The ends of the documents that are whole; what a kill left of others is cut off."""
    tokens, ends = folder / _TOKENS, folder / _ENDS
    for path in (tokens, ends):
        path.touch()
    known = np.frombuffer(ends.read_bytes()[: ends.stat().st_size // 8 * 8], "<i8")
    known = known[: int(np.searchsorted(known, tokens.stat().st_size // 4, side="right"))]
    for path, size in ((tokens, 4 * int(known[-1]) if len(known) else 0), (ends, 8 * len(known))):
        with path.open("r+b") as file:
            file.truncate(size)
    return known


def clear(folder: Path) -> None:
    """Remove what only the making of blocks needed."""
    for name in (_TOKENS, _ENDS, *POOL_FILES):
        (folder / name).unlink(missing_ok=True)
