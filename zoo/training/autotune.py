"""Finding out how a step is best carried out here: what fits, by trying, and what is fast, by timing.

Trying costs a forward and a backward pass a rung and happens on a GPU only. Timing attention and compile may take
TIMING_S and is done where the training is long enough to win it back; whether it is depends on the recipe
and the device alone, so a short run is the same run everywhere.
"""

import gc
import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

from leaderboard.errors import RunFailed
from zoo.training.execution import Execution

TIMING_S = 20.0
WON_BACK = 20  # times TIMING_S, that a training must last
MARGIN = 1.02  # what is not this much faster than the default is not chosen
_TURNS = 3  # timed passes a candidate; the first passes compile and are not counted

Try = Callable[[Execution], None]  # forward and backward of one micro-batch, gradients dropped


def first_that_fits(rungs: Sequence[Execution], attempt: Try, reserve: int, device: torch.device) -> Execution:
    """The first rung whose forward and backward fit beside `reserve` bytes of optimizer state still to come."""
    if device.type == "cpu":
        return rungs[0]
    for rung in rungs:
        if _fits(rung, attempt, reserve, device):
            return rung
    raise RunFailed(no_room(rungs[-1]))


def _fits(rung: Execution, attempt: Try, reserve: int, device: torch.device) -> bool:
    held = None
    try:
        held = torch.empty(reserve, dtype=torch.uint8, device=device)
        attempt(rung)
    except torch.OutOfMemoryError:
        return False
    finally:
        del held
        release()
    return True


def fastest(start: Execution, attempt: Try, device: torch.device, seconds: float = TIMING_S) -> Execution:
    """`start` with the attention and compile that ran fastest; what cannot run here is passed over."""
    end = time.perf_counter() + seconds
    best, best_s = start, _timed(start, attempt, device)
    limit = best_s / MARGIN
    for candidate in candidates(start, device):
        if time.perf_counter() > end:
            break
        took = _timed(candidate, attempt, device)
        if took < min(limit, best_s):
            best, best_s = candidate, took
    return best


def candidates(start: Execution, device: torch.device) -> list[Execution]:
    """What is worth timing beside `start`, the likeliest first."""
    if device.type == "cuda":
        attention = ["sdpa", "sdpa-cudnn", *(["flash_attention_2"] if is_flash_attn_2_available() else [])]
        compiled = [True, False] if importlib.util.find_spec("triton") else [False]
    else:
        attention, compiled = ["sdpa", "eager"], [False]  # a block takes 40 s and more to compile for a CPU
    executions = [replace(start, attention=name, compiled=on) for on in compiled for name in attention]
    return [execution for execution in executions if execution != start]


def pays(flops: float, peak: float) -> bool:
    """Whether a training of so many FLOPs at `peak` FLOP/s is long enough for timing the choices first."""
    return flops / peak >= WON_BACK * TIMING_S


def smaller(rungs: Sequence[Execution], now: Execution) -> Execution:
    """The next rung with less memory, the attention and compile of `now` kept. Raises RunFailed after the last."""
    plain = [replace(rung, attention=now.attention, compiled=now.compiled) for rung in rungs]
    below = plain[plain.index(now) + 1 :] if now in plain else [r for r in plain if r.micro_batch < now.micro_batch]
    if not below:
        raise RunFailed(no_room(now))
    return below[0]


def no_room(last: Execution) -> str:
    """What to say when nothing fits."""
    return (
        f"post-training: out of memory even with {last}. What was complete is kept, and --resume goes on from it; "
        "give the run more GPUs or a larger one, or start anew with train.optimizer: adamw-8bit and "
        "train.precision: bf16-master."
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed; on a CPU torch has no class of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release() -> None:
    """Give back what a failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _timed(execution: Execution, attempt: Try, device: torch.device) -> float:
    """Seconds a token of this execution, the best of some passes; infinite where it cannot run."""
    try:
        attempt(execution)
        took = []
        for _ in range(_TURNS):
            _wait(device)
            start = time.perf_counter()
            attempt(execution)
            _wait(device)
            took.append(time.perf_counter() - start)
        return min(took) / execution.micro_batch
    except Exception:  # a backend that is not there, refuses these shapes or runs out of memory: not a choice here
        release()
        return math.inf


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
