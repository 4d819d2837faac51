"""Adapters: what is merged computes what was trained, zeros survive, resumed to the bit, bad input told before it."""

import copy
import json

import pytest
import torch
from rich.console import Console

from leaderboard.errors import P2Error
from leaderboard.logs.load import load_logs
from leaderboard.planning.gpus import gpu_hours
from zoo.estimate.dry_run import estimate
from zoo.estimate.memory import adapter_parameters
from zoo.evaluation.heldout import heldout_loss
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.packing import pack
from zoo.pruning.methods import TWO_OF_FOUR
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import LoraSpec, TrainSpec
from zoo.run.pipeline import run
from zoo.training.callback import Curve
from zoo.training.checkpoints import FRESH, last_complete
from zoo.training.lora import adapted, merged, trainable
from zoo.training.trainer import Training, post_train, tokens_after

LORA = LoraSpec(rank=4)
SPEC = TrainSpec(
    tokens=512, batch_tokens=128, seq_len=32, lr_peak=0.01, checkpoint_tokens=10**6, precision="fp32", lora=LORA
)


def sparse(model):
    """A model whose linear maps keep two of every four weights."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("_proj.weight"):
                weight.mul_(TWO_OF_FOUR.mask(weight.abs() * (torch.arange(weight.shape[1]) % 4 < 2)))
    return model


@pytest.mark.parametrize("kind", [None, TWO_OF_FOUR], ids=["dense", "2:4"])
def test_what_is_merged_computes_what_was_trained(build, bench_folder, tmp_path, kind):
    model = build("llama", True)
    model = model if kind is None else sparse(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    blocks = pack([torch.randint(1, 64, (2_000,)).tolist()], 32, "wrapped", 1_024)
    ids = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))
    wrapped = adapted(model, LORA, 0, kind)
    assert trainable(wrapped) == sum(p.numel() for name, p in wrapped.named_parameters() if "lora_" in name)
    with torch.no_grad():
        start = heldout_loss(wrapped, blocks)
    post_train(Training(wrapped, blocks.select(slice(0, 16)), SPEC, load_tokenizer(bench_folder / "model"), tmp_path))
    with torch.no_grad():
        trained, loss = wrapped(input_ids=ids).logits, heldout_loss(wrapped, blocks)
    assert abs(loss - start) > 1e-3
    plain = merged(wrapped)
    assert plain is model
    assert plain.state_dict().keys() == before.keys()
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, trained, rtol=1e-4, atol=1e-5)
    assert heldout_loss(plain, blocks) == pytest.approx(loss, abs=1e-5)
    for name, weight in plain.state_dict().items():
        changed = not torch.equal(weight, before[name])
        assert changed == name.endswith("_proj.weight"), name
        if changed and kind is not None:
            assert not weight[before[name] == 0].any()


def test_adapters_are_counted_from_the_shape(bench_folder):
    recipe = load_recipe(bench_folder / "recipe.yaml", ["train.lora.rank=2", "train.lora.targets=[q_proj, down_proj]"])
    planned = estimate(recipe)
    shape = planned.plan.target
    each = shape.hidden + shape.heads * shape.head_dim + shape.ffn + shape.hidden
    assert adapter_parameters(shape, recipe.train.lora) == 2 * each * shape.layers
    assert planned.memory_bytes < estimate(load_recipe(bench_folder / "recipe.yaml")).memory_bytes
    assert recipe.objective == "clm+lora(r=2,down_proj,q_proj)"
    assert gpu_hours(1e9, 1e9, 0.5, "depth", "h100", objective=recipe.objective)[0] == pytest.approx(
        gpu_hours(1e9, 1e9, 0.5, "depth", "h100")[0] * 4 / 6
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.lora.targets=[q_prj]"], r"train\.lora\.targets: unknown module 'q_prj'\. Did you mean 'q_proj'"),
        (["train.lora.targets=[lm_head]"], r"unknown module 'lm_head'"),
        (["train.lora.targets=[q_proj, q_proj]"], r"names one twice"),
        (["train.lora.rank=0"], r"train\.lora\.rank: got 0, allowed is 1 or more"),
        (["train.lora.alpha=-1"], r"train\.lora\.alpha: got -1"),
        (["hardware.gpus=2"], r"train\.lora: adapters are not shared by several processes"),
    ],
)
def test_bad_adapters_are_refused_by_the_dry_run(bench_folder, settings, message):
    with pytest.raises(P2Error, match=message):
        estimate(load_recipe(bench_folder / "recipe.yaml", ["train.lora.rank=4", *settings]))


def curve(blocks, stop=lambda: False):
    return Curve(
        tokens=tokens_after(blocks, SPEC),
        grid=[],
        checkpoint_tokens=10**6,
        measure=lambda: 1.0,
        write=lambda row: None,
        tick=lambda *_: None,
        masks=None,
        start=FRESH,
        stop=stop,
    )


def test_resumed_to_the_bit(build, bench_folder, tmp_path):
    tokenizer, model = load_tokenizer(bench_folder / "model"), sparse(build("llama", True))
    blocks = pack([list(range(1, 64)) * 40], 32, "wrapped", 512).select(slice(0, 16))

    def train(folder, callback, at=None):
        wrapped = adapted(copy.deepcopy(model), LORA, 3, TWO_OF_FOUR)
        post_train(Training(wrapped, blocks, SPEC, tokenizer, folder), [callback], at)
        return merged(wrapped).state_dict()

    whole = train(tmp_path / "whole", curve(blocks))
    looks = iter([False, True])
    train(tmp_path / "cut", curve(blocks, stop=lambda: next(looks)))
    at, start = last_complete(tmp_path / "cut")
    assert start["step"] == 2
    again = train(tmp_path / "cut", curve(blocks), at)
    for name, weight in whole.items():
        assert torch.equal(weight, again[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("method", ["depth", "width", "2:4"])
def test_a_run_with_adapters_is_a_plain_checkpoint_and_a_group_of_its_own(bench_folder, tmp_path, method):
    settings = ["train.tokens=512", "evaluate.tokens=64", "train.lora.rank=4"]
    settings += {
        "depth": [],
        "width": ["prune.method=width", "prune.rate=0.2"],
        "2:4": ["prune.method=2:4", "prune.rate=null"],
    }[method]
    recipe = load_recipe(bench_folder / "recipe.yaml", settings)
    state = run(recipe, tmp_path / "run", console=Console(quiet=True))
    frame = load_logs(tmp_path / "run").frame
    assert set(frame["objective"]) == {"clm+lora(r=4)"}
    assert set(frame["trainable_params"]) == {state["trainable_params"]}
    assert state["loss_saved"] == pytest.approx(state["loss"], abs=1e-3)
    assert "lora" not in (tmp_path / "run" / "model" / "config.json").read_text()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["gate_final"]
