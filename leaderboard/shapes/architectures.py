"""Architectures: one row says what a shape of it counts. Where its modules are says zoo/models/families.py."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    norm_bias: bool = False
    hidden_norms: int = 2  # norms over the hidden size in a layer
    head_norms: int = 0  # norms over one head in a layer, such as those of queries and keys
    wide_norms: bool = False  # one norm over all query heads together in a layer, and one over all key heads
    mlp_matrices: int = 3  # 3: gate, up and down; 2: no gate
    grouped: bool = True  # its config says how many key-value heads there are; else every query head has its own
    heads_divide_hidden: bool = False  # the config class refuses a hidden size its heads do not divide
    heads_fill_hidden: bool = False  # vLLM and llama.cpp take head_dim as hidden size / heads, whatever the config says
    rope_theta: float = 1_000_000.0  # of models made from scratch: zoo/models/sizes.py
    per_layer: tuple[str, ...] = ()  # config lists with an entry a layer
    defaults: Mapping[str, Any] = field(default_factory=dict)  # what its config class takes where a key is missing
    # where transformers 4 reads rope: its key, and the place of the same number in `rope_parameters`
    old_rope: Mapping[str, str] = field(default_factory=dict)
    logit_scale: str = ""  # config key of a number that logits are multiplied by
    logit_divisor: str = ""  # or divided by
    logit_cap: str = ""  # config key of c in c tanh(logits / c)
    without: Mapping[str, str] = field(default_factory=dict)  # pruning methods it does not allow, and why


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
        Architecture(
            "qwen-3",
            "qwen3",
            "attention_bias",
            "attention_bias",
            head_norms=2,
            per_layer=("layer_types",),
            defaults={"head_dim": 128},
        ),
        Architecture(
            "smollm-3",
            "smollm3",
            "attention_bias",
            "attention_bias",
            "mlp_bias",
            rope_theta=2_000_000.0,
            per_layer=("no_rope_layers", "layer_types"),
            defaults={"num_key_value_heads": 4, "tie_word_embeddings": True},
        ),
        Architecture(
            "olmo-2",
            "olmo2",
            "attention_bias",
            "attention_bias",
            wide_norms=True,
            heads_fill_hidden=True,
            rope_theta=500_000.0,
        ),
        Architecture(
            "gemma-3",
            "gemma3_text",
            "attention_bias",
            "attention_bias",
            hidden_norms=4,
            head_norms=2,
            heads_divide_hidden=True,
            per_layer=("layer_types",),
            defaults={"head_dim": 256, "num_key_value_heads": 4, "tie_word_embeddings": True},
            old_rope={
                "rope_theta": "full_attention.rope_theta",
                "rope_local_base_freq": "sliding_attention.rope_theta",
            },
            logit_cap="final_logit_softcapping",
        ),
        Architecture(
            "gpt-neox",
            "gpt_neox",
            "attention_bias",
            "attention_bias",
            mlp_bias=True,
            norm_bias=True,
            mlp_matrices=2,
            grouped=False,
            rope_theta=10_000.0,
            defaults={"attention_bias": True},
            old_rope={"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"},
            without={"width": "its attention is as wide as its hidden size, so neither can get narrower alone"},
        ),
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
