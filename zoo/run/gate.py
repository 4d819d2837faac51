"""The load-back gate: a saved model must come back whole in a fresh process, or the run fails.

The process (fresh.py) loads the folder with vanilla AutoModelForCausalLM, offline and without remote code, and
reports facts; the parent compares them with the model it saved. Weights and buffers must be equal to the
last bit, and on a CPU so must logits: same kernels, same threads, weights aligned alike on both sides. Other
devices may choose another kernel in another process, so there one unit of the dtype at the largest logit is
allowed. Cached and uncached generation are compared in float32, where near-ties between two tokens are rare.
"""

import hashlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from leaderboard.errors import P2Error, RunFailed
from leaderboard.logs.methods import CONTROL
from zoo import fresh
from zoo.models.families import MODULES
from zoo.pruning.methods import parts
from zoo.pruning.zeros import count_zeros, lost_words, sparse_linears

GPU_ULPS = 1  # allowed difference of logits off the CPU, in units of the dtype's eps times the largest logit
PROMPT_TOKENS, NEW_TOKENS = 16, 6  # of the generation check; few, because uncached generation is slow


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What the fresh process saw; `zeros` entries of the attention and MLP matrices are 0."""

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    dtype: str
    parameters: int
    tied: bool
    tensors_sha256: str  # and buffers: rotary frequencies are not saved, but must come back the same
    cached_equals_uncached: bool
    zeros: int


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """A passed gate: how far the logits were apart, how far they might have been, and what was loaded."""

    logits_difference: float
    logits_tolerance: float
    loaded: Loaded


def gate(
    model: PreTrainedModel, folder: Path, probe_tokens: Tensor, method: str | None = None, zeros: int = 0
) -> GateReport:
    """Check that `folder` holds `model`, as saved by `save_pretrained` in the dtype `model` has.

    `probe_tokens` are token ids, (batch, sequence); `method` is the pruning method, a sparse part of it asks for its
    pattern; `zeros` is how many entries of the matrices must be 0. Raises RunFailed with every failed check; there is
    no warning.
    """
    expected = logits_of(model, probe_tokens)
    with tempfile.TemporaryDirectory(prefix="p2zoo-gate-") as work:
        save_file({"tokens": probe_tokens.to("cpu", torch.int64).contiguous()}, Path(work) / "probe.safetensors")
        loaded, logits = _in_fresh_process(Path(folder), Path(work), model.device)
    return judge(model, Path(folder), method, loaded, logits, expected, zeros)


def judge(
    model: PreTrainedModel,
    folder: Path,
    method: str | None,
    loaded: Loaded,
    logits: Tensor,
    expected: Tensor,
    zeros: int = 0,
) -> GateReport:
    """Compare what was loaded with what was saved; raises RunFailed that names every difference."""
    failed = [
        f"{kind} keys: {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
        for kind in ("missing", "unexpected", "mismatched")
        if (keys := getattr(loaded, kind))
    ]
    wanted = {
        "dtype": str(model.dtype),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tied": _tied(model),
        "tensors_sha256": _tensors_sha256(model),
        "cached_equals_uncached": True,
        "zeros": max(loaded.zeros, zeros),
    }
    failed += [f"{k}: loaded {got}, expected {v}" for k, v in wanted.items() if (got := getattr(loaded, k)) != v]
    failed += _lost_pattern(model, method)  # the weights loaded are those of `model`: their hashes were compared
    tolerance = _tolerance(model, expected)
    difference = (logits - expected).abs().max().item() if logits.shape == expected.shape else float("inf")
    if not difference <= tolerance:
        failed.append(f"logits: differ by {difference:.3g}, allowed {tolerance:.3g}")
    if failed:
        raise RunFailed(f"{folder}: the saved model does not load back: " + "; ".join(failed) + ".")
    return GateReport(logits_difference=difference, logits_tolerance=tolerance, loaded=loaded)


def _lost_pattern(model: PreTrainedModel, method: str | None) -> list[str]:
    """In words, that matrices do not hold the pattern of the method; empty where all do."""
    _, sparse = parts(method or CONTROL)
    weights = {f"{layer}.{name}": linear.weight for layer, name, linear in sparse_linears(model)} if sparse else {}
    lost = [name for name, weight in weights.items() if sparse and not sparse.holds(weight)]
    return [lost_words(lost, len(weights), sparse).rstrip(".")] if sparse and lost else []


def _tolerance(model: PreTrainedModel, expected: Tensor) -> float:
    """Largest allowed difference of logits; none on a CPU."""
    if model.device.type == "cpu":
        return 0.0
    return GPU_ULPS * torch.finfo(model.dtype).eps * expected.abs().max().item()


def _in_fresh_process(folder: Path, work: Path, device: torch.device) -> tuple[Loaded, Tensor]:
    words = [str(folder.resolve()), str(work), str(device), str(torch.get_num_threads())]
    done = fresh.run("zoo.run.gate:main", words)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunFailed(f"{folder}: the saved model does not load back: {last}")
    facts = json.loads((work / "facts.json").read_text(encoding="utf-8"))
    return Loaded(**facts), load_file(work / "logits.safetensors")["logits"]


@torch.no_grad()
def logits_of(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Logits in evaluation mode, (batch, sequence, vocabulary) float32 on the CPU.

    Weights mapped from a file may lie at any address; they are moved to memory of their own first, since CPU
    kernels chosen by alignment add up in another order.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    was_training = model.training
    model.eval()
    try:
        return model(tokens.to(model.device), use_cache=False).logits.float().cpu()
    finally:
        model.train(was_training)


def _tied(model: PreTrainedModel) -> bool:
    modules = MODULES[model.config.model_type]
    return model.get_submodule(modules.head).weight is model.get_submodule(modules.embedding).weight


def _tensors_sha256(model: PreTrainedModel) -> str:
    """Hash of every named parameter and buffer, bit by bit."""
    digest = hashlib.sha256()
    for name, weight in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_and_report(folder: Path, tokens: Tensor, device: str) -> tuple[Loaded, Tensor]:
    """What the fresh process does: load, note facts, compute logits (as `logits_of`)."""
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auto_map"):
        raise P2Error(f"{folder}: config.json names remote code (auto_map)")
    both: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    model, info = both
    model = model.to(device)
    logits = logits_of(model, tokens)
    loaded = Loaded(
        missing=_names(info, "missing_keys"),
        unexpected=_names(info, "unexpected_keys"),
        mismatched=_names(info, "mismatched_keys"),
        dtype=str(model.dtype),
        parameters=sum(p.numel() for p in model.parameters()),
        tied=_tied(model),
        tensors_sha256=_tensors_sha256(model),
        cached_equals_uncached=True,
        zeros=count_zeros(linear.weight for _, _, linear in sparse_linears(model)),
    )
    return replace(loaded, cached_equals_uncached=_cache_agrees(model.float(), tokens[:1])), logits


def _names(info: dict[str, Any], key: str) -> list[str]:
    return sorted(str(item[0] if isinstance(item, tuple) else item) for item in info[key])


def _cache_agrees(model: Any, prompt: Tensor) -> bool:
    """Whether greedy generation gives the same tokens with and without a key-value cache."""
    fixed = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "pad_token_id": 0}
    prompt = prompt[:, -PROMPT_TOKENS:].to(model.device)
    both = [
        model.generate(prompt, attention_mask=torch.ones_like(prompt), use_cache=cache, **fixed)
        for cache in (True, False)
    ]
    return torch.equal(*both)


def main() -> None:
    """What the fresh process does with FOLDER WORK DEVICE THREADS: answer the probe in WORK, without a network."""
    folder, work, device, threads = sys.argv[1:]
    constants.HF_HUB_OFFLINE = True  # read at every request
    torch.set_num_threads(int(threads))
    tokens = load_file(Path(work) / "probe.safetensors")["tokens"]
    loaded, logits = load_and_report(Path(folder), tokens, device)
    save_file({"logits": logits}, Path(work) / "logits.safetensors")
    (Path(work) / "facts.json").write_text(json.dumps(asdict(loaded)), encoding="utf-8")
