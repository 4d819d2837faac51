"""From a requested rate to the nearest shape a model can really take. Arithmetic only, no weights.

A rate is the share of all parameters removed or zeroed, 1 - n_pruned / n0. Depth takes whole layers;
width takes uniform hidden, FFN and head counts in hardware-friendly steps; 2:4 has the one rate that
follows from zeroing half of every attention and MLP matrix; unstructured zeroes the same number of weights
in every row of those matrices. For a+2:4 the request is a's, and the rate counts what both took.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from leaderboard.errors import P2Error
from leaderboard.shapes import Shape, parameters, parameters_nonembedding
from zoo.models.families import MODULES
from zoo.pruning.spec import PATTERN, PruneSpec

TOLERANCE = 0.03  # a rate further than this from the request is refused
SLACK = 0.005  # width: within this much of the nearest rate, the most even cut wins


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What pruning will leave: `target`, with `sparsity` of each row of its attention and MLP matrices zeroed.

    `n_pruned` counts parameters kept; the zeros of a mask are not counted.
    """

    spec: PruneSpec
    shape: Shape
    target: Shape
    n0: int
    n_pruned: int
    n0_nonembedding: int
    n_pruned_nonembedding: int
    sparsity: float = 0.0

    @property
    def zeros(self) -> int:
        """Weights that are masked."""
        return parameters(self.target) - self.n_pruned

    @property
    def rate(self) -> float:
        return 1 - self.n_pruned / self.n0

    @property
    def rate_nonembedding(self) -> float:
        return 1 - self.n_pruned_nonembedding / self.n0_nonembedding

    @property
    def summary(self) -> str:
        """One line for people, e.g. `depth: layers 12 -> 9; 4,312,192 -> 3,758,464 parameters (rate 0.128)`."""
        share = "half" if self.sparsity == 1 / 2 else f"{self.sparsity:.1%}"
        zeroed = f"{share} of every attention and MLP matrix zeroed" if self.sparsity else ""
        what = ", ".join(filter(None, (_difference(self.shape, self.target), zeroed))) or "nothing goes"
        counts = f"{self.n0:,} -> {self.n_pruned:,} parameters"
        return (
            f"{self.spec.method}: {what}; {counts} (rate {self.rate:.3f}, non-embedding {self.rate_nonembedding:.3f})"
        )


def plan(shape: Shape, spec: PruneSpec) -> Plan:
    """The plan whose rate is nearest to the one asked for.

    Raises P2Error when the nearest achievable rate is 0 or more than TOLERANCE away, and when the shape
    does not allow the method at all.
    """
    target, sparsity = shape, 0.0
    if spec.structured:
        assert spec.rate is not None
        candidates = list(_depth_shapes(shape) if spec.structured == "depth" else _width_shapes(shape, spec.axes))
        target = _nearest(shape, spec.rate, candidates)
    _check_calibration(target, spec)
    if spec.sparse == PATTERN:
        _check_fours(target)
        sparsity = 1 / 2
    elif spec.sparse:
        assert spec.rate is not None
        sparsity = _sparsity(shape, spec.rate)
    zeros = zeros_in(target, sparsity)
    return Plan(
        spec=spec,
        shape=shape,
        target=target,
        n0=parameters(shape),
        n_pruned=parameters(target) - zeros,
        n0_nonembedding=parameters_nonembedding(shape),
        n_pruned_nonembedding=parameters_nonembedding(target) - zeros,
        sparsity=sparsity,
    )


def _depth_shapes(shape: Shape) -> Iterator[Shape]:
    """One layer or more stays."""
    return (replace(shape, layers=n) for n in range(1, shape.layers + 1))


def _width_shapes(shape: Shape, axes: tuple[str, ...]) -> Iterator[Shape]:
    """Every uniform narrowing along `axes`, the full width included."""
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
            yield from (replace(shape, hidden=hidden, ffn=ffn, heads=heads) for ffn in ffns)


def step_of(hidden: int) -> int:
    """Granularity of hidden and FFN widths: what matrix kernels like at full size, finer for small models."""
    return 8 if hidden < 768 else 64 if hidden < 4096 else 128


def _steps(full: int, step: int) -> list[int]:
    """Multiples of `step` below `full`, then `full` itself."""
    return [*range(step, full, step), full]


def _nearest(shape: Shape, rate: float, candidates: list[Shape]) -> Shape:
    """The candidate nearest to `rate`; among those within SLACK of it, the one that cuts most evenly."""
    n0 = parameters(shape)
    rated = [(1 - parameters(c) / n0, c) for c in candidates]
    miss = min(abs(r - rate) for r, _ in rated)
    close = [(r, c) for r, c in rated if abs(r - rate) <= miss + SLACK and r > 0]
    if miss > TOLERANCE or not close:
        raise P2Error(_unreachable(shape, rate, rated))
    can_vary = [axis for axis in _AXIS_FIELDS if len({getattr(c, axis) for c in candidates}) > 1]
    return min(close, key=lambda rc: (_unevenness(shape, rc[1], can_vary), abs(rc[0] - rate), -rc[1].hidden))[1]


_AXIS_FIELDS = ("hidden", "ffn", "heads")


def _unevenness(shape: Shape, target: Shape, axes: list[str]) -> float:
    """Largest minus smallest share cut over `axes`; 0 when every axis loses the same share."""
    cuts = [1 - getattr(target, axis) / getattr(shape, axis) for axis in axes]
    return max(cuts) - min(cuts) if cuts else 0.0


def _unreachable(shape: Shape, rate: float, rated: list[tuple[float, Shape]]) -> str:
    """The refusal, naming the nearest achievable rates on either side of `rate`."""
    below = max((rc for rc in rated if 0 < rc[0] <= rate), key=lambda rc: rc[0], default=None)
    above = min((rc for rc in rated if rc[0] > rate), key=lambda rc: rc[0], default=None)
    named = [f"{r:.4f} ({_difference(shape, c)})" for r, c in filter(None, (below, above))]
    nearest = " and ".join(named) or "none: the model is too small to lose anything"
    return f"prune.rate: {rate} is out of reach of this model (within {TOLERANCE}); nearest achievable: {nearest}."


def _difference(shape: Shape, target: Shape) -> str:
    """E.g. `hidden 2048 -> 1792, heads 32 -> 24`; empty when nothing differs."""
    pairs = ((name, getattr(shape, name), getattr(target, name)) for name in ("layers", *_AXIS_FIELDS))
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)


def _check_calibration(shape: Shape, spec: PruneSpec) -> None:
    """SparseGPT fits the weights that stay to the calibration text; with fewer tokens than inputs it fits noise."""
    widest = max(inputs for _, inputs in matrix_shapes(shape).values())
    if spec.sparse and spec.sparse_criterion == "sparsegpt" and spec.calibration_tokens < 2 * widest:
        raise P2Error(
            f"prune.calibration_tokens: got {spec.calibration_tokens:,}, but sparsegpt needs {2 * widest:,} or more "
            f"here, two for each of the {widest:,} inputs of the widest matrix; ask for more, or use wanda."
        )


def _check_fours(shape: Shape) -> None:
    inputs = {"hidden size": shape.hidden, "heads x head_dim": shape.heads * shape.head_dim, "FFN size": shape.ffn}
    for name, size in inputs.items():
        if size % 4:
            raise P2Error(
                f"prune.method: 2:4 needs inputs in groups of four, but the {name} is {size}; prune by width."
            )


def _sparsity(shape: Shape, rate: float) -> float:
    """Share of every matrix row whose zeros make up `rate` of all parameters; the rest of the model stays dense."""
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


def matrix_shapes(shape: Shape) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the seven matrices of a layer, by the name of the module inside the layer."""
    names = MODULES[shape.model_type]
    q, kv, hidden, ffn = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.hidden, shape.ffn
    return {
        names.q: (q, hidden),
        names.k: (kv, hidden),
        names.v: (kv, hidden),
        names.o: (hidden, q),
        names.gate: (ffn, hidden),
        names.up: (ffn, hidden),
        names.down: (hidden, ffn),
    }
