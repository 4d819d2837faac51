"""Adapters of low rank (peft) in place of all weights, and their merging into these, after which they are gone.

A sparse matrix W stays sparse: its adapter counts only where W has entries, W + M * (alpha / rank) B A with the mask M
of W's own entries, in training as in merging, so what is merged computes what was trained.
"""

import warnings
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from leaderboard.errors import P2Error
from zoo.models.families import check_targets
from zoo.pruning.methods import Sparse
from zoo.recipe.spec import LoraSpec

ADAPTER = "lora_"  # in the names of its parameters
_NAME = "default"  # peft's, of the only adapter


def adapted(model: PreTrainedModel, lora: LoraSpec, seed: int, sparse: Sparse | None = None) -> Any:
    """The model with adapters, which alone are trained; at first they change nothing. One seed, one start.

    `sparse` is the sparse part of the method, whose zeros the weights hold. P2Error where peft is not installed, or a
    target is not there.
    """
    try:
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import Linear
    except ImportError as error:
        raise P2Error("train.lora: needs the package peft; `pip install peft`, or the extra `train`.") from error
    targets = check_targets(lora.targets, model.config.model_type)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.scaled, target_modules=list(targets))  # type: ignore[arg-type]
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name of before
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    if sparse is not None:
        for module in [module for module in wrapped.modules() if isinstance(module, Linear)]:
            _keep_zeros(module, sparse.mask(cast(Any, module).get_base_layer().weight.detach()))
    return wrapped


def _keep_zeros(module: Any, mask: Tensor) -> None:
    """Let an adapter count only where the mask is true."""
    module.register_buffer("entries", mask, persistent=False)
    whole = module.get_delta_weight

    def delta(self: Any, adapter: str) -> Tensor:
        return whole(adapter) * self.entries

    def forward(self: Any, x: Tensor) -> Tensor:
        base = self.get_base_layer()
        if self.merged:
            return base(x)
        return functional.linear(x, base.weight + self.get_delta_weight(_NAME).to(base.weight.dtype), base.bias)

    module.get_delta_weight, module.forward = MethodType(delta, module), MethodType(forward, module)


def trainable(model: Any) -> int:
    """Parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merged(model: Any) -> PreTrainedModel:
    """The model as it came, the adapters added to its weights."""
    plain: PreTrainedModel = model.merge_and_unload()
    return plain.requires_grad_(True)
