"""A smaller model of the same class from a new config and a cut state dict.

The constructor runs again, so whatever it derives (layer indices, head groups, layer types) is what
`from_pretrained` will derive when the saved model is loaded.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import shape_of
from zoo.models.families import MODULES, Modules, tensors


def rebuild(model: PreTrainedModel, config: PreTrainedConfig, weights: dict[str, Tensor]) -> PreTrainedModel:
    """`model`'s class built from `config`, holding `weights` themselves (no copy).

    Raises RunFailed if weights and config disagree, or if tied embeddings do not come out tied.
    """
    modules = MODULES[config.model_type]
    with torch.device("meta"):
        pruned = type(model)(config)
    missing, unexpected = pruned.load_state_dict(weights, strict=False, assign=True)
    pruned.tie_weights()
    _derive_buffers(pruned, modules, config)
    head, embedding = pruned.get_submodule(modules.head).weight, pruned.get_submodule(modules.embedding).weight
    if config.tie_word_embeddings:
        missing = [name for name in missing if name != f"{modules.head}.weight"]
        if head is not embedding:
            raise RunFailed("pruning: the output head is no longer tied to the embedding.")
    if missing or unexpected:
        raise RunFailed(f"pruning: the cut weights do not fit the new config: {missing=}, {unexpected=}.")
    pruned.generation_config = deepcopy(model.generation_config)
    return pruned.train(model.training)


def _derive_buffers(model: PreTrainedModel, modules: Modules, config: PreTrainedConfig) -> None:
    """Buffers are not in the state dict: they are made anew from the config, as loading the saved model makes them."""
    for name in modules.derived:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, type(model.get_submodule(name))(config=config))
    if modules.scaled_embedding:
        embedding: Any = model.get_submodule(modules.embedding)
        embedding.embed_scale = torch.tensor(config.hidden_size**0.5)


def check_parts(model: PreTrainedModel) -> None:
    """Refuse by name what the row of the model's family does not know: pruning would lose it, or leave it at random.

    Raises P2Error that names parameters and buffers.
    """
    modules, shape = MODULES[model.config.model_type], shape_of(model.config.to_dict())
    known = {*tensors(shape), f"{modules.head}.weight"}
    if modules.scaled_embedding:
        known.add(f"{modules.embedding}.embed_scale")
    there = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    derived = tuple(f"{name}." for name in modules.derived)
    odd = [name for name in there if name not in known and not name.startswith(derived)]
    if odd:
        named = ", ".join(odd[:3]) + (", ..." if len(odd) > 3 else "")
        raise P2Error(
            f"prune: {type(model).__name__} has {named}, which the row of {model.config.model_type} in "
            f"zoo/models/families.py does not know; pruned, the model would lack it."
        )


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dict, a tied head left out: the embedding stands for both."""
    head = f"{MODULES[model.config.model_type].head}.weight"
    tied = model.config.tie_word_embeddings
    return {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == head)}
