"""Width pruning: hidden channels, FFN channels and query heads, by Minitron activation scores (arXiv:2407.14679).

Widths are uniform over layers. One set of hidden channels goes everywhere, since layers share the
residual stream; FFN channels and heads are ranked layer by layer. Query heads go only inside their
key-value group, the same number in each, so keys and values stay whole.

RMSNorm averages over the channels that are left and is kept as it is, as in Minitron: the sliced model
is therefore not the full model with channels zeroed, but that one with its norm weights scaled by
sqrt(d'/d) and its eps by d'/d. Post-training takes up the difference.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from leaderboard.shapes import Shape, shape_of
from zoo.models.families import MODULES, Modules
from zoo.pruning.plan import Plan
from zoo.pruning.scores import Scores
from zoo.pruning.surgery import rebuild, weights_of

Cut = tuple[Tensor | None, Tensor | None]  # output rows and input columns that stay; None: all


@dataclass(frozen=True)
class Kept:
    """What stays, ascending: hidden (d',), ffn (L, f'), heads (L, h') in the numbering of the full model."""

    hidden: Tensor
    ffn: Tensor
    heads: Tensor


def cut(model: PreTrainedModel, plan: Plan, scores: Scores) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model with its best channels and heads, and the numbers of the others."""
    kept = choose(scores, plan.shape, plan.target)
    return slice_width(model, kept, plan.target), _gone(kept, plan.shape)


def _gone(kept: Kept, shape: Shape) -> dict[str, Any]:
    def rest(stays: Tensor, size: int) -> list[int]:
        return sorted(set(range(size)) - set(stays.tolist()))

    return {
        "hidden": rest(kept.hidden, shape.hidden),
        "ffn": [rest(row, shape.ffn) for row in kept.ffn],
        "heads": [rest(row, shape.heads) for row in kept.heads],
    }


def choose(scores: Scores, shape: Shape, target: Shape) -> Kept:
    """The best-scored channels and heads; of equals, the lower index stays."""
    grouped = scores["heads"].unflatten(-1, (shape.kv_heads, shape.group))  # (L, groups, heads of a group)
    in_group = _best(grouped, target.group)
    first = torch.arange(shape.kv_heads)[:, None] * shape.group
    return Kept(
        hidden=_best(scores["hidden"], target.hidden),
        ffn=_best(scores["ffn"], target.ffn),
        heads=(in_group + first).flatten(1),
    )


def _best(score: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest along the last axis, ascending."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    return order[..., :count].sort(dim=-1).values


def slice_width(model: PreTrainedModel, kept: Kept, target: Shape) -> PreTrainedModel:
    """The model cut to `target`; q rows and biases go with the o columns of the same head."""
    shape = shape_of(model.config.to_dict())
    modules = MODULES[shape.model_type]
    cuts: dict[str, Cut] = {
        modules.embedding: (None, kept.hidden),
        modules.head: (None, kept.hidden),
        modules.final_norm: (kept.hidden, None),
    }
    for layer in range(shape.layers):
        cuts |= _layer_cuts(modules, layer, kept, shape.head_dim)
    weights = {}
    for name, tensor in weights_of(model).items():
        rows, columns = cuts[name.rpartition(".")[0]]
        weights[name] = _cut(tensor, rows, columns)
    if modules.scaled_embedding:
        _keep_scale(weights, modules, shape, target)
    config = deepcopy(model.config)
    config.hidden_size, config.intermediate_size = target.hidden, target.ffn
    config.num_attention_heads, config.head_dim = target.heads, target.head_dim
    return rebuild(model, config, weights)


def _keep_scale(weights: dict[str, Tensor], modules: Modules, shape: Shape, target: Shape) -> None:
    """Where the embedding is multiplied by the root of the hidden size, that of its own channels stays what it was.

    A head tied to it is then too large by as much, which the final norm takes back; its factor is 1 + weight.
    """
    by = (shape.hidden / target.hidden) ** 0.5
    embedding, norm = f"{modules.embedding}.weight", f"{modules.final_norm}.weight"
    weights[embedding] = weights[embedding] * by
    if target.tied:
        weights[norm] = (1 + weights[norm]) / by - 1


def _layer_cuts(modules: Modules, layer: int, kept: Kept, head_dim: int) -> dict[str, Cut]:
    hidden, ffn = kept.hidden, kept.ffn[layer]
    head_rows = (kept.heads[layer][:, None] * head_dim + torch.arange(head_dim)).flatten()
    cuts: dict[str, Cut] = {
        modules.q: (head_rows, hidden),
        modules.k: (None, hidden),
        modules.v: (None, hidden),
        modules.o: (hidden, head_rows),
        modules.gate: (ffn, hidden),
        modules.up: (ffn, hidden),
        modules.down: (hidden, ffn),
        **dict.fromkeys(modules.norms, (hidden, None)),
        **dict.fromkeys(modules.whole, (None, None)),
        **dict(zip(modules.wide, ((head_rows, None), (None, None)), strict=False)),
    }
    return {modules.layer(layer, name): cut for name, cut in cuts.items()}


def _cut(tensor: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Rows of a matrix or entries of a vector (norm, bias), then columns of a matrix."""
    if rows is not None:
        tensor = tensor.index_select(0, rows.to(tensor.device))
    if columns is not None and tensor.ndim == 2:
        tensor = tensor.index_select(1, columns.to(tensor.device))
    return tensor.contiguous()
