"""Pruning methods, a row each. A structured one gives shapes and a cut; a sparse one a share of zeros and what stays.

What logs, cards and plots must know of a method is its twin in leaderboard/logs/methods.py. Functions that need PyTorch
are named, and imported when they are called: recipes are read and planned without it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from typing import TYPE_CHECKING, Any

from leaderboard.logs.methods import CONTROL, parts_of, takes_rate
from leaderboard.shapes import Shape
from zoo.pruning.targets import depth_shapes, share_for_rate, share_of_pattern, width_shapes

if TYPE_CHECKING:
    from zoo.pruning.spec import PruneSpec


@dataclass(frozen=True)
class Structured:
    """A method that makes the model smaller.

    `shapes(shape, spec)`: every shape that it can make of a model, the full one included. `cut(model, plan, scores)`:
    the model cut to `plan.target`, and what went, JSON-ready; `scores` are those of scores.py, none for an importance
    that needs no text.
    """

    name: str
    importances: tuple[str, ...]  # the first is the default
    shapes: Callable[[Shape, "PruneSpec"], Iterable[Shape]]
    cut: Callable[..., Any]
    without_text: tuple[str, ...] = ()  # importances that look at no text


@dataclass(frozen=True)
class Sparse:
    """A method that leaves zeros in the attention and MLP matrices, which a mask keeps through training.

    `sparsity(shape, spec)`: the share of every matrix row that is zeroed. `keep(score, zeros)`: which entries of
    (rows, n) scores stay, `zeros` a row going. `mask(weight)`: the mask that the zeros of a pruned matrix mean, and
    `holds(weight)`: whether they are there. `block`: columns that SparseGPT judges together. `fixed`: the share is that
    of a pattern, whatever the rate.
    """

    name: str
    importances: tuple[str, ...]
    sparsity: Callable[[Shape, "PruneSpec"], float]
    keep: Callable[..., Any]
    mask: Callable[..., Any]
    holds: Callable[..., Any]
    block: int = 128
    without_text: tuple[str, ...] = ("magnitude",)
    fixed: bool = False


def late(path: str, **fixed: int) -> Callable[..., Any]:
    """`module:function`, imported when it is called; `fixed` arguments go along."""
    module, _, name = path.partition(":")
    return lambda *values: getattr(import_module(module), name)(*values, **fixed)


def n_of_m(n: int, m: int) -> Sparse:
    """The method `n:m`: of every `m` neighbouring inputs `n` stay."""
    return Sparse(
        f"{n}:{m}",
        CRITERIA,
        partial(share_of_pattern, n=n, m=m),
        keep=late("zoo.pruning.zeros:keep_pattern", n=n, m=m),
        mask=late("zoo.pruning.zeros:mask_pattern", n=n, m=m),
        holds=late("zoo.pruning.zeros:is_n_of_m", n=n, m=m),
        block=m,
        fixed=True,
    )


CRITERIA = ("wanda", "sparsegpt", "magnitude")  # of every sparse method; sparsity.py has them
DEPTH = Structured("depth", ("block-influence",), depth_shapes, late("zoo.pruning.depth:cut"))
WIDTH = Structured("width", ("minitron",), width_shapes, late("zoo.pruning.width:cut"))
TWO_OF_FOUR = n_of_m(2, 4)
UNSTRUCTURED = Sparse(
    "unstructured",
    CRITERIA,
    share_for_rate,
    keep=late("zoo.pruning.zeros:keep_all_but"),
    mask=late("zoo.pruning.zeros:nonzero"),
    holds=late("zoo.pruning.zeros:has_zeros"),
)
METHODS: dict[str, Structured | Sparse] = {row.name: row for row in (DEPTH, WIDTH, TWO_OF_FOUR, UNSTRUCTURED)}


def parts(method: str) -> tuple[Structured | None, Sparse | None]:
    """The rows that `a+b` names: what makes the model smaller, and what leaves zeros; neither for a control."""
    rows = [METHODS[name] for name in parts_of(method) if name in METHODS]
    structured = next((row for row in rows if isinstance(row, Structured)), None)
    return structured, next((row for row in rows if isinstance(row, Sparse)), None)


def importances() -> dict[str, tuple[str, ...]]:
    """The importance scores of every method that a recipe can name, its default first.

    A sparse method that has only one rate may follow a structured one: a+b, the recipe's rate being a's.
    """
    alone = {row.name: row.importances for row in METHODS.values()}
    structured = [row for row in METHODS.values() if isinstance(row, Structured)]
    follow = [row for row in METHODS.values() if isinstance(row, Sparse) and not takes_rate(row.name)]
    both = {
        f"{a.name}+{b.name}": tuple(map("+".join, product(a.importances, b.importances)))
        for a, b in product(structured, follow)
    }
    return alone | both | {CONTROL: (CONTROL,)}
