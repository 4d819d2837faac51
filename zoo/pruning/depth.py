"""Depth pruning: whole layers go, those that change the residual stream least.

Block influence is mean 1 - cos between a layer's input and output (ShortGPT, arXiv:2403.03853). A
contiguous block is judged as one: 1 - cos between its first input and its last output (arXiv:2403.17887).
"""

from copy import deepcopy
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from leaderboard.shapes import ARCHITECTURES
from zoo.models.families import MODULES
from zoo.pruning.plan import Plan
from zoo.pruning.scores import Scores
from zoo.pruning.surgery import rebuild, weights_of


def cut(model: PreTrainedModel, plan: Plan, scores: Scores) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model without the layers that change the residual stream least, or that the spec names; and their numbers."""
    count = plan.shape.layers - plan.target.layers
    named = plan.spec.layers
    layers = layers_to_remove(scores["change"], count, plan.spec.contiguous) if named is None else sorted(named)
    return remove_layers(model, layers), {"layers": layers}


def layers_to_remove(change: Tensor, count: int, contiguous: bool = False) -> list[int]:
    """Indices of the `count` layers that matter least, ascending; of equals, the earlier goes.

    Shape: change (L+1, L+1), the distance of the residual stream between layer boundaries.
    """
    if contiguous:
        start = int(change.diagonal(count).argmin()) if count else 0
        return list(range(start, start + count))
    influence = change.diagonal(1)
    return sorted(influence.argsort(stable=True)[:count].tolist())


def remove_layers(model: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """The model without `layers`; the rest moves up and shares its tensors with `model`."""
    stem = MODULES[model.config.model_type].layers + "."
    kept = [i for i in range(model.config.num_hidden_layers) if i not in set(layers)]
    new_index = {str(old): str(new) for new, old in enumerate(kept)}
    weights = {}
    for name, tensor in weights_of(model).items():
        if not name.startswith(stem):
            weights[name] = tensor
            continue
        index, _, rest = name.removeprefix(stem).partition(".")
        if index in new_index:
            weights[f"{stem}{new_index[index]}.{rest}"] = tensor
    return rebuild(model, _config(model, kept), weights)


def _config(model: PreTrainedModel, kept: list[int]) -> PreTrainedConfig:
    config = deepcopy(model.config)
    config.num_hidden_layers = len(kept)
    for name in ARCHITECTURES[config.model_type].per_layer:
        setattr(config, name, [getattr(config, name)[i] for i in kept])
    if getattr(config, "max_window_layers", None) is not None:
        config.max_window_layers = min(config.max_window_layers, len(kept))
    return config
