"""How to prune, as data: method, rate, importance, calibration.

A rate is the share of ALL parameters that goes, tied ones counted once. Which rates a model can reach
is plan.py; a spec only refuses what no model could. A method a+b does a first, then b on what is left of
the model; its importance is written in the same way.
"""

import re
from dataclasses import dataclass

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.methods import CONTROL, is_known, takes_rate
from zoo.pruning.methods import METHODS, Sparse, Structured, importances, parts

AXES = ("hidden", "ffn", "heads")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
GIVEN = "given"  # the importance of layers that the recipe names


@dataclass(frozen=True, kw_only=True)
class PruneSpec:
    """How to prune one model.

    `rate` is None for 2:4, which always zeroes half of its matrices, and for none; for a+2:4 it is that of a alone.
    `layers` is for depth, in place of a rate: exactly these go, counted from 0. `from_` takes a model that was pruned
    elsewhere, a folder beside the recipe or a Hub id at `revision`, as it is: `method` and `importance` say how.
    `contiguous` is for depth: the layers that go form one block. `axes` is for width: what may get narrower.
    `seed` chooses the calibration text; the scores themselves draw nothing at random.
    """

    method: str
    rate: float | None = None  # share of all parameters removed, 0 < rate < 1
    importance: str | None = None  # None: the method's default
    layers: tuple[int, ...] | None = None
    from_: str | None = None
    revision: str | None = None
    contiguous: bool = False
    axes: tuple[str, ...] = AXES
    calibration_tokens: int = 16_384
    seed: int = 0

    def __post_init__(self) -> None:
        if self.from_ is not None:
            _check_ready(self)
            return
        if self.revision is not None:
            raise P2Error("prune.revision: is that of a model named by prune.from; remove it.")
        _check_method(self.method)
        _check_layers(self)
        _check_rate(self.method, self.rate, named=self.layers is not None)
        known = self.known_importances
        if self.importance is not None and self.importance not in known:
            raise unknown_name(f"importance for {self.method}", self.importance, known, "prune.importance")
        _check_contiguous(self.method, self.contiguous)
        _check_axes(self.method, self.axes)
        _check_count("calibration_tokens", self.calibration_tokens, 1)
        _check_count("seed", self.seed, 0)

    @property
    def criterion(self) -> str:
        """The importance score in force: the one asked for, or the method's default."""
        return self.importance or self.known_importances[0]

    @property
    def known_importances(self) -> tuple[str, ...]:
        """What may stand as `importance`, the default first; where the layers are given, nothing scores them."""
        known = importances()[self.method]
        if self.layers is None:
            return known
        return tuple(dict.fromkeys("+".join([GIVEN, *name.split("+")[1:]]) for name in known))

    @property
    def logged(self) -> str:
        """The criterion as a log names it, with what else decides what goes, so that another choice is another run."""
        few = [axis for axis in AXES if axis in self.axes] if set(self.axes) != set(AXES) else []
        if self.from_ is not None:
            return self.criterion
        structured, *sparse = self.criterion.split("+")
        names = ["contiguous"] if self.contiguous else [*few, *map(str, sorted(self.layers or ()))]
        return "+".join(["-".join([structured, *names]), *sparse])

    @property
    def structured(self) -> Structured | None:
        """The part that makes the model smaller, as a row of METHODS."""
        return parts(self.method)[0]

    @property
    def sparse(self) -> Sparse | None:
        """The part that leaves zeros, as a row of METHODS."""
        return parts(self.method)[1]

    @property
    def structured_criterion(self) -> str:
        """The importance score of the structured part."""
        return self.criterion.split("+")[0]

    @property
    def sparse_criterion(self) -> str:
        """The importance score of the sparse part."""
        return self.criterion.split("+")[-1]

    @property
    def needs_scores(self) -> bool:
        """Whether the structured part needs scores of the text."""
        if self.from_ is not None:
            return False
        return self.structured is not None and self.structured_criterion not in (GIVEN, *self.structured.without_text)

    @property
    def needs_calibration(self) -> bool:
        """Whether something needs a forward pass over text; magnitude looks at weights only."""
        if self.from_ is not None:
            return False
        return self.needs_scores or (self.sparse is not None and self.sparse_criterion not in self.sparse.without_text)


def _check_method(method: object) -> None:
    if method == 124 and type(method) is int:  # what YAML makes of an unquoted 2:4 (base 60)
        raise P2Error("prune.method: got the number 124, which is how YAML reads an unquoted 2:4; quote it: '2:4'.")
    if method not in tuple(importances()):
        raise unknown_name("pruning method", method, importances(), "prune.method")


def _check_ready(spec: PruneSpec) -> None:
    """What a recipe may say of a model that was pruned elsewhere."""
    if spec.method == CONTROL or not isinstance(spec.method, str) or not is_known(spec.method):
        names = ", ".join(METHODS)
        raise P2Error(
            f"prune.method: got {spec.method!r}; prune.from takes a pruned model, so name how it was pruned: {names}, "
            "or two joined by +."
        )
    for name, value, usual in (
        ("rate", spec.rate, None),
        ("layers", spec.layers, None),
        ("contiguous", spec.contiguous, False),
        ("axes", spec.axes, AXES),
    ):
        if value != usual:
            raise P2Error(f"prune.{name}: what went is found in the model that prune.from names; remove it.")
    if spec.importance is None or not _NAME.fullmatch(spec.importance):
        raise P2Error(
            f"prune.importance: got {spec.importance!r}; name what chose what went from the model that prune.from "
            "names, e.g. block-influence: up to 96 letters, digits and . _ + -."
        )
    if str(spec.from_).endswith((".yaml", ".yml")):
        raise P2Error(
            f"prune.from: got {spec.from_!r}, allowed is a model: a folder with config and weights, or a Hub id."
        )
    if spec.revision is not None and spec.from_ is not None and spec.from_.startswith((".", "/")):
        raise P2Error("prune.revision: a folder has none; remove it, or name a model on the Hub.")


def _check_layers(spec: PruneSpec) -> None:
    layers = spec.layers
    if layers is None:
        return
    if "depth" not in spec.method.split("+"):
        raise P2Error(f"prune.layers: is for depth, where whole layers go; {spec.method} takes none out: remove it.")
    if not isinstance(layers, tuple) or not layers or any(type(layer) is not int or layer < 0 for layer in layers):
        got = list(layers) if isinstance(layers, tuple) else layers
        raise P2Error(f"prune.layers: got {got!r}, allowed is a list of layers counted from 0, e.g. [8, 9, 10].")
    if twice := sorted({layer for layer in layers if layers.count(layer) > 1}):
        raise P2Error(f"prune.layers: names {', '.join(map(str, twice))} more than once; name each layer once.")
    if spec.rate is not None:
        raise P2Error(f"prune.rate: got {spec.rate!r}, but prune.layers says exactly what goes; remove one of the two.")
    if spec.contiguous:
        raise P2Error("prune.contiguous: is for a block that scores choose; prune.layers names the layers: remove it.")


def _check_rate(method: str, rate: object, named: bool = False) -> None:
    """`named`: what goes is named, and the rate follows from it."""
    if named:
        return
    if not takes_rate(method):
        why = "removes nothing" if method == CONTROL else "has only one rate, which follows from its pattern"
        if rate is not None:
            raise P2Error(f"prune.rate: got {rate!r}, but the method {method} {why}; remove it.")
        return
    if rate is None:
        instead = ", or name the layers: prune.layers" if "depth" in method.split("+") else ""
        raise P2Error(f"prune.rate: missing, and {method} needs one in (0, 1); 0.25 removes a quarter{instead}.")
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise P2Error(f"prune.rate: got {rate!r} ({type(rate).__name__}), allowed is a number in (0, 1), e.g. 0.25.")
    if not 0 < rate < 1:
        raise P2Error(f"prune.rate: got {rate}, allowed is a share in (0, 1); 0.25 removes a quarter.")


def _check_contiguous(method: str, contiguous: object) -> None:
    if type(contiguous) is not bool:
        raise P2Error(f"prune.contiguous: got {contiguous!r}, allowed are true and false.")
    if contiguous and "depth" not in method.split("+"):
        raise P2Error(f"prune.contiguous: is for depth, where one block of layers goes; {method} has none: remove it.")


def _check_axes(method: str, axes: object) -> None:
    if not isinstance(axes, tuple) or not axes:
        raise P2Error(f"prune.axes: got {axes!r}, allowed is a list of one or more of {', '.join(AXES)}.")
    for axis in axes:
        if axis not in AXES:
            raise unknown_name("axis", axis, AXES, "prune.axes")
    if len(set(axes)) < len(axes):
        raise P2Error(f"prune.axes: got {list(axes)}; name each axis once.")
    if "width" not in method.split("+") and set(axes) != set(AXES):
        raise P2Error(f"prune.axes: is for width; {method} has no axes to choose: remove it.")


def _check_count(name: str, value: object, low: int) -> None:
    if type(value) is not int or value < low:
        raise P2Error(f"prune.{name}: got {value!r}, allowed is a whole number of {low} or more.")
