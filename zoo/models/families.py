"""The model families: one row says all that pruning needs to know of an architecture.

A `Shape` is read from a config.json and counts parameters exactly, so plans and dry runs need no weights
and no torch. Tied embeddings count once; "non-embedding" leaves out the embedding and the output head.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error

CONFIGS = Path(__file__).parent / "configs"  # <org>--<name>.json: configs that need no download


@dataclass(frozen=True)
class Modules:
    """Where things are in the module tree; names below `layers` are inside one layer."""

    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    rotary: str = "model.rotary_emb"
    head: str = "lm_head"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    o: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")

    @property
    def linears(self) -> tuple[str, ...]:
        """The seven linear maps of a layer."""
        return (self.q, self.k, self.v, self.o, self.gate, self.up, self.down)

    def layer(self, index: int, name: str) -> str:
        """Full name of a module inside layer `index`."""
        return f"{self.layers}.{index}.{name}"


@dataclass(frozen=True)
class Family:
    """One architecture. A bias is a constant of the family or the config key that switches it."""

    name: str  # ours, as it stands in logs
    model_type: str  # the config's
    qkv_bias: bool | str
    o_bias: bool | str
    mlp_bias: bool | str
    heads_divide_hidden: bool = False  # the config class refuses a hidden size its heads do not divide
    modules: Modules = Modules()


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("llama-3", "llama", "attention_bias", "attention_bias", "mlp_bias", heads_divide_hidden=True),
        Family("qwen-2.5", "qwen2", True, False, False),
        Family("mistral", "mistral", False, False, False),
    )
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one decoder; `heads` are query heads, in `kv_heads` groups of equal size."""

    model_type: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def group(self) -> int:
        """Query heads that share one key-value head."""
        return self.heads // self.kv_heads


def family_of(config: Mapping[str, Any], where: str = "config.json") -> Family:
    """The family of a config; refuses unknown architectures, remote code and quantized weights."""
    if config.get("auto_map"):
        raise P2Error(
            f"{where}: the model needs remote code (auto_map), which p2zoo never runs; "
            f"use a checkpoint of a built-in architecture: {', '.join(sorted(FAMILIES))}."
        )
    if config.get("quantization_config"):
        raise P2Error(f"{where}: the weights are quantized; prune the unquantized checkpoint instead.")
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        known = ", ".join(f"{name} ({family.name})" for name, family in FAMILIES.items())
        near = difflib.get_close_matches(str(model_type), FAMILIES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise P2Error(
            f"{where}: unknown model_type {model_type!r}.{hint} p2zoo can prune {known}; another "
            "architecture is a row of zoo/models/families.py (CONTRIBUTING.md, Add a family)."
        )
    return FAMILIES[model_type]


def shape_of(config: Mapping[str, Any], where: str = "config.json") -> Shape:
    """The shape that a config.json (as a dict) describes."""
    family = family_of(config, where)
    hidden, heads = _size(config, "hidden_size", where), _size(config, "num_attention_heads", where)
    kv_heads = _size(config, "num_key_value_heads", where)
    if heads % kv_heads:
        raise P2Error(f"{where}: {heads} query heads cannot share {kv_heads} key-value heads evenly.")
    return Shape(
        model_type=family.model_type,
        layers=_size(config, "num_hidden_layers", where),
        hidden=hidden,
        ffn=_size(config, "intermediate_size", where),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=config.get("head_dim") or hidden // heads,
        vocab=_size(config, "vocab_size", where),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=_switch(family.qkv_bias, config),
        o_bias=_switch(family.o_bias, config),
        mlp_bias=_switch(family.mlp_bias, config),
    )


def _size(config: Mapping[str, Any], key: str, where: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise P2Error(f"{where}: {key} is {value!r}, allowed is a whole number of 1 or more.")
    return value


def _switch(bias: bool | str, config: Mapping[str, Any]) -> bool:
    return bool(config.get(bias, False)) if isinstance(bias, str) else bias


def layer_parameters(shape: Shape) -> int:
    """Parameters of one layer: attention, MLP, two norms and the biases of the family."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = shape.hidden * (2 * q + 2 * kv) + shape.qkv_bias * (q + 2 * kv) + shape.o_bias * shape.hidden
    mlp = 3 * shape.hidden * shape.ffn + shape.mlp_bias * (2 * shape.ffn + shape.hidden)
    return attention + mlp + 2 * shape.hidden


def parameters_nonembedding(shape: Shape) -> int:
    """All layers and the final norm; neither the embedding nor the output head."""
    return shape.layers * layer_parameters(shape) + shape.hidden


def parameters(shape: Shape) -> int:
    """All parameters, a tied embedding once."""
    return parameters_nonembedding(shape) + (1 if shape.tied else 2) * shape.vocab * shape.hidden


def bundled_config(model_id: str) -> dict[str, Any] | None:
    """The config.json that ships for a Hub id such as Qwen/Qwen2.5-0.5B, or None."""
    path = CONFIGS / f"{model_id.replace('/', '--')}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
