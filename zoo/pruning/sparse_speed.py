"""Whether 2:4 kernels pay for a model: each of its matrix shapes, dense against semi-structured, measured on this GPU.

A matrix is multiplied by M tokens at a time: few when decoding, thousands in prefill. Times are seconds a call, the
median of several samples; a ratio is dense time over sparse time, so above 1 the sparse kernel is faster. Weights
are random: the time does not depend on them. Nothing is measured where there is no GPU with 2:4 kernels.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from leaderboard.shapes import Shape
from zoo.models.families import matrix_shapes
from zoo.pruning.zeros import keep_n_of_m

USES = {1: "decode", 64: "decode, 64 at once", 2_048: "prefill", 16_384: "prefill, large batch"}  # by tokens at a time
CAPABILITY = (8, 0)  # Ampere: the first with sparse tensor cores
PAYS = 1.05  # a smaller gain is not worth a switch
WRONG = 0.02  # relative difference of results from which a kernel does not count as working
_SAMPLES, _SAMPLE_S = 5, 0.005


@dataclass(frozen=True)
class Matrix:
    """A weight shape (outputs, inputs), the modules of a layer that have it, and how many the whole model holds."""

    names: tuple[str, ...]
    outputs: int
    inputs: int
    count: int


@dataclass(frozen=True)
class Timing:
    """One matrix on M tokens: seconds dense, seconds by backend, and why a backend has none."""

    matrix: Matrix
    tokens: int
    dense_s: float
    sparse_s: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def ratio(self, backend: str) -> float | None:
        """Dense time over sparse time; None where the backend refused."""
        return self.dense_s / self.sparse_s[backend] if backend in self.sparse_s else None

    @property
    def best(self) -> tuple[str, float] | None:
        """The fastest backend and its ratio."""
        ratios = [(name, self.dense_s / seconds) for name, seconds in self.sparse_s.items()]
        return max(ratios, key=lambda pair: pair[1], default=None)


def matrices(shape: Shape) -> list[Matrix]:
    """What 2:4 pruning makes sparse, one entry a shape."""
    names: dict[tuple[int, int], list[str]] = {}
    for name, size in matrix_shapes(shape).items():
        names.setdefault(size, []).append(name.rpartition(".")[2])
    return [Matrix(tuple(who), *size, count=shape.layers * len(who)) for size, who in names.items()]


def why_not() -> str | None:
    """Why nothing can be measured on this machine; None where it can."""
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA GPU here, and 2:4 kernels exist for GPUs only"
    if (capability := torch.cuda.get_device_capability()) < CAPABILITY:
        has, needs = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"{torch.cuda.get_device_name()} has compute capability {has}, and 2:4 kernels need {needs}"
    return None


def backends() -> dict[str, Callable[[Tensor], Tensor]]:
    """How PyTorch packs a 2:4 matrix, by the library whose kernel then multiplies it."""
    return {
        "cusparselt": torch.sparse.SparseSemiStructuredTensorCUSPARSELT.from_dense,
        "cutlass": torch.sparse.SparseSemiStructuredTensorCUTLASS.from_dense,
    }


@torch.no_grad()
def measure(shapes: Iterable[Matrix], tokens: Sequence[int] = tuple(USES)) -> list[Timing]:
    """Every matrix on every number of tokens, bf16 on the current GPU."""
    device, wait = torch.device("cuda"), torch.cuda.synchronize
    return [time_matrix(matrix, many, device, backends(), wait) for matrix in shapes for many in tokens]


def time_matrix(
    matrix: Matrix,
    tokens: int,
    device: torch.device,
    packers: dict[str, Callable[[Tensor], Tensor]],
    wait: Callable[[], None],
) -> Timing:
    """Dense and each backend on the same 2:4 weight and inputs; a backend that fails or errs is noted, not timed."""
    x = torch.randn(tokens, matrix.inputs, device=device, dtype=torch.bfloat16)
    weight = torch.randn(matrix.outputs, matrix.inputs, device=device, dtype=torch.bfloat16)
    weight = weight * keep_n_of_m(weight.abs())
    dense = linear(x, weight)
    timing = Timing(matrix, tokens, seconds(lambda: linear(x, weight), wait))
    for name, pack in packers.items():
        try:
            packed = pack(weight)
            error = float((linear(x, packed) - dense).norm() / dense.norm())
            if not error < WRONG:
                raise RuntimeError(f"wrong result, relative error {error:.2g}")
            timing.sparse_s[name] = seconds(lambda packed=packed: linear(x, packed), wait)  # type: ignore[misc]
        except (RuntimeError, NotImplementedError, AttributeError) as failure:
            timing.refused[name] = (str(failure).strip() or type(failure).__name__).splitlines()[0]
    return timing


def seconds(step: Callable[[], object], wait: Callable[[], None]) -> float:
    """Median seconds of one call of `step`; `wait` returns when the device is done."""

    def sample(calls: int) -> float:
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            step()
        wait()
        return (time.perf_counter() - start) / calls

    sample(2)
    calls = max(1, int(_SAMPLE_S / sample(1)))
    return statistics.median(sample(calls) for _ in range(_SAMPLES))


def advice(timings: Sequence[Timing]) -> list[str]:
    """What to switch on, a line for each number of tokens at a time; whole-model ratios count every matrix."""
    lines = []
    for tokens in sorted({timing.tokens for timing in timings}):
        here = [timing for timing in timings if timing.tokens == tokens]
        pays = [(t, t.best) for t in here if t.best and t.best[1] >= PAYS]
        what = f"{USES.get(tokens, 'other')} ({tokens:,} tokens at a time)"
        if not pays:
            lines.append(f"{what}: leave every matrix dense; no sparse kernel is {PAYS:g} times as fast.")
            continue
        dense = sum(t.dense_s * t.matrix.count for t in here)
        mixed = dense - sum(t.dense_s * t.matrix.count * (1 - 1 / best[1]) for t, best in pays if best)
        named = ", ".join(f"{' and '.join(t.matrix.names)} ({best[0]}, {best[1]:.2f} x)" for t, best in pays if best)
        lines.append(f"{what}: switch on {named}; all matrices together then run {dense / mixed:.2f} times as fast.")
    return lines


def as_dict(timings: Iterable[Timing]) -> list[dict[str, Any]]:
    """Timings for programs."""
    return [
        {
            "modules": list(t.matrix.names),
            "outputs": t.matrix.outputs,
            "inputs": t.matrix.inputs,
            "count": t.matrix.count,
            "tokens": t.tokens,
            "dense_s": t.dense_s,
            "sparse_s": t.sparse_s,
            "ratio": {name: t.ratio(name) for name in t.sparse_s},
            "refused": t.refused,
        }
        for t in timings
    ]
