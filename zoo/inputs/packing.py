"""Token lists of documents -> blocks of one length, the unit of training and of held-out loss.

`wrapped` joins documents and cuts every `seq_len` tokens: nothing is padded, documents see each other.
`bfd_split` cuts long documents into pieces and fits the pieces into blocks, best fit decreasing: no
document sees another, the rest of a block is padding. Plain best fit, which drops what is longer than a
block, is not offered.
"""

import bisect
import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from leaderboard.logs.contract import BFD_SPLIT, WRAPPED
from zoo.files import disk

PADDING = -1  # in `positions`
POOL = 4_194_304  # a short training draws its blocks from this many tokens, so that no document fills a step
_WINDOW = 4_194_304  # tokens that bfd_split looks at together
POOL_FILES = ("pool-ids.bin", "pool-positions.bin")
_TOGETHER = 4_096  # blocks copied at a time

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Blocks:
    """Packed tokens: `ids` and `positions`, both (blocks, seq_len) int32.

    A position counts from the start of its piece of text; PADDING marks what is no token. Of `seen` tokens
    packing kept `packed`; the blocks here may be a selection of those.
    """

    ids: np.ndarray
    positions: np.ndarray
    seen: int
    packed: int

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens in each block, padding excluded."""
        return (self.positions != PADDING).sum(axis=1)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def kept(self) -> float:
        """Share of the text that packing kept."""
        return self.packed / self.seen

    @cached_property
    def sha256(self) -> str:
        """Hash of what is trained on: tokens and where each piece begins."""
        digest = hashlib.sha256(np.ascontiguousarray(self.ids, "<i4").data)
        digest.update(np.ascontiguousarray(self.positions, "<i4").data)
        return digest.hexdigest()

    @property
    def padding(self) -> float:
        """Share of the places in the blocks that hold no token."""
        return 1 - self.tokens / max(self.ids.size, 1)

    def draw(self, tokens: int, step: int, seed: int) -> "Blocks":
        """Blocks in random order, as many whole steps of `step` blocks as `tokens` tokens take; all if too few."""
        return self.select(self.drawn(np.arange(len(self)), tokens, step, seed))

    def drawn(self, rows: np.ndarray, tokens: int, step: int, seed: int | list[int]) -> np.ndarray:
        """Which of `rows`, in which order, a draw takes."""
        order = np.random.default_rng(seed).permutation(rows)
        enough = int(np.searchsorted(np.cumsum(self.lengths[order]), tokens)) + 1
        return order[: min(-(-enough // step), len(rows) // step) * step]

    def holding(self, tokens: int) -> int:
        """How many blocks, in their order, hold so many tokens; all if too few."""
        return min(int(np.searchsorted(np.cumsum(self.lengths), tokens)) + 1, len(self))

    def spread(self, blocks: int) -> "Blocks":
        """`blocks` of them, evenly spaced over the whole text."""
        rows = np.linspace(0, len(self) - 1, blocks).round().astype(int)
        return self.select(rows)

    def select(self, rows: np.ndarray | slice) -> "Blocks":
        """Some of the blocks."""
        return Blocks(self.ids[rows], self.positions[rows], self.seen, self.packed)


def pool_tokens(planned: int) -> int:
    """Tokens that are made of a text for a training on `planned`."""
    return max(planned, min(POOL, 8 * planned))


def pack(
    documents: Iterable[Sequence[int]],
    seq_len: int,
    packing: str,
    tokens: int,
    together: int | None = None,
    folder: Path | None = None,
) -> Blocks:
    """Blocks in the order of the text that hold at least `tokens` tokens; fewer if the text ends before.

    With `together`, a smaller number, the blocks begin with those that hold so many. With a `folder` the blocks stand
    in files there, and not in memory.
    """
    counter = _Counter(documents)
    have = blocks = 0
    with contextlib.ExitStack() as opened:
        if folder is not None:
            opened.enter_context(disk(folder))
            folder.mkdir(parents=True, exist_ok=True)
        files = [opened.enter_context((folder / name).open("wb") if folder else io.BytesIO()) for name in POOL_FILES]
        for pair in _PACKERS[packing](counter, seq_len, together or tokens):
            for file, array in zip(files, pair, strict=True):
                file.write(array.data)
            have, blocks = have + int((pair[1] != PADDING).sum()), blocks + 1
            if have >= tokens:
                break
        seen = have if have >= tokens else max(counter.seen, 1)
        if folder is None:
            arrays = [np.frombuffer(cast(io.BytesIO, file).getvalue(), np.int32) for file in files]
    if folder is not None and blocks:
        arrays = [np.memmap(folder / name, np.int32, mode="r") for name in POOL_FILES]
    ids, positions = (
        (array.reshape(blocks, seq_len) for array in arrays) if blocks else (np.zeros((0, seq_len), np.int32),) * 2
    )
    return Blocks(ids, positions, seen, have)


class _Counter:
    """Passes documents on and counts their tokens."""

    def __init__(self, documents: Iterable[Sequence[int]]):
        self.documents = documents
        self.seen = 0

    def __iter__(self) -> Iterator[Sequence[int]]:
        for document in self.documents:
            self.seen += len(document)
            yield document


def _wrapped(documents: Iterable[Sequence[int]], seq_len: int, tokens: int) -> Iterator[Pair]:
    positions = np.arange(seq_len, dtype=np.int32)
    waiting: list[int] = []
    for document in documents:
        waiting += document
        cut = len(waiting) - len(waiting) % seq_len
        for start in range(0, cut, seq_len):
            yield np.array(waiting[start : start + seq_len], np.int32), positions
        waiting = waiting[cut:]


def _bfd_split(documents: Iterable[Sequence[int]], seq_len: int, tokens: int) -> Iterator[Pair]:
    for window in _windows(documents, min(_WINDOW, tokens + tokens // 8)):
        pieces = [doc[start : start + seq_len] for doc in window for start in range(0, len(doc), seq_len)]
        bins = best_fit([len(piece) for piece in pieces], seq_len)
        yield from (_lay([pieces[i] for i in items], seq_len) for items in bins)


def best_fit(lengths: list[int], size: int) -> list[list[int]]:
    """Best fit decreasing: which items share a bin of `size`; no item is longer than a bin."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (space left, bin), sorted
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect.bisect_left(room, (lengths[item], -1))
        space, chosen = room.pop(at) if at < len(room) else (size, len(bins))
        if chosen == len(bins):
            bins.append([])
        bins[chosen].append(item)
        if space > lengths[item]:
            bisect.insort(room, (space - lengths[item], chosen))
    return bins


def _windows(documents: Iterable[Sequence[int]], size: int) -> Iterator[list[Sequence[int]]]:
    window: list[Sequence[int]] = []
    have = 0
    for document in documents:
        window.append(document)
        have += len(document)
        if have >= size:
            yield window
            window, have = [], 0
    if window:
        yield window


def _lay(pieces: Sequence[Sequence[int]], seq_len: int) -> Pair:
    ids = np.zeros(seq_len, np.int32)
    positions = np.full(seq_len, PADDING, np.int32)
    at = 0
    for piece in pieces:
        ids[at : at + len(piece)] = piece
        positions[at : at + len(piece)] = np.arange(len(piece))
        at += len(piece)
    return ids, positions


_PACKERS: dict[str, Callable[[Iterable[Sequence[int]], int, int], Iterator[Pair]]] = {
    WRAPPED: _wrapped,
    BFD_SPLIT: _bfd_split,
}


def save_blocks(blocks: Blocks, folder: Path, rows: np.ndarray | None = None) -> None:
    """Write blocks, or the `rows` of them, so that a long tokenization is done once.

    Complete when `blocks.json` is there.
    """
    rows = np.arange(len(blocks)) if rows is None else rows
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(rows), blocks.ids.shape[1])
        for name, array in (("ids", blocks.ids), ("positions", blocks.positions)):
            with (folder / f"{name}.npy").open("wb") as file:
                header = {"descr": "<i4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for at in range(0, len(rows), _TOGETHER):
                    file.write(np.ascontiguousarray(array[rows[at : at + _TOGETHER]], "<i4").data)
        mapped = Blocks(*_mapped(folder), blocks.seen, blocks.packed)
        about = {"seen": blocks.seen, "packed": blocks.packed, "sha256": mapped.sha256}
        (folder / "blocks.json").write_text(json.dumps(about))


def _mapped(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    ids, positions = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "positions"))
    return ids, positions


def load_blocks(folder: Path) -> Blocks | None:
    """What `save_blocks` wrote, mapped from disk; None if it is not all there."""
    try:
        about = json.loads((folder / "blocks.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    blocks = Blocks(*_mapped(folder), about["seen"], about["packed"])
    return blocks if blocks.sha256 == about["sha256"] else None
