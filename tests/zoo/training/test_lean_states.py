"""bf16 weights with 8-bit moments through the trainer: nearly as good as fp32 AdamW, and resumed to the bit."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from tests.zoo.training.test_trainer import curve
from zoo.evaluation.heldout import heldout_loss
from zoo.inputs.base_model import load_model, load_tokenizer
from zoo.inputs.packing import Blocks
from zoo.recipe.files import load_recipe
from zoo.training.checkpoints import last_complete
from zoo.training.trainer import Training, post_train

LEAN = {"optimizer": "adamw-8bit", "precision": "bf16-master"}
STEPS = 40


@pytest.fixture(scope="module")
def setting(bench_folder):
    """Tokens that count upwards with noise, at a learning rate whose updates are below the gaps of bf16."""
    overrides = [f"train.tokens={STEPS * 128}", "train.lr_peak=0.00004", "train.warmup_tokens=0"]
    spec = load_recipe(bench_folder / "recipe.yaml", overrides).train
    draw = np.random.default_rng(0)
    ids = (np.arange(32) + draw.integers(0, 256, (STEPS * 4, 1)) + draw.integers(0, 2, (STEPS * 4, 32))) % 256
    return (
        bench_folder / "model",
        spec,
        Blocks(ids.astype(np.int32), np.tile(np.arange(32, dtype=np.int32), (STEPS * 4, 1)), ids.size, ids.size),
    )


def loss_after(setting, tmp_path, **changes):
    """Loss in fp32 arithmetic on the last blocks, before and after training on all."""
    folder, spec, blocks = setting
    spec = dataclasses.replace(spec, **changes)
    model = load_model(folder, spec.precision)
    measured = Blocks(blocks.ids[-32:], blocks.positions[-32:], 1024, 1024)
    before = heldout_loss(load_model(folder, "fp32"), measured)
    post_train(Training(model, blocks, spec, load_tokenizer(folder), tmp_path))
    return before, heldout_loss(model.float(), measured)


@pytest.mark.slow
def test_it_is_near_fp32_adamw_where_plain_bf16_is_not(setting, tmp_path):
    start, full = loss_after(setting, tmp_path)
    lean = loss_after(setting, tmp_path, **LEAN)[1]
    plain = loss_after(setting, tmp_path, precision="bf16-master")[1]
    assert lean == pytest.approx(full, abs=0.1 * (start - full))
    assert plain - full > 0.2 * (start - full)


class Cut(TrainerCallback):
    """Ends the process's training after a checkpoint, as a kill would."""

    trainer = None

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_cut_off_and_resumed_it_ends_the_same_to_the_bit(setting, tmp_path):
    folder, spec, blocks = setting
    blocks = Blocks(blocks.ids[:32], blocks.positions[:32], 1024, 1024)
    spec, tokenizer = dataclasses.replace(spec, **LEAN), load_tokenizer(folder)
    models = []
    for name in ("whole", "cut"):
        torch.manual_seed(0)
        model = load_model(folder, spec.precision)
        if name == "cut":
            with pytest.raises(KeyboardInterrupt):
                post_train(Training(model, blocks, spec, tokenizer, tmp_path / name), [curve(blocks, spec, []), Cut()])
            at, start = last_complete(tmp_path / name)
            assert start["step"] == 4
            model = load_model(folder, spec.precision)
            torch.manual_seed(99)
            post_train(
                Training(model, blocks, spec, tokenizer, tmp_path / name), [curve(blocks, spec, [], start=start)], at
            )
        else:
            post_train(Training(model, blocks, spec, tokenizer, tmp_path / name), [curve(blocks, spec, [])])
        models.append(model)
    for name, weight in models[0].named_parameters():
        assert torch.equal(weight, models[1].get_parameter(name)), name
