"""A model that was pruned elsewhere: what went, found in its config and weights and checked against its base.

Every number comes from the files. A cut is one of its base where what stayed resembles it: layers by the cosine of
their matrices, a narrower model by that of its embedding's columns. Copies have 1, healed weights little less, those
of another base about 0. Weights are read one by one, so a large model needs no more memory than its largest matrix.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.errors import P2Error
from leaderboard.logs.methods import parts_of
from leaderboard.shapes import Shape
from zoo.models.families import MODULES, matrix_shapes
from zoo.pruning.methods import METHODS, Sparse, parts
from zoo.pruning.plan import Plan, plan_of
from zoo.pruning.spec import PruneSpec
from zoo.pruning.targets import zeros_in

if TYPE_CHECKING:
    from torch import Tensor

ALIKE = 0.5  # cosine from which weights are taken for those of the base
SAMPLE = 4_096  # entries of a matrix, or rows of the embedding, that are compared
FEW_ZEROS = 0.005  # share of the matrices that may be zero by chance
_WIDTHS = ("hidden", "ffn", "heads", "kv_heads")
_FIXED = ("model_type", "vocab", "head_dim", "tied", "qkv_bias", "o_bias", "mlp_bias")


@dataclass(frozen=True)
class Ready:
    """The plan that a ready model fulfils, and what went, JSON-ready: `layers`, `zeros`, and how alike the rest is."""

    plan: Plan
    removed: dict[str, Any]


def planned(shape: Shape, target: Shape, spec: PruneSpec, zeros: int | None = None) -> Plan | None:
    """The plan of a ready model by its config; None where only its weights tell the zeros.

    Raises P2Error where it is no model of this base, or its method is another than the one that was named.
    """
    check_shapes(shape, target, spec)
    sparse = parts(spec.method)[1]
    if zeros is None and sparse is not None:
        if not sparse.fixed:
            return None
        zeros = zeros_in(target, sparse.sparsity(target, spec))
    zeros = zeros or 0
    entries = target.layers * sum(rows * inputs for rows, inputs in matrix_shapes(target).values())
    return plan_of(shape, target, spec, zeros / entries, zeros)


def check_shapes(shape: Shape, target: Shape, spec: PruneSpec) -> None:
    """Raise P2Error where a config cannot be that of a model pruned from this shape by this method."""
    where = f"prune.from: {spec.from_}"
    for name in _FIXED:
        if getattr(shape, name) != getattr(target, name):
            raise P2Error(
                f"{where}: its {name} is {getattr(target, name)}, the base's {getattr(shape, name)}: it is no pruned "
                "model of this base; name the base it was made from as model.name."
            )
    if larger := [name for name in ("layers", *_WIDTHS) if getattr(target, name) > getattr(shape, name)]:
        name = larger[0]
        raise P2Error(
            f"{where}: its {name} is {getattr(target, name)}, more than the base's {getattr(shape, name)}: name the "
            "base it was made from as model.name."
        )
    named = parts_of(spec.method)
    if target == shape and parts(spec.method)[1] is None:
        raise P2Error(
            f"{where}: it has the shape of its base, so nothing was pruned by {spec.method}; name the cut model."
        )
    narrower = [name for name in _WIDTHS if getattr(target, name) < getattr(shape, name)]
    done = {
        "depth": target.layers < shape.layers and f"it has {target.layers} of {shape.layers} layers",
        "width": ", ".join(f"{n} {getattr(shape, n)} -> {getattr(target, n)}" for n in narrower),
    }
    for method, what in done.items():
        if what and method not in named:
            raise P2Error(f"{where}: {what}, which is {method}; got prune.method: {spec.method}. Name what was done.")
    if lacking := next((method for method, what in done.items() if method in named and not what), None):
        less = "has not fewer layers" if lacking == "depth" else "is not narrower"
        raise P2Error(f"{where}: it {less} than its base, so its method is not {spec.method}.")


def examine(base: Path, shape: Shape, cut: Path, target: Shape, spec: PruneSpec) -> Ready:
    """What the weights in folder `cut` are, checked against those in `base`. Raises P2Error for what they are not."""
    check_shapes(shape, target, spec)
    where = f"prune.from: {spec.from_}"
    ours, theirs = _Weights(base, target, where), _Weights(cut, target, where)
    theirs.check_names(ours, shape, target)
    zeros = _zeros(theirs, target, spec, where)
    removed: dict[str, Any] = {"from": spec.from_}
    if any(getattr(shape, name) != getattr(target, name) for name in _WIDTHS):
        removed["alike"] = _alike_columns(ours, theirs, target, where)
    else:
        removed["layers"], removed["alike"] = _layers(ours, theirs, shape, target, where)
    if zeros:
        removed["zeros"] = zeros
    plan = planned(shape, target, spec, zeros)
    assert plan is not None
    return Ready(plan, removed)


class _Weights:
    """The tensors of a model folder, one at a time."""

    def __init__(self, folder: Path, shape: Shape, where: str):
        try:
            from safetensors import safe_open
        except ModuleNotFoundError as error:
            raise P2Error(f"{where}: {error.name} is not installed; pip install 'p2zoo[train]'.") from error
        self.where, self.modules = where, MODULES[shape.model_type]
        self.files: dict[str, Any] = {}
        self.stored: dict[str, str] = {}  # what the file calls a tensor, by its name in the model
        for path in sorted(folder.glob("*.safetensors")):
            try:
                file = safe_open(path, "pt")
            except Exception as error:  # safetensors has its own, and OSError
                raise P2Error(f"{where}: {path.name} cannot be read: {error}; save the model again.") from error
            names = {self.modules.inside(name): name for name in file.keys()}  # noqa: SIM118
            self.stored |= names
            self.files |= dict.fromkeys(names, file)
        if not self.files:
            raise P2Error(f"{where}: has no *.safetensors weights; save the model there with save_pretrained.")

    def __getitem__(self, name: str) -> "Tensor":
        tensor: Tensor = self.files[name].get_tensor(self.stored[name]).float()
        if not bool(tensor.isfinite().all()):
            raise P2Error(f"{self.where}: {name} holds values that are no numbers (nan or inf); mend the model first.")
        return tensor

    def matrix(self, layer: int, name: str) -> "Tensor":
        return self[f"{self.modules.layer(layer, name)}.weight"]

    def check_names(self, base: "_Weights", shape: Shape, target: Shape) -> None:
        """Refuse other tensors than the base has in as many layers, and sizes other than the config says."""
        stem = f"{self.modules.layers}."
        head = f"{self.modules.head}.weight"
        gone = tuple(f"{stem}{layer}." for layer in range(target.layers, shape.layers))
        wanted = {name for name in base.files if not name.startswith(gone)} if gone else set(base.files)
        tied = {head} if target.tied else set()
        missing, extra = wanted - set(self.files) - tied, set(self.files) - wanted - tied
        if missing or extra:
            names = [f"lacks {name}" for name in sorted(missing)] + [f"also has {name}" for name in sorted(extra)]
            raise P2Error(f"{self.where}: its weights are not those of its config: it {', '.join(names[:3])}.")
        sizes = matrix_shapes(target)
        for layer in range(target.layers):
            for name, size in sizes.items():
                full = f"{self.modules.layer(layer, name)}.weight"
                got = tuple(self.files[full].get_slice(full).get_shape())
                if got != size:
                    raise P2Error(
                        f"{self.where}: layer {layer}'s {name} is {got[0]} x {got[1]}, its config says {size[0]} x "
                        f"{size[1]}. A config of this family has one size for all layers; make them equal."
                    )


def _zeros(weights: _Weights, target: Shape, spec: PruneSpec, where: str) -> int:
    """Zeros that a mask is to keep, 0 without a sparse part of the method. All weights are read, and are numbers."""
    sparse = parts(spec.method)[1]
    patterns = {row.name: True for row in METHODS.values() if isinstance(row, Sparse) and row.fixed}
    zeros = entries = 0
    lost = []
    matrices = {f"{layer}.{name}": (layer, name) for layer in range(target.layers) for name in matrix_shapes(target)}
    for label, (layer, name) in matrices.items():
        weight = weights.matrix(layer, name)
        zeros, entries = zeros + int((weight == 0).sum()), entries + weight.numel()
        for pattern in patterns:
            row = METHODS[pattern]
            assert isinstance(row, Sparse)
            patterns[pattern] = patterns[pattern] and bool(row.holds(weight))
        if sparse is not None and not sparse.holds(weight):
            lost.append(label)
    for name in weights.files:
        if not name.endswith(tuple(f"{matrix}.weight" for matrix in matrix_shapes(target))):
            weights[name]
    held = next((pattern for pattern, whole in patterns.items() if whole), None)
    _check_named(spec, held, zeros / entries, lost, len(matrices), where)
    if sparse is None:
        return 0
    return zeros_in(target, sparse.sparsity(target, spec)) if sparse.fixed else zeros


def _check_named(spec: PruneSpec, held: str | None, share: float, lost: list[str], total: int, where: str) -> None:
    """Zeros must be those of the method that was named, or training would fill them without a word."""
    sparse = parts(spec.method)[1]
    if sparse is not None and share == 0:
        raise P2Error(
            f"{where}: none of its weights is zero, so nothing was pruned by {sparse.name}; name the cut model."
        )
    zeros = f"{share:.1%} of its attention and MLP matrices are zero" + (f", in the pattern {held}" if held else "")
    if sparse is not None and lost:
        raise P2Error(
            f"{where}: {len(lost)} of {total} matrices are not {sparse.name} (first: layer {lost[0]}); {zeros}. Name "
            "the method that it was pruned by."
        )
    if (held and (sparse is None or sparse.name != held)) or (sparse is None and share > FEW_ZEROS):
        rest = [part for part in parts_of(spec.method) if not isinstance(METHODS.get(part), Sparse)]
        better = "+".join([*rest, held or "unstructured"])
        raise P2Error(f"{where}: {zeros}; training keeps them only where prune.method names them: {better!r}.")


def _layers(base: _Weights, cut: _Weights, shape: Shape, target: Shape, where: str) -> tuple[list[int], float]:
    """The base's layers that are gone, and the least cosine between a layer that stayed and its original."""
    import torch

    names = tuple(matrix_shapes(target))
    originals = torch.stack([_sample(base, layer, names) for layer in range(shape.layers)])
    stayed: list[int] = []
    least = 1.0
    for layer in range(target.layers):
        sample = _sample(cut, layer, names)
        masked = originals * (sample != 0)
        cosines = torch.cosine_similarity(masked, sample[None], dim=1)
        near = int(cosines.argmax())
        if cosines[near] < ALIKE or (stayed and near <= stayed[-1]):
            raise P2Error(
                f"{where}: its layer {layer} resembles layer {near} of the base most, with a cosine of "
                f"{float(cosines[near]):.2f}; layers that stayed come in order, with {ALIKE} or more. Name the base it "
                "was made from as model.name."
            )
        stayed.append(near)
        least = min(least, float(cosines[near]))
    return sorted(set(range(shape.layers)) - set(stayed)), round(least, 6)


def _sample(weights: _Weights, layer: int, names: tuple[str, ...]) -> "Tensor":
    """Evenly spaced entries of a layer's matrices, one after another."""
    import torch

    flat = (weights.matrix(layer, name).flatten() for name in names)
    return torch.cat([values[:: max(1, len(values) // SAMPLE)][:SAMPLE] for values in flat])


def _alike_columns(base: _Weights, cut: _Weights, target: Shape, where: str) -> float:
    """The median, over the embedding's columns, of the cosine with the base's column that is nearest."""
    import torch

    name = f"{base.modules.embedding}.weight"
    rows = slice(None, None, max(1, target.vocab // SAMPLE))
    columns = [torch.nn.functional.normalize(weights[name][rows], dim=0) for weights in (base, cut)]
    alike = float((columns[1].T @ columns[0]).abs().amax(dim=1).median())
    if alike < ALIKE:
        raise P2Error(
            f"{where}: its embedding does not resemble that of the base (median cosine {alike:.2f}, {ALIKE} or more is "
            "expected of channels that stayed). Name the base it was made from as model.name."
        )
    return round(alike, 6)
