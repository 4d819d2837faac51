"""A teacher's likeliest next tokens, made once for a text and kept on disk (what is there: zoo/inputs/teacher.py).

They are made a fixed number of blocks at a time, so that one that was stopped goes on with the same numbers.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leaderboard.logs.contract import canonical_json
from zoo.evaluation.next_token import as_inputs, bend_of, chunk_rows
from zoo.files import disk, write_atomic
from zoo.inputs.packing import Blocks
from zoo.inputs.teacher import ABOUT, COMPLETE, check_kept
from zoo.training.distill import KEPT, top_k

_PASS_TOKENS = 4_096  # in one forward pass of the teacher
_FILES = {"ids.bin": "<i4", "log_p.bin": "<f4", "rest.bin": "<f4"}


@dataclass(frozen=True)
class Kept:
    """What is kept of a teacher, mapped from disk: ids, log_p (blocks, seq_len - 1, k), rest (blocks, seq_len - 1)."""

    ids: np.ndarray
    log_p: np.ndarray
    rest: np.ndarray

    def inputs(self, rows: Any) -> dict[str, Tensor]:
        """Tensors for `next_token_kl`, of some blocks."""
        arrays = (self.ids[rows].astype(np.int64), np.array(self.log_p[rows]), np.array(self.rest[rows]))
        return {name: torch.from_numpy(array) for name, array in zip(KEPT, arrays, strict=True)}


def keep(
    load: Callable[[], Any], blocks: Blocks, about: Mapping[str, Any], folder: Path | None, cache: Path
) -> tuple[Kept, dict[str, Any]]:
    """What is kept of the teacher for these blocks, made where it is not there; and what that took, for run.json.

    `load` gives the teacher. `folder` None takes one below `cache` that is named by what is `about` it.
    Raises P2Error where the folder holds those of another teacher or text.
    """
    about = {**about, "tokens_sha256": blocks.sha256}
    where = folder or cache / "teacher" / hashlib.sha256(canonical_json(about)).hexdigest()[:16]
    check_kept(where, about)
    start, made = time.perf_counter(), not (where / COMPLETE).is_file()
    if made:
        _make(load(), blocks, about, where)
    shape = (len(blocks), blocks.ids.shape[1] - 1, about["top_k"])
    maps = [
        np.memmap(where / name, kind, mode="r", shape=shape[: 2 if name == "rest.bin" else 3])
        for name, kind in _FILES.items()
    ]
    size = sum((where / name).stat().st_size for name in _FILES)
    took = time.perf_counter() - start if made else 0.0
    return Kept(*maps), {"made": made, "s": round(took, 3), "tokens": blocks.tokens, "bytes": size}


def _make(teacher: Any, blocks: Blocks, about: Mapping[str, Any], folder: Path) -> None:
    places, k, heat = blocks.ids.shape[1] - 1, about["top_k"], about["temperature"]
    sizes = {"ids.bin": 4 * places * k, "log_p.bin": 4 * places * k, "rest.bin": 4 * places}
    together = max(1, _PASS_TOKENS // blocks.ids.shape[1])
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ABOUT, json.dumps(about, indent=1))
        for name in sizes:
            (folder / name).touch()
        done = min((folder / name).stat().st_size // size for name, size in sizes.items()) // together * together
        done = min(done, len(blocks))
        for name, size in sizes.items():
            os.truncate(folder / name, done * size)
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context((folder / name).open("ab")) for name in _FILES]
        for at in range(done, len(blocks), together):
            arrays = _told(teacher, blocks, slice(at, min(at + together, len(blocks))), k, heat, about["precision"])
            with disk(folder):
                for file, array, kind in zip(files, arrays, _FILES.values(), strict=True):
                    file.write(array.astype(kind).tobytes())
                    file.flush()
    write_atomic(folder / COMPLETE, json.dumps({"blocks": len(blocks)}))


@torch.no_grad()
def _told(teacher: Any, blocks: Blocks, rows: slice, k: int, heat: float, precision: str) -> tuple[np.ndarray, ...]:
    """ids, log_p and rest of some blocks, in the arithmetic of the training."""
    inputs = {name: value.to(teacher.device) for name, value in as_inputs(blocks, rows).items() if name != "labels"}
    autocast = precision == "fp32-master-bf16-autocast"
    with torch.autocast(teacher.device.type, torch.bfloat16, enabled=autocast):
        hidden = teacher.get_decoder()(use_cache=False, **inputs).last_hidden_state[:, :-1].flatten(0, 1)
        weight, bend = teacher.get_output_embeddings().weight, bend_of(teacher)
        weight = weight.to(torch.bfloat16) if autocast else weight
        size = max(1, chunk_rows(hidden, weight) // 2)
        parts = [
            top_k(bend.logits(hidden[start : start + size].to(weight.dtype) @ weight.T), k, heat)
            for start in range(0, len(hidden), size)
        ]
    return tuple(torch.cat([getattr(part, name) for part in parts]).cpu().numpy() for name in ("ids", "log_p", "rest"))
