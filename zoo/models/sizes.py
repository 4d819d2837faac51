"""Sizes of the small base models, and their configs: a size is one row, an architecture one row of ARCHITECTURES.

s1 to s3 are those of the seed's ladder (4.3 M, 12.9 M and 33.9 M parameters with a vocabulary of 16,384); s0 is a toy
for tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leaderboard.shapes import ARCHITECTURES

LETTERS = 257  # the least vocabulary: every byte, and the end of a text
CONTEXT = 512  # positions; the ladder's sequence length


@dataclass(frozen=True)
class Size:
    """The sizes of a decoder with tied embeddings."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int


SIZES = {
    "s0": Size(64, 6, 4, 2, 16, 176),
    "s1": Size(128, 12, 4, 2, 32, 352),
    "s2": Size(256, 12, 8, 4, 32, 688),
    "s3": Size(448, 12, 8, 4, 56, 1200),
}


# What the config of an architecture has beside, or instead. An MLP without a gate
# has as many parameters as one with.
OTHERS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "gemma3_text": lambda at: {
        "query_pre_attn_scalar": at.head_dim,
        "sliding_window": CONTEXT // 4,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    },
    "gpt_neox": lambda at: {
        "intermediate_size": at.ffn * 3 // 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
    },
}


def config(family: str, size: str, vocab_size: int, end: int = 0) -> dict[str, Any]:
    """config.json of a model of this family and size; `end` is the id of the end-of-text token."""
    row = next(row for row in ARCHITECTURES.values() if row.name == family)
    at = SIZES[size]
    others = OTHERS.get(row.model_type, lambda at: {})(at)
    return {
        "model_type": row.model_type,
        "hidden_size": at.hidden,
        "num_hidden_layers": at.layers,
        "num_attention_heads": at.heads,
        "num_key_value_heads": at.kv_heads,
        "head_dim": at.head_dim,
        "intermediate_size": at.ffn,
        "vocab_size": vocab_size,
        "tie_word_embeddings": True,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": row.rope_theta},
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    } | others
