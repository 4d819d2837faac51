"""The yardstick: a text that ships with p2zoo and that every run measures beside its own, in nats a byte.

yardstick.txt was written for p2zoo: stories, instructions, tables, and its own documentation and code (NOTICE). When it
was made it stood in no corpus. Bytes are the same for every tokenizer, so runs on all texts share one comparable
curve. Cost decides how much is read: WINDOWS pieces of WINDOW bytes, cut at ends of lines, evenly spread, each
on its own after a mark of beginning or end of text; and how often: after the first evaluation, then once tokens have
doubled, and at the end.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.distributed import Team
from zoo.evaluation.heldout import heldout_loss
from zoo.inputs.packing import PADDING, Blocks

TEXT = Path(__file__).with_name("yardstick.txt")
WINDOW = 512  # bytes
WINDOWS = 16


@dataclass(frozen=True)
class Yardstick:
    """What is measured: a block a window, their bytes, and the hash of the ids that the tokenizer makes of the text."""

    blocks: Blocks
    bytes: int
    tokenizer_sha256: str

    @staticmethod
    def of(tokenizer: Any) -> "Yardstick":
        """The yardstick in the tokens of a tokenizer, which has a mark of end of text."""
        mark = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        texts = measured_windows()
        rows = [[mark, *ids] for ids in _ids(tokenizer, texts)]
        whole = [token for ids in _ids(tokenizer, windows()) for token in ids]
        digest = hashlib.sha256(np.array(whole, "<i4").tobytes()).hexdigest()
        return Yardstick(_padded(rows), sum(len(text.encode()) for text in texts), digest)

    def loss(self, model: Any, team: Team | None = None) -> float | None:
        """Nats a byte; None where the model's loss is no number. Leaves the model as it was."""
        predicted = self.blocks.tokens - len(self.blocks)  # nothing predicts the marks
        loss = heldout_loss(model, self.blocks, team) * predicted / self.bytes
        return loss if math.isfinite(loss) else None


@cache
def windows() -> tuple[str, ...]:
    """The text in pieces of at most WINDOW bytes, cut at ends of lines; a longer line is a piece of its own."""
    pieces, size = [""], 0
    for line in TEXT.read_text(encoding="utf-8").splitlines(keepends=True):
        if size + len(line.encode()) > WINDOW:
            pieces.append("")
            size = 0
        pieces[-1] += line
        size += len(line.encode())
    return tuple(piece for piece in pieces if piece)


def measured_windows() -> list[str]:
    """The pieces that are measured."""
    every = windows()
    return [every[i] for i in np.linspace(0, len(every) - 1, WINDOWS).round().astype(int)]


def landmarks(steps: Iterable[int], tokens: np.ndarray) -> set[int]:
    """Of steps with evaluations those at which the yardstick is measured; `tokens[step]` are trained by then."""
    marks: list[int] = []
    for step in sorted(steps):
        if not marks or tokens[step] >= 2 * tokens[marks[-1]]:
            marks.append(step)
    return {*marks, len(tokens) - 1}


def _ids(tokenizer: Any, texts: Iterable[str]) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]


def _padded(rows: list[list[int]]) -> Blocks:
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest), np.int32)
    positions = np.full_like(ids, PADDING)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        positions[i, : len(row)] = np.arange(len(row))
    return Blocks(ids, positions, ids.size, ids.size)
