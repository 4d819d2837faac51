"""The load-back gate: passes what was saved, and catches each way a saved model goes wrong.

The real fresh process runs once for each method; the tampered folders are judged by the same code in process.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import ARCHITECTURES, shape_of
from zoo import fresh
from zoo.inputs.base_model import cast_weights, load_model, save_model
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.spec import PruneSpec
from zoo.pruning.zeros import sparse_linears
from zoo.run.gate import Loaded, gate, judge, load_and_report, logits_of

SPECS = {
    "depth": ("qwen2", True, PruneSpec(method="depth", rate=0.42)),
    "width": ("llama", False, PruneSpec(method="width", rate=0.4)),
    "2:4": ("mistral", True, PruneSpec(method="2:4", importance="magnitude")),
}


@pytest.fixture
def saved(build, batches, tmp_path):
    def make(method="2:4"):
        model_type, tied, spec = SPECS[method]
        model = build(model_type, tied)
        pruned = prune(model, plan(shape_of(model.config.to_dict()), spec), batches).model
        pruned.save_pretrained(tmp_path / "model")
        return pruned, tmp_path / "model"

    return make


@pytest.mark.parametrize("method", SPECS)
def test_a_saved_model_passes_in_a_fresh_process(saved, batches, method):
    model, folder = saved(method)
    report = gate(model, folder, batches[0], method)
    assert report.logits_difference == report.logits_tolerance == 0
    assert (report.loaded.tied, report.loaded.cached_equals_uncached) == (SPECS[method][1], True)


@pytest.mark.slow
def test_the_gate_holds_where_no_server_starts(saved, batches, monkeypatch):
    monkeypatch.setenv(fresh.ADDRESS, "/nowhere/socket")
    model, folder = saved()
    assert gate(model, folder, batches[0], "2:4").logits_difference == 0


@pytest.mark.slow
def test_a_folder_that_cannot_be_loaded_fails(saved, batches):
    model, folder = saved()
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(RunFailed, match="does not load back"):
        gate(model, folder, batches[0], "2:4")


def test_zeros_that_were_planned_must_be_there(saved, batches):
    model, folder = saved()
    zeros = sum(linear.weight.numel() // 2 for _, _, linear in sparse_linears(model))
    assert _check(model, folder, batches[0], zeros=zeros).loaded.zeros == zeros
    with pytest.raises(RunFailed, match=rf"zeros: loaded {zeros}, expected {zeros + 1}"):
        _check(model, folder, batches[0], zeros=zeros + 1)


def _check(model, folder, tokens, method="2:4", zeros=0):
    """The gate without its process start."""
    loaded, logits = load_and_report(folder, tokens, "cpu")
    return judge(model, folder, method, loaded, logits, logits_of(model, tokens), zeros)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_family_passes_by_every_method_it_allows(build, batches, tmp_path, model_type):
    for method, (_, _, spec) in SPECS.items():
        if method in ARCHITECTURES[model_type].without:
            continue
        model = build(model_type, True)
        planned = plan(shape_of(model.config.to_dict()), spec)
        pruned = prune(model, planned, batches).model
        save_model(pruned, tmp_path / method)
        report = _check(pruned, tmp_path / method, batches[0], method, planned.zeros)
        assert report.logits_difference == report.logits_tolerance == 0


def _tamper(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


GATE = "model.layers.0.mlp.gate_proj.weight"


def test_the_untouched_folder_passes_in_process(saved, batches):
    assert _check(*saved(), batches[0]).loaded.missing == []


def test_a_missing_key_is_caught(saved, batches):
    model, folder = saved()
    _tamper(folder, lambda weights: weights.pop(GATE))
    with pytest.raises(RunFailed, match=f"missing keys: {GATE}"):
        _check(model, folder, batches[0])


def test_an_unexpected_key_is_caught(saved, batches):
    model, folder = saved()
    _tamper(folder, lambda weights: weights.update(mask=torch.ones(3)))
    with pytest.raises(RunFailed, match="unexpected keys: mask"):
        _check(model, folder, batches[0])


def test_a_broken_tie_is_caught(saved, batches):
    """The embedding and a head of its own on disk, in a config that says untied."""
    model, folder = saved()
    _tamper(folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(RunFailed, match="tied: loaded False, expected True"):
        _check(model, folder, batches[0])


def test_a_lost_pattern_is_caught(saved, batches):
    """Also when the model in memory lost it in the same way."""
    model, folder = saved()
    with torch.no_grad():
        model.model.layers[0].mlp.gate_proj.weight.add_(1)
    model.save_pretrained(folder)
    with pytest.raises(RunFailed, match="2:4: 1 of 14 matrices lost the pattern"):
        _check(model, folder, batches[0])
    _check(model, folder, batches[0], "depth")


def test_wrong_weights_are_caught(saved, batches):
    model, folder = saved()
    _tamper(folder, lambda weights: weights[GATE].mul_(1.5))
    with pytest.raises(RunFailed, match=r"tensors_sha256: .*logits: differ by"):
        _check(model, folder, batches[0])


def test_one_changed_bit_is_caught(saved, batches):
    model, folder = saved()

    def flip(weights):
        weights[GATE].view(torch.int32).flatten()[weights[GATE].flatten().nonzero()[0]] ^= 1

    _tamper(folder, flip)
    with pytest.raises(RunFailed, match="tensors_sha256"):
        _check(model, folder, batches[0])


def test_another_dtype_is_caught(saved, batches):
    model, folder = saved()
    with pytest.raises(RunFailed, match=r"dtype: loaded torch.float32, expected torch.bfloat16"):
        _check(model.bfloat16(), folder, batches[0])


def test_the_final_save_in_bf16_loads_back_to_equal_logits(quickstart, tmp_path):
    """The bundled model is bf16 on disk and trained in fp32; casting its buffers too is the mistake to catch."""
    tokens = torch.arange(256)[None] * 7
    model = load_model(quickstart / "tiny-llama-3", "fp32").eval()
    cast_weights(model, torch.bfloat16)
    model.save_pretrained(tmp_path)
    report = gate(model, tmp_path, tokens)
    assert (report.loaded.dtype, report.logits_difference) == ("torch.bfloat16", 0)
    with pytest.raises(RunFailed, match=r"tensors_sha256: .*logits: differ by"):
        _check(model.bfloat16(), tmp_path, tokens, None)


def test_remote_code_is_refused(saved, batches):
    model, folder = saved()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "x.Y"}}))
    with pytest.raises(P2Error, match="remote code"):
        _check(model, folder, batches[0])


def test_every_failed_check_is_listed(saved, batches):
    model, folder = saved()
    loaded, logits = load_and_report(folder, batches[0], "cpu")
    wrong: Loaded = replace(loaded, parameters=1, cached_equals_uncached=False, mismatched=["a", "b", "c", "d"])
    with pytest.raises(RunFailed) as caught:
        judge(model, folder, "2:4", wrong, logits * float("nan"), logits)
    for words in (
        "mismatched keys: a, b, c ...",
        "parameters: loaded 1,",
        "cached_equals_uncached",
        "logits: differ by nan",
    ):
        assert words in str(caught.value)
