"""What a base's config.json, generation_config.json and tokenizer files say beside its sizes, read before a run begins.

Sizes and weights are checked by leaderboard/shapes and weights.py. Here is what a model would be built wrongly from or
not at all: activation, dtype, rope, norms, token ids outside the vocabulary, another tokenizer. Neither PyTorch
nor transformers is asked, so a dry run refuses what the run would.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from leaderboard.shapes import Shape
from zoo.inputs.tokenizer import FILE, PIECE, SAMPLE, own_tokenizer
from zoo.inputs.weights import DTYPES

# Names that transformers knows, and what a rope of a type needs beside its theta.
ACTIVATIONS = {
    *("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "gelu_10", "quick_gelu"),
    *("relu", "relu2", "relu6", "leaky_relu", "mish", "linear", "sigmoid", "tanh", "laplace", "xielu", "prelu"),
}
ROPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "proportional": (),
}
_LISTS = ("short_factor", "long_factor")
_THETA = 1e12  # more than any model has
_ATTENTION = ("full_attention", "sliding_attention")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_config(config: Mapping[str, Any], shape: Shape, where: str) -> None:
    """Refuse values that the model cannot be built from, or would be built otherwise than its base was."""
    where = f"{where}: config.json"
    for key in _VALUES.keys() & config.keys():
        (fits, allowed), value = _VALUES[key], config[key]
        if not (fits(value) or (value is None and key in _MAY_BE_NULL)):
            raise P2Error(f"{where}: {key} is {value!r:.60}, allowed is {allowed}.")
    kinds = config.get("layer_types")
    if kinds is not None and len(kinds) != shape.layers:
        raise P2Error(f"{where}: layer_types has {len(kinds)} entries, num_hidden_layers is {shape.layers}.")
    names = config.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise P2Error(f"{where}: architectures is {names!r:.60}, allowed is a list of names of classes.")
    for key in ("rope_parameters", "rope_scaling"):
        _check_rope(config.get(key), f"{where}: {key}")
    _check_ids(config, shape.vocab, where)


def _check_rope(rope: Any, where: str) -> None:
    if rope is None:
        return
    if not isinstance(rope, dict):
        raise P2Error(f"{where} is {rope!r:.60}, allowed is an object, or null.")
    inside = [(name, one) for name, one in rope.items() if isinstance(one, dict)]
    if inside and len(inside) == len(rope):  # one for each kind of attention
        for name, one in inside:
            _check_rope(one, f"{where}.{name}")
        return
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPES:
        raise P2Error(f"{where}: rope_type is {kind!r:.60}, allowed are {', '.join(ROPES)}.")
    theta = rope.get("rope_theta")
    if theta is not None and not _theta(theta):
        raise P2Error(f"{where}: rope_theta is {theta!r:.60}, allowed is a number above 1.")
    for key in ROPES[kind]:
        value = rope.get(key)
        fits = isinstance(value, list) and all(map(_positive, value)) and value if key in _LISTS else _positive(value)
        if not fits:
            raise P2Error(f"{where}: {key} is {value!r:.60}; a rope of type {kind} needs it, a number above 0.")


def _check_ids(settings: Mapping[str, Any], vocab: int, where: str) -> None:
    for key in _IDS:
        value = settings.get(key)
        ids: Any = [] if value is None else [value]
        if isinstance(value, list) and key == "eos_token_id":
            ids = value
        for one in ids:
            least = -1 if key == "pad_token_id" else 0  # -1: of old checkpoints, none
            if type(one) is not int or not least <= one < vocab:
                raise P2Error(
                    f"{where}: {key} is {value!r:.60}, allowed is a token of the vocabulary, below {vocab:,}."
                )


def check_files(folder: Path, shape: Shape, where: str) -> None:
    """Refuse a generation_config.json or a tokenizer that is none, or that is of another vocabulary."""
    settings = _object(folder / "generation_config.json", where)
    if settings is not None:
        _check_ids(settings, shape.vocab, f"{where}: generation_config.json")
    if (folder / FILE).is_file():
        own = own_tokenizer(folder)
        if own.get_vocab_size(with_added_tokens=False) > shape.vocab:
            raise P2Error(
                f"{where}: its {FILE} has {own.get_vocab_size(with_added_tokens=False):,} tokens, the model "
                f"{shape.vocab:,} (vocab_size); they are not of one model."
            )
        _check_end(folder, own, where)


def _check_end(folder: Path, own: Any, where: str) -> None:
    """The end-of-text token is named, as PreTrainedTokenizerFast reads it, and the tokenizer has it."""
    named = None
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        told = (_object(folder / name, where) or {}).get("eos_token")
        named = named if told is None else told
    content = named.get("content") if isinstance(named, dict) else named
    if content is None:
        raise P2Error(
            f"{where}: its tokenizer has no end-of-text token, so documents cannot be told apart; set eos_token in "
            "tokenizer_config.json."
        )
    if not isinstance(content, str) or own.token_to_id(content) is None:
        raise P2Error(f"{where}: the end-of-text token of tokenizer_config.json, {content!r:.60}, is none of {FILE}.")


def check_sample(folder: Path, shape: Shape, texts: Iterable[str], where: str) -> None:
    """Refuse a tokenizer that gives tokens which the model lacks, on a sample of the text of the recipe."""
    if not (folder / FILE).is_file():
        return
    own = own_tokenizer(folder)
    found = own.encode_batch_fast([text[:PIECE] for text in islice(texts, SAMPLE)], add_special_tokens=False)
    most = max((max(one.ids, default=0) for one in found), default=0)
    if most >= shape.vocab:
        raise P2Error(
            f"{where}: its {FILE} gives token {most:,}, the model has {shape.vocab:,} (vocab_size); they are not of "
            "one model."
        )


def _object(path: Path, where: str) -> dict[str, Any] | None:
    """A JSON object in a file; None without the file."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise P2Error(f"{where}: its {path.name} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise P2Error(f"{where}: its {path.name} is no JSON object.")
    return data


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _theta(value: Any) -> bool:
    return _number(value) and 1 < value <= _THETA


def _size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**40


def _layer_types(value: Any) -> bool:
    return isinstance(value, list) and all(one in _ATTENTION for one in value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


_NAMES = tuple(row.name for row in DTYPES.values())
_A_FLAG = (_flag, "true or false")
_DTYPE = (lambda value: value in _NAMES, ", ".join(_NAMES))
_ACTIVATION = (lambda value: isinstance(value, str) and value in ACTIVATIONS, "one of transformers, such as silu")
_MAY_BE_NULL = {
    *("dtype", "torch_dtype", "sliding_window", "layer_types", "hidden_activation", "rope_theta", "pretraining_tp"),
    "partial_rotary_factor",
}
_Check = tuple[Callable[[Any], bool], str]
_VALUES: dict[str, _Check] = {
    "hidden_act": _ACTIVATION,
    "hidden_activation": _ACTIVATION,
    "dtype": _DTYPE,
    "torch_dtype": _DTYPE,
    "rope_theta": (_theta, "a number above 1"),
    "rms_norm_eps": (lambda value: isinstance(value, float) and 0 <= value < 0.1, "a small number, such as 1e-05"),
    "max_position_embeddings": (_size, "a whole number above 0"),
    "sliding_window": (_size, "a whole number above 0, or null"),
    "max_window_layers": (lambda value: type(value) is int and 0 <= value < 2**40, "a whole number"),
    "attention_dropout": (lambda value: _number(value) and 0 <= value < 1, "a share below 1"),
    "initializer_range": (lambda value: isinstance(value, float) and 0 <= value <= 1, "a number from 0.0 to 1.0"),
    "layer_types": (_layer_types, f"a list of {', '.join(_ATTENTION)}, one for each layer"),
    "use_sliding_window": _A_FLAG,
    "use_cache": _A_FLAG,
    "attention_bias": _A_FLAG,
    "mlp_bias": _A_FLAG,
    "auto_map": (lambda value: False, "none: remove it, code of a repository is never run"),
    "pretraining_tp": (lambda value: value == 1 and _size(value), "1"),
    "partial_rotary_factor": (lambda value: _number(value) and 0 < value <= 1, "a share"),
}
