"""What llama.cpp's converter and vLLM ask of a model folder, as rules that were read in their sources and not tried.

A rule is a row: for whom, what it asks, and where that stands. It answers True, False, or None where the files alone
do not tell. Names of files are those of the two repositories.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard.shapes import Shape, shape_of

GGUF, VLLM = "gguf", "vllm"
# Classes of the families that are pruned here, as both programs name them.
CLASSES = {
    *("LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"),
    *("Olmo2ForCausalLM", "Gemma3ForCausalLM", "GPTNeoXForCausalLM"),
}
SILU = {"llama", "qwen2", "mistral", "qwen3", "smollm3", "olmo2"}  # their code there knows no other activation
ROPES = {"default", "linear", "yarn", "llama3"}


@dataclass(frozen=True)
class Facts:
    """What a model folder says of itself."""

    config: Mapping[str, Any]
    shape: Shape
    tokenizer: Mapping[str, Any]  # tokenizer_config.json
    files: frozenset[str]

    @property
    def rope(self) -> Mapping[str, Any]:
        """Its rotary settings, in whichever spelling."""
        return self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}


@dataclass(frozen=True)
class Rule:
    """`asks` of whom in `programs`, by `source`."""

    programs: tuple[str, ...]
    asks: str
    holds: Callable[[Facts], bool | None]
    source: str


@dataclass(frozen=True)
class Finding:
    """What one question came to; `ok` is None where it is not decided."""

    what: str
    ok: bool | None
    said: str = ""


def facts(folder: Path) -> Facts:
    """Read them; the folder is one that base_model has accepted."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return Facts(config, shape_of(config), tokenizer, frozenset(file.name for file in folder.iterdir()))


def judge(folder: Path, program: str) -> list[Finding]:
    """Every rule of a program on a model folder."""
    found = facts(folder)
    return [Finding(rule.asks, rule.holds(found), rule.source) for rule in RULES if program in rule.programs]


def _class_known(found: Facts) -> bool:
    return any(name in CLASSES for name in found.config.get("architectures") or ())


def _heads_fill(found: Facts) -> bool:
    shape = found.shape
    return not shape.architecture.heads_fill_hidden or shape.heads * shape.head_dim == shape.hidden


def _theta_on_top(found: Facts) -> bool:
    parameters = found.config.get("rope_parameters") or {}
    return "rope_theta" not in parameters or found.config.get("rope_theta") == parameters["rope_theta"]


def _rope_known(found: Facts) -> bool:
    return str(found.rope.get("rope_type") or found.rope.get("type") or "default") in ROPES


def _activation(found: Facts) -> bool:
    known = found.config.get("hidden_act", "silu") == "silu"
    return known or found.shape.model_type not in SILU


def _plain(found: Facts) -> bool:
    return not any(found.config.get(key) for key in ("quantization_config", "sparsity_config", "compression_config"))


def _head_size(found: Facts) -> bool:
    return found.shape.head_dim % 8 == 0 and found.shape.head_dim <= 256


def _vocabulary(found: Facts) -> bool | None:
    if "tokenizer.model" in found.files:
        return True
    return None if "tokenizer.json" in found.files else False


def _tokenizer_class(found: Facts) -> bool | None:
    return None if found.tokenizer.get("tokenizer_class") == "TokenizersBackend" else True


BOTH = (GGUF, VLLM)
RULES = (
    Rule(
        BOTH,
        "config.json names a class that it knows (architectures)",
        _class_known,
        "convert_hf_to_gguf.py, ModelBase.register; vllm/model_executor/models/registry.py",
    ),
    Rule(
        BOTH,
        "heads x head_dim = hidden size, of a Qwen 2",
        _heads_fill,
        "src/llama-model.cpp, where attn_q of LLM_ARCH_QWEN2 is n_embd x n_embd; vllm/model_executor/models/qwen2.py, "
        "head_dim = hidden_size // total_num_heads",
    ),
    Rule(
        BOTH,
        "rope_theta stands in config.json itself, for releases that read it there",
        _theta_on_top,
        'convert_hf_to_gguf.py, find_hparam("rope_theta"); vllm/model_executor/models/qwen2.py, config.rope_theta',
    ),
    Rule(
        BOTH,
        f"rope is one of {', '.join(sorted(ROPES))}",
        _rope_known,
        "convert_hf_to_gguf.py, set_gguf_parameters; vllm/model_executor/layers/rotary_embedding, get_rope",
    ),
    Rule(
        BOTH,
        "the activation is silu, where the code knows no other",
        _activation,
        "src/models, LLM_FFN_SILU; vllm/model_executor/models/llama.py, 'Only silu is supported for now'",
    ),
    Rule(
        BOTH,
        "dense weights: neither quantization_config nor sparsity_config",
        _plain,
        "convert_hf_to_gguf.py, dequant_model; vllm/model_executor/layers/quantization/compressed_tensors",
    ),
    Rule(
        (GGUF,),
        "its converter knows the tokenizer: the hash of its splitting of text is in a list there",
        _vocabulary,
        "convert_hf_to_gguf.py, get_vocab_base_pre; the tokenizer is the base's, so what converts the base converts it",
    ),
    Rule(
        (VLLM,),
        "head_dim is a multiple of 8, at most 256",
        _head_size,
        "vllm/v1/attention/backends/flash_attn.py, supports_head_size",
    ),
    Rule(
        (VLLM,),
        "the tokenizer's class is one that transformers 4 knows too",
        _tokenizer_class,
        "vllm/transformers_utils/tokenizer.py takes AutoTokenizer of the transformers installed there",
    ),
)
