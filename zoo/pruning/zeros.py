"""Which weights a sparse model must keep at zero, and whether they are: 2:4 groups, or any zeros (unstructured)."""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor
from transformers import PreTrainedModel

from leaderboard.errors import RunFailed
from zoo.pruning.sparsity import keep_n_of_m, sparse_linears
from zoo.pruning.spec import PATTERN


def is_2of4(weight: Tensor) -> bool:
    """Whether every four neighbouring inputs hold two exact zeros or more."""
    return bool(((weight == 0).unflatten(-1, (-1, 4)).sum(-1) >= 2).all())


def mask_of(weight: Tensor) -> Tensor:
    """The 2:4 mask of a pruned matrix, from its exact zeros.

    Where a group holds more than two zeros the lower indices count as kept, so the mask is always half.
    """
    return keep_n_of_m(weight != 0)


MASKS: dict[str, Callable[[Tensor], Tensor]] = {PATTERN: mask_of, "unstructured": lambda weight: weight != 0}


def check_zeros(model: PreTrainedModel, sparse: str = PATTERN, zeros: int = 0) -> None:
    """Raise RunFailed unless the attention and MLP matrices of `model` hold the pattern, and so many zeros."""
    weights = {f"{layer}.{name}": linear.weight for layer, name, linear in sparse_linears(model)}
    require_zeros(weights, sparse)
    if (found := count_zeros(weights.values())) < zeros:
        raise RunFailed(f"{sparse}: {found:,} weights are zero, planned were {zeros:,}.")


def count_zeros(weights: Iterable[Tensor]) -> int:
    """Entries that are exactly 0."""
    return sum(weight.numel() - int(weight.count_nonzero()) for weight in weights)


def require_zeros(weights: Mapping[str, Tensor], sparse: str) -> None:
    """Raise RunFailed unless every matrix, by name, holds the pattern of `sparse`."""
    holds = is_2of4 if sparse == PATTERN else lambda weight: bool((weight == 0).any())
    lost = [name for name, weight in weights.items() if not holds(weight)]
    if lost:
        raise RunFailed(lost_words(lost, len(weights), sparse))


def lost_words(names: list[str], total: int, sparse: str) -> str:
    """That these of `total` matrices do not hold the pattern."""
    return f"{sparse}: {len(names)} of {total} matrices lost the pattern (first: layer {names[0]})."
