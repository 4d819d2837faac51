"""Batches made ahead: while the device works on one step, a thread puts the next one together.

Blocks are read in order, so the next batch is known. On a GPU it is pinned, and copied without waiting.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from zoo.evaluation.next_token import as_inputs
from zoo.inputs.packing import Blocks


class Ahead:
    """A collator of `Blocks`: rows `[{"row": 3}, ...]` -> tensors of these blocks, the following rows in the making.

    Of `processes` that share a step each takes as many rows in turn.
    """

    def __init__(self, blocks: Blocks, processes: int = 1):
        self.blocks, self.processes = blocks, processes
        self.pool = ThreadPoolExecutor(1, "next batch")
        self.coming: tuple[list[int], Future[dict[str, Tensor]]] | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        wanted = [int(row["row"]) for row in rows]
        made, coming = self.coming or ([], None)
        batch = coming.result() if coming is not None and made == wanted else self._make(wanted)
        stride = len(wanted) * self.processes
        following = [row + stride for row in wanted if row + stride < len(self.blocks)]
        self.coming = (following, self.pool.submit(self._make, following)) if following else None
        return batch

    def close(self) -> None:
        """End the thread."""
        self.pool.shutdown(cancel_futures=True)

    def _make(self, rows: list[int]) -> dict[str, Tensor]:
        batch = as_inputs(self.blocks, rows)
        return {name: value.pin_memory() for name, value in batch.items()} if torch.cuda.is_available() else batch
