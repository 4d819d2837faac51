"""The shape of a decoder: read from its config.json, it counts parameters exactly, with no weights and no PyTorch.

Tied embeddings count once; "non-embedding" leaves out the embedding and the output head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leaderboard.errors import P2Error
from leaderboard.shapes.architectures import ARCHITECTURES, Architecture, architecture_of

MOST_SIZE = 100_000_000  # of a vocabulary, the largest number in a config
NO_LAYERS = ("architectures", "keys_to_ignore_at_inference", "pruned_heads")  # lists of a config about other things
MOST = {"num_hidden_layers": 10_000, "num_attention_heads": 100_000}


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
    def architecture(self) -> Architecture:
        """The row of its architecture."""
        return ARCHITECTURES[self.model_type]

    @property
    def group(self) -> int:
        """Query heads that share one key-value head."""
        return self.heads // self.kv_heads


def shape_of(config: Mapping[str, Any], where: str = "config.json") -> Shape:
    """The shape that a config.json (as a dict) describes."""
    row = architecture_of(config, where)
    config = {**row.defaults, **{key: value for key, value in config.items() if value is not None}}
    hidden, heads = _size(config, "hidden_size", where), _size(config, "num_attention_heads", where)
    kv_heads = _size(config, "num_key_value_heads", where) if row.grouped else heads
    if heads % kv_heads:
        raise P2Error(f"{where}: {heads} query heads cannot share {kv_heads} key-value heads evenly.")
    _check_heads(row, config, hidden, heads, where)
    _check_lists(row, config, where)
    return Shape(
        model_type=row.model_type,
        layers=_size(config, "num_hidden_layers", where),
        hidden=hidden,
        ffn=_size(config, "intermediate_size", where),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_size(config, "head_dim", where) if "head_dim" in config else hidden // heads,
        vocab=_size(config, "vocab_size", where),
        tied=_flag(config, "tie_word_embeddings", where),
        qkv_bias=_switch(row.qkv_bias, config, where),
        o_bias=_switch(row.o_bias, config, where),
        mlp_bias=_switch(row.mlp_bias, config, where),
    )


def _check_heads(row: Architecture, config: Mapping[str, Any], hidden: int, heads: int, where: str) -> None:
    if hidden % heads and (row.heads_divide_hidden or "head_dim" not in config):
        raise P2Error(
            f"{where}: num_attention_heads is {heads}, which does not divide hidden_size {hidden}; the model cannot be "
            "built from this config."
        )


def _check_lists(row: Architecture, config: Mapping[str, Any], where: str) -> None:
    layers = _size(config, "num_hidden_layers", where)
    for key in row.per_layer:
        entries = config.get(key)
        if entries is not None and (not isinstance(entries, list) or len(entries) != layers):
            raise P2Error(f"{where}: {key} is {entries!r:.60}, allowed is a list of {layers}, one for each layer.")
    for key, entries in config.items():
        known = key in row.per_layer or key in NO_LAYERS or key.endswith(("_id", "_ids"))
        if isinstance(entries, list) and len(entries) == layers > 1 and not known:
            raise P2Error(
                f"{where}: {key} is a list of {layers} entries, as many as there are layers, and p2zoo does not know "
                f"whether they go with the layers of {row.model_type}. If they do, name it in per_layer of its row in "
                "leaderboard/shapes/architectures.py; else remove it."
            )


def _flag(config: Mapping[str, Any], key: str, where: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise P2Error(f"{where}: {key} is {value!r:.60}, allowed is true or false.")
    return bool(value)


def _size(config: Mapping[str, Any], key: str, where: str) -> int:
    value = config.get(key)
    most = MOST.get(key, MOST_SIZE)
    if type(value) is not int or not 1 <= value <= most:
        raise P2Error(f"{where}: {key} is {value!r:.60}, allowed is a whole number from 1 to {most:,}.")
    return value


def _switch(bias: bool | str, config: Mapping[str, Any], where: str) -> bool:
    return _flag(config, bias, where) if isinstance(bias, str) else bias


def layer_parameters(shape: Shape) -> int:
    """Parameters of one layer: attention, MLP, norms and the biases of the row."""
    row = shape.architecture
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = shape.hidden * (2 * q + 2 * kv) + shape.qkv_bias * (q + 2 * kv) + shape.o_bias * shape.hidden
    mlp = row.mlp_matrices * shape.hidden * shape.ffn
    mlp += shape.mlp_bias * ((row.mlp_matrices - 1) * shape.ffn + shape.hidden)
    norms = row.hidden_norms * shape.hidden + row.head_norms * shape.head_dim + row.wide_norms * (q + kv)
    return attention + mlp + (1 + row.norm_bias) * norms


def parameters_nonembedding(shape: Shape) -> int:
    """All layers and the final norm; neither the embedding nor the output head."""
    return shape.layers * layer_parameters(shape) + (1 + shape.architecture.norm_bias) * shape.hidden


def parameters(shape: Shape) -> int:
    """All parameters, a tied embedding once."""
    return parameters_nonembedding(shape) + (1 if shape.tied else 2) * shape.vocab * shape.hidden
