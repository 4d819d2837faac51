"""Disk of a run, estimated from the shape alone: what its folder holds at the moment it holds most.

That is in the last save, or before training while the text is tokenized. The last save: two checkpoints (the new one
is whole before the old one goes), the pruned model, the packed training blocks, and room for the final model; bytes a
parameter: 2 x (weight + moments) + weight + weight. Tokenizing: ids of the documents, the blocks made of them, and
those that were drawn.
"""

import shutil
from pathlib import Path

from leaderboard.errors import RunFailed
from leaderboard.shapes import Shape, parameters
from zoo.estimate.memory import state_bytes
from zoo.inputs.packing import pool_tokens
from zoo.recipe.spec import TrainSpec

BLOCK_BYTES = 8  # a token: its id and its position, 4 bytes each
POOL_BYTES = 12  # a token while the text is tokenized: its id in its document, and in a block with its position


def disk_bytes(shape: Shape, train: TrainSpec) -> int:
    """Bytes that the folder of a run needs, for a pruned model of this shape."""
    value = 2 if train.precision == "bf16-master" else 4
    checkpoint = value + state_bytes(train)
    blocks = BLOCK_BYTES * train.planned_tokens
    saving = round(parameters(shape) * (2 * checkpoint + 2 * value)) + blocks
    return max(saving, blocks + POOL_BYTES * pool_tokens(train.planned_tokens))


def check_room(folder: Path, needed: int) -> None:
    """Raise RunFailed where the disk of `folder` has less than `needed` bytes; what a cut-off run left there counts."""
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + held < needed:
        raise RunFailed(
            f"{folder}: needs about {needed / 1e9:.1f} GB, {(free + held) / 1e9:.1f} GB are free; choose another --out."
        )
