"""2:4 sparsity: of every four neighbouring inputs of a weight matrix, two stay.

All attention and MLP matrices are pruned; embedding, output head, norms and biases stay dense. The
result is an ordinary dense checkpoint with zeros in it. Wanda's input norms are those of the dense model,
from the same single pass that serves all methods; the original prunes block by block on pruned inputs.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo.families import FAMILIES
from zoo.pruning.scores import Scores


def keep_n_of_m(score: Tensor, n: int = 2, m: int = 4) -> Tensor:
    """Mask that keeps the `n` best of every `m` neighbours along the input axis.

    Shapes: score (out, in) -> bool mask (out, in); `in` must be a multiple of `m`.
    Ties keep the lower index, so the same scores give the same mask.
    """
    order = score.unflatten(-1, (-1, m)).argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(order, dtype=torch.bool)
    return keep.scatter_(-1, order[..., :n], True).flatten(-2)


def magnitude(weight: Tensor, _input_norm: Tensor | None) -> Tensor:
    """|W|. Shapes: weight (out, in) -> score (out, in)."""
    return weight.abs()


def wanda(weight: Tensor, input_norm: Tensor | None) -> Tensor:
    """|W| x L2 norm of the input feature (arXiv:2306.11695). Shapes: weight (out, in), input_norm (in,)."""
    if input_norm is None:
        raise ValueError("wanda needs the input norms")
    return weight.abs().float() * input_norm.to(weight.device)


CRITERIA: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {"wanda": wanda, "magnitude": magnitude}


def sparse_linears(model: PreTrainedModel) -> Iterator[tuple[int, str, nn.Linear]]:
    """Every linear that 2:4 prunes, as (layer, name inside the layer, module)."""
    modules = FAMILIES[model.config.model_type].modules
    for index in range(model.config.num_hidden_layers):
        for name in modules.linears:
            yield index, name, model.get_submodule(modules.layer(index, name))  # type: ignore[misc]


@torch.no_grad()
def zero_2of4(model: PreTrainedModel, criterion: str, scores: Scores | None = None) -> None:
    """Zero half of every attention and MLP matrix of `model`, in place."""
    modules = FAMILIES[model.config.model_type].modules
    source = {modules.q: "q", modules.k: "q", modules.v: "q", modules.o: "o"}
    source |= {modules.gate: "gate", modules.up: "gate", modules.down: "down"}
    for layer, name, linear in sparse_linears(model):
        norm = None if scores is None else scores[f"input.{source[name]}"][layer]
        linear.weight *= keep_n_of_m(CRITERIA[criterion](linear.weight, norm))
