"""From a requested rate to the nearest shape a model can really take. Arithmetic only, no weights.

A rate is the share of all parameters removed or zeroed, 1 - n_pruned / n0. What a method can reach is targets.py; here
the nearest is taken. For a+2:4 the request is a's, and the rate counts what both took.
"""

from dataclasses import dataclass, replace

from leaderboard.errors import P2Error
from leaderboard.logs.methods import parts_of, takes_rate
from leaderboard.shapes import Shape, parameters, parameters_nonembedding
from zoo.models.families import matrix_shapes
from zoo.pruning.spec import PruneSpec
from zoo.pruning.targets import TOLERANCE, zeros_in

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
    def rate_requested(self) -> float | None:
        """The rate as a log names it: the recipe's, or what follows from what it names; None without one."""
        if self.spec.rate is not None or not takes_rate(self.spec.method):
            return self.spec.rate
        return self.rate if self.target == self.shape else 1 - parameters(self.target) / self.n0

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
    _check_method(shape, spec)
    if spec.layers is not None:
        target = _without(shape, spec.layers)
    elif spec.structured:
        assert spec.rate is not None
        target = _nearest(shape, spec.rate, list(spec.structured.shapes(shape, spec)))
    _check_calibration(target, spec)
    if spec.sparse:
        sparsity = spec.sparse.sparsity(target, spec)
    return plan_of(shape, target, spec, sparsity, zeros_in(target, sparsity))


def _check_method(shape: Shape, spec: PruneSpec) -> None:
    """Refuse a method that the architecture does not allow."""
    row = shape.architecture
    for method in parts_of(spec.method):
        if method in row.without:
            raise P2Error(f"prune.method: {row.name} is not pruned by {method}: {row.without[method]}.")


def plan_of(shape: Shape, target: Shape, spec: PruneSpec, sparsity: float, zeros: int) -> Plan:
    """The plan that leads from a shape to another, with so many zeros in its matrices."""
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


def _without(shape: Shape, layers: tuple[int, ...]) -> Shape:
    """The shape without these layers."""
    if outside := [layer for layer in layers if layer >= shape.layers]:
        raise P2Error(
            f"prune.layers: names {', '.join(map(str, outside))}, allowed is 0 to {shape.layers - 1}: this model has "
            f"{shape.layers} layers."
        )
    if len(layers) == shape.layers:
        raise P2Error(f"prune.layers: names all {shape.layers} layers of this model; one or more must stay.")
    return replace(shape, layers=shape.layers - len(layers))


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
