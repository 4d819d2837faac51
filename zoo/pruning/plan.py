"""From a requested rate to the nearest shape a model can really take. Arithmetic only, no weights.

A rate is the share of all parameters removed or zeroed, 1 - n_pruned / n0. Depth takes whole layers;
width takes uniform hidden, FFN and head counts in hardware-friendly steps; 2:4 has the one rate that
follows from zeroing half of every attention and MLP matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from leaderboard.errors import P2Error
from zoo.families import Shape, layer_parameters, parameters, parameters_nonembedding
from zoo.pruning.spec import PruneSpec

TOLERANCE = 0.03  # a rate further than this from the request is refused
SLACK = 0.005  # width: within this much of the nearest rate, the most even cut wins


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What pruning will leave. `n_pruned` counts parameters kept; zeros of a 2:4 mask are not counted."""

    spec: PruneSpec
    shape: Shape
    target: Shape
    n0: int
    n_pruned: int
    n0_nonembedding: int
    n_pruned_nonembedding: int

    @property
    def rate(self) -> float:
        return 1 - self.n_pruned / self.n0

    @property
    def rate_nonembedding(self) -> float:
        return 1 - self.n_pruned_nonembedding / self.n0_nonembedding

    @property
    def summary(self) -> str:
        """One line for people, e.g. `depth: layers 12 -> 9; 4,312,192 -> 3,758,464 parameters (rate 0.128)`."""
        what = _difference(self.shape, self.target) or "half of every attention and MLP matrix zeroed"
        counts = f"{self.n0:,} -> {self.n_pruned:,} parameters"
        return (
            f"{self.spec.method}: {what}; {counts} (rate {self.rate:.3f}, non-embedding {self.rate_nonembedding:.3f})"
        )


def plan(shape: Shape, spec: PruneSpec) -> Plan:
    """The plan whose rate is nearest to the one asked for.

    Raises P2Error when the nearest achievable rate is 0 or more than TOLERANCE away, and when the shape
    does not allow the method at all.
    """
    if spec.method == "2:4":
        return _sparse_plan(shape, spec)
    if spec.rate is None:
        raise P2Error(f"prune.rate: missing, and {spec.method} needs one.")
    candidates = list(_depth_shapes(shape) if spec.method == "depth" else _width_shapes(shape, spec.axes))
    target = _nearest(shape, spec.rate, candidates)
    return Plan(
        spec=spec,
        shape=shape,
        target=target,
        n0=parameters(shape),
        n_pruned=parameters(target),
        n0_nonembedding=parameters_nonembedding(shape),
        n_pruned_nonembedding=parameters_nonembedding(target),
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
            if shape.family.heads_divide_hidden and hidden % heads:
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


def _sparse_plan(shape: Shape, spec: PruneSpec) -> Plan:
    """Half of q, k, v, o, gate, up and down in every layer; embedding, head, norms and biases stay dense."""
    inputs = {"hidden size": shape.hidden, "heads x head_dim": shape.heads * shape.head_dim, "FFN size": shape.ffn}
    for name, size in inputs.items():
        if size % 4:
            raise P2Error(
                f"prune.method: 2:4 needs inputs in groups of four, but the {name} is {size}; prune by width."
            )
    n0, inner = parameters(shape), parameters_nonembedding(shape)
    zeros = shape.layers * _matrix_parameters(shape) // 2
    return Plan(
        spec=spec,
        shape=shape,
        target=shape,
        n0=n0,
        n_pruned=n0 - zeros,
        n0_nonembedding=inner,
        n_pruned_nonembedding=inner - zeros,
    )


def _matrix_parameters(shape: Shape) -> int:
    """Entries of the seven matrices of a layer: what is left of it without norms and biases."""
    return layer_parameters(replace(shape, qkv_bias=False, o_bias=False, mlp_bias=False)) - 2 * shape.hidden
