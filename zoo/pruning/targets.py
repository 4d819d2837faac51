"""What a model can be pruned to: shapes with fewer layers or narrower ones, and shares of zeros. Arithmetic only.

A rate is the share of all parameters removed or zeroed. Depth takes whole layers; width takes uniform hidden, FFN and
head counts in hardware-friendly steps; 2:4 zeroes half of every attention and MLP matrix; unstructured zeroes the same
number of weights in every row of those matrices.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from leaderboard.errors import P2Error
from leaderboard.shapes import Shape, parameters
from zoo.models.families import matrix_shapes

if TYPE_CHECKING:
    from zoo.pruning.spec import PruneSpec

TOLERANCE = 0.03  # a rate further than this from the request is refused
FULL_SIZE = 768  # hidden size of models that are served; of smaller ones a few whole heads are too coarse a step


def depth_shapes(shape: Shape, _spec: "PruneSpec") -> Iterator[Shape]:
    """One layer or more stays."""
    return (replace(shape, layers=n) for n in range(1, shape.layers + 1))


def width_shapes(shape: Shape, spec: "PruneSpec") -> Iterator[Shape]:
    """Every uniform narrowing along the spec's axes, the full width included."""
    axes = spec.axes
    fill = shape.architecture.heads_fill_hidden and shape.heads * shape.head_dim == shape.hidden >= FULL_SIZE
    if fill and ("hidden" in axes) != ("heads" in axes):
        raise P2Error(
            f"prune.axes: of {shape.architecture.name} hidden and heads get narrower together: vLLM and llama.cpp "
            "take the size of a head as hidden size / heads; name both, or ffn alone."
        )
    if axes == ("heads",) and shape.group == 1:
        raise P2Error(
            f"prune.axes: heads cannot go: {shape.heads} query heads in {shape.kv_heads} key-value groups is one head "
            "a group; choose hidden or ffn."
        )
    hiddens = _steps(shape.hidden, step_of(shape.hidden)) if "hidden" in axes else [shape.hidden]
    ffns = _steps(shape.ffn, step_of(shape.hidden)) if "ffn" in axes else [shape.ffn]
    groups = range(1, shape.group + 1) if "heads" in axes else [shape.group]
    for heads in (shape.kv_heads * n for n in groups):
        for hidden in hiddens:
            if shape.architecture.heads_divide_hidden and hidden % heads:
                continue
            if fill and hidden != heads * shape.head_dim:
                continue
            yield from (replace(shape, hidden=hidden, ffn=ffn, heads=heads) for ffn in ffns)


def step_of(hidden: int) -> int:
    """Granularity of hidden and FFN widths: what matrix kernels like at full size, finer for small models."""
    return 8 if hidden < FULL_SIZE else 64 if hidden < 4096 else 128


def _steps(full: int, step: int) -> list[int]:
    """Multiples of `step` below `full`, then `full` itself."""
    return [*range(step, full, step), full]


def share_of_pattern(shape: Shape, _spec: "PruneSpec", n: int, m: int) -> float:
    """What is not `n` of `m`, where every matrix has its inputs in groups of `m`."""
    inputs = {"hidden size": shape.hidden, "heads x head_dim": shape.heads * shape.head_dim, "FFN size": shape.ffn}
    for name, size in inputs.items():
        if size % m:
            raise P2Error(
                f"prune.method: {n}:{m} needs inputs in groups of {m}, but the {name} is {size}; prune by width."
            )
    return 1 - n / m


def share_for_rate(shape: Shape, spec: "PruneSpec") -> float:
    """Share of every matrix row whose zeros make up `rate` of all parameters; the rest of the model stays dense."""
    rate = spec.rate
    assert rate is not None
    n0, matrices = parameters(shape), matrix_shapes(shape).values()
    most = shape.layers * sum(rows * inputs for rows, inputs in matrices) / n0
    share = rate / most
    if share >= 1 or abs(zeros_in(shape, share) / n0 - rate) > TOLERANCE:
        raise P2Error(
            f"prune.rate: {rate} is out of reach of this model by zeroing weights of its attention and MLP matrices: "
            f"they are {most:.4f} of all parameters, and each row keeps one weight or more; ask for less than that."
        )
    if not all(zeros_a_row(inputs, share) for _, inputs in matrices):
        raise P2Error(
            f"prune.rate: {rate} takes less than one weight of some matrix rows of this model; ask for more than "
            f"{most / min(inputs for _, inputs in matrices):.4f}."
        )
    return share


def zeros_in(shape: Shape, sparsity: float) -> int:
    """Weights that `sparsity` zeroes: embedding, head, norms and biases stay dense."""
    per_layer = sum(rows * zeros_a_row(inputs, sparsity) for rows, inputs in matrix_shapes(shape).values())
    return shape.layers * per_layer


def zeros_a_row(inputs: int, sparsity: float) -> int:
    """Zeros in each row of a matrix with so many inputs; in their sum over the matrix no criterion differs."""
    return min(round(sparsity * inputs), inputs - 1)
