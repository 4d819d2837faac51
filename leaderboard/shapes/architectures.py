"""Architectures: one row says what a shape of it counts. Where its modules are says zoo/models/families.py."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leaderboard.errors import P2Error


@dataclass(frozen=True)
class Architecture:
    """One architecture. A bias is a constant of the architecture or the config key that switches it."""

    name: str  # the family, as it stands in logs
    model_type: str  # the config's
    qkv_bias: bool | str = False
    o_bias: bool | str = False
    mlp_bias: bool | str = False
    hidden_norms: int = 2  # norms over the hidden size in a layer
    head_norms: int = 0  # norms over one head in a layer, such as those of queries and keys
    mlp_matrices: int = 3  # 3: gate, up and down; 2: no gate
    heads_divide_hidden: bool = False  # the config class refuses a hidden size its heads do not divide
    heads_fill_hidden: bool = False  # vLLM and llama.cpp take head_dim as hidden size / heads, whatever the config says
    rope_theta: float = 1_000_000.0  # of models made from scratch: zoo/models/sizes.py
    per_layer: tuple[str, ...] = ()  # config lists with an entry a layer


ARCHITECTURES: dict[str, Architecture] = {
    row.model_type: row
    for row in (
        Architecture(
            "llama-3",
            "llama",
            "attention_bias",
            "attention_bias",
            "mlp_bias",
            heads_divide_hidden=True,
            rope_theta=500_000.0,
        ),
        Architecture("qwen-2.5", "qwen2", qkv_bias=True, heads_fill_hidden=True, per_layer=("layer_types",)),
        Architecture("mistral", "mistral"),
    )
}


def architecture_of(config: Mapping[str, Any], where: str = "config.json") -> Architecture:
    """The architecture of a config; refuses unknown architectures, remote code and quantized weights."""
    if config.get("auto_map"):
        raise P2Error(
            f"{where}: the model needs remote code (auto_map), which p2zoo never runs; "
            f"use a checkpoint of a built-in architecture: {', '.join(sorted(ARCHITECTURES))}."
        )
    if config.get("quantization_config"):
        raise P2Error(f"{where}: the weights are quantized; prune the unquantized checkpoint instead.")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        known = ", ".join(f"{name} ({row.name})" for name, row in ARCHITECTURES.items())
        near = difflib.get_close_matches(str(model_type), ARCHITECTURES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise P2Error(
            f"{where}: unknown model_type {model_type!r}.{hint} p2zoo can prune {known}; another "
            "architecture is a row of leaderboard/shapes/architectures.py (CONTRIBUTING.md, Add a family)."
        )
    return ARCHITECTURES[model_type]
