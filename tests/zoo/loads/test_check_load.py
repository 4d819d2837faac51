"""Where else a model loads: the rules on real configs, and transformers 4 itself."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from leaderboard.shapes import bundled_config
from zoo.inputs.base_model import copy_companions, describe, load_model, save_model
from zoo.loads.check import check, words
from zoo.loads.rules import RULES, judge
from zoo.recipe.spec import ModelSpec


def folder_with(config, to):
    (to / "config.json").write_text(json.dumps(config))
    (to / "tokenizer.json").write_text("{}")
    return to


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({}, None),
        ({"hidden_size": 832, "num_attention_heads": 12, "head_dim": 64}, "heads x head_dim = hidden"),
        ({"architectures": ["OddForCausalLM"]}, "names a class"),
        ({"hidden_act": "gelu"}, "activation is silu"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope is one of"),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "rope_theta stands"),
        ({"sparsity_config": {"format": "sparse-24"}}, "dense weights"),
    ],
)
def test_rules_say_what_vllm_and_the_converter_would_refuse(change, asks, tmp_path):
    folder = folder_with(bundled_config("Qwen/Qwen2.5-0.5B") | change, tmp_path)
    for program in ("gguf", "vllm"):
        no = [finding.what for finding in judge(folder, program) if finding.ok is False]
        assert (asks is None and not no) or (len(no) == 1 and asks in no[0])
    said = words(folder, {}, "")
    assert "not tried: transformers 4" in said
    assert ("by rule: GGUF by llama.cpp's converter, vLLM" in said) == (asks is None)


def test_every_rule_names_its_source_in_the_program_it_is_of():
    for rule in RULES:
        assert all({"gguf": ("convert_hf", "src/"), "vllm": ("vllm/",)}[name] for name in rule.programs)
        assert ".py" in rule.source or ".cpp" in rule.source


def test_the_command_says_which_rule_speaks_against_a_model(quickstart):
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "check-load", str(quickstart / "tiny-qwen-2.5"), "--for", "vllm", "--json"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    (answer,) = json.loads(done.stdout)["programs"]
    assert done.returncode == 1
    assert "does not load in vLLM" in done.stderr
    assert [one["what"][:10] for one in answer["findings"] if one["ok"] is False] == ["rope_theta"]
    assert answer["by_rule"] is True


@pytest.mark.slow
def test_transformers_4_reads_a_base_of_its_time_and_what_is_saved_from_it_to_the_same_loss(quickstart, tmp_path):
    """As transformers 4 wrote the base: other spellings, another tokenizer class. Spoiled, the result is told apart."""
    base = shutil.copytree(quickstart / "tiny-llama-3", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "torch_dtype": config.pop("dtype")}
    (base / "config.json").write_text(json.dumps(config))
    settings = json.loads((base / "tokenizer_config.json").read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.pop("backend")
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    result = tmp_path / "result"
    save_model(load_model(base, "fp32"), result)
    copy_companions(describe(ModelSpec(name=str(base)), tmp_path), result)
    for folder in (base, result):
        found = check(folder, "transformers-4")
        assert found.ok, found
    before, after = (
        next(one.said for one in check(folder, "transformers-4").findings if one.what == "loss")
        for folder in (base, result)
    )
    assert before == after
    config = json.loads((result / "config.json").read_text())
    del config["rope_theta"]
    (result / "config.json").write_text(json.dumps(config))
    found = check(result, "transformers-4")
    assert [one.what for one in found.findings if one.ok is False] == ["loss"]


@pytest.mark.slow
def test_transformers_4_that_cannot_be_fetched_is_told_in_words(quickstart, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "check-load", str(quickstart / "tiny-llama-3"), "--for", "transformers-4"],
        env=os.environ | {"P2ZOO_CACHE": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert "could not be installed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
