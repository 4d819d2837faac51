"""A smaller model of the same class from a new config and a cut state dict.

The constructor runs again, so whatever it derives (layer indices, head groups, layer types) is what
`from_pretrained` will derive when the saved model is loaded.
"""

from copy import deepcopy

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from leaderboard.errors import RunFailed
from zoo.models.families import MODULES


def rebuild(model: PreTrainedModel, config: PreTrainedConfig, weights: dict[str, Tensor]) -> PreTrainedModel:
    """`model`'s class built from `config`, holding `weights` themselves (no copy).

    Raises RunFailed if weights and config disagree, or if tied embeddings do not come out tied.
    """
    modules = MODULES[config.model_type]
    with torch.device("meta"):
        pruned = type(model)(config)
    missing, unexpected = pruned.load_state_dict(weights, strict=False, assign=True)
    pruned.tie_weights()
    # its buffers are not in the state dict; they depend on head_dim and rope only, which pruning never changes
    parent, _, leaf = modules.rotary.rpartition(".")
    setattr(pruned.get_submodule(parent), leaf, model.get_submodule(modules.rotary))
    head, embedding = pruned.get_submodule(modules.head).weight, pruned.get_submodule(modules.embedding).weight
    if config.tie_word_embeddings:
        missing = [name for name in missing if name != f"{modules.head}.weight"]
        if head is not embedding:
            raise RunFailed("pruning: the output head is no longer tied to the embedding.")
    if missing or unexpected:
        raise RunFailed(f"pruning: the cut weights do not fit the new config: {missing=}, {unexpected=}.")
    pruned.generation_config = deepcopy(model.generation_config)
    return pruned.train(model.training)


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dict, a tied head left out: the embedding stands for both."""
    head = f"{MODULES[model.config.model_type].head}.weight"
    tied = model.config.tie_word_embeddings
    return {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == head)}
