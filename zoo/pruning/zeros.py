"""Which weights of a sparse model are zero: chosen by scores, read back from a pruned matrix, proved to be there."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from leaderboard.errors import RunFailed
from zoo.models.families import MODULES
from zoo.pruning.methods import TWO_OF_FOUR, Sparse


def keep_n_of_m(score: Tensor, n: int = 2, m: int = 4) -> Tensor:
    """Mask that keeps the `n` best of every `m` neighbours along the input axis.

    Shapes: score (out, in) -> bool mask (out, in); `in` must be a multiple of `m`.
    Ties keep the lower index, so the same scores give the same mask.
    """
    order = score.unflatten(-1, (-1, m)).argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(order, dtype=torch.bool)
    return keep.scatter_(-1, order[..., :n], True).flatten(-2)


def keep_pattern(score: Tensor, _zeros: int, n: int = 2, m: int = 4) -> Tensor:
    """Mask that keeps the `n` best of every `m`; the number of zeros follows."""
    return keep_n_of_m(score, n, m)


def keep_all_but(score: Tensor, zeros: int) -> Tensor:
    """Mask that drops the `zeros` worst along the last axis; of equals the higher index goes."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(order, dtype=torch.bool)
    return keep.scatter_(-1, order[..., : score.shape[-1] - zeros], True)


def is_n_of_m(weight: Tensor, n: int = 2, m: int = 4) -> bool:
    """Whether at most `n` of every `m` neighbouring inputs are other than exactly zero."""
    return bool(((weight != 0).unflatten(-1, (-1, m)).sum(-1) <= n).all())


def mask_pattern(weight: Tensor, n: int = 2, m: int = 4) -> Tensor:
    """The n:m mask of a pruned matrix, from its exact zeros.

    Where a group holds more zeros than m - n the lower indices count as kept, so each group keeps `n`.
    """
    return keep_n_of_m(weight != 0, n, m)


def nonzero(weight: Tensor) -> Tensor:
    """The mask of a matrix whose every zero is to stay."""
    return weight != 0


def has_zeros(weight: Tensor) -> bool:
    """Whether a matrix holds an exact zero."""
    return bool((weight == 0).any())


def sparse_linears(model: PreTrainedModel) -> Iterator[tuple[int, str, nn.Linear]]:
    """Every linear that is made sparse, as (layer, name inside the layer, module)."""
    modules = MODULES[model.config.model_type]
    for index in range(model.config.num_hidden_layers):
        for name in modules.linears:
            yield index, name, model.get_submodule(modules.layer(index, name))  # type: ignore[misc]


def check_zeros(model: PreTrainedModel, sparse: Sparse = TWO_OF_FOUR, zeros: int = 0) -> None:
    """Raise RunFailed unless the attention and MLP matrices of `model` hold the pattern, and so many zeros."""
    weights = {f"{layer}.{name}": linear.weight for layer, name, linear in sparse_linears(model)}
    require_zeros(weights, sparse)
    if (there := count_zeros(weights.values())) < zeros:
        raise RunFailed(f"{sparse.name}: {there:,} weights are zero, planned were {zeros:,}.")


def count_zeros(weights: Iterable[Tensor]) -> int:
    """Entries that are exactly 0."""
    return sum(weight.numel() - int(weight.count_nonzero()) for weight in weights)


def require_zeros(weights: Mapping[str, Tensor], sparse: Sparse) -> None:
    """Raise RunFailed unless every whole matrix, by name, holds the zeros of `sparse`."""
    lost = [name for name, weight in weights.items() if not sparse.holds(weight)]
    if lost:
        raise RunFailed(lost_words(lost, len(weights), sparse))


def lost_words(names: list[str], total: int, sparse: Sparse) -> str:
    """That these of `total` matrices do not hold the pattern."""
    return f"{sparse.name}: {len(names)} of {total} matrices lost the pattern (first: layer {names[0]})."
