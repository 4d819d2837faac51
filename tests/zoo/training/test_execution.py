"""How a step is carried out changes nothing of what is trained: micro-batches, recomputation, memory that runs out."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from transformers.utils import logging

from leaderboard.errors import RunFailed
from tests.zoo.training.test_trainer import curve
from zoo.evaluation.heldout import heldout_loss
from zoo.inputs.base_model import load_model, load_tokenizer
from zoo.inputs.packing import Blocks
from zoo.recipe.files import load_recipe
from zoo.training.autotune import candidates, fastest, pays
from zoo.training.execution import ATTENTION, BLOCKS, Execution, apply, ladder
from zoo.training.trainer import Training, post_train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def setting(bench_folder):
    """TrainSpec and eight blocks a step, three steps, of random tokens; a few pieces a block in some."""
    spec = load_recipe(bench_folder / "recipe.yaml", ["train.tokens=768", "train.batch_tokens=256"]).train
    ids = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.int32)
    positions = np.tile(np.arange(32, dtype=np.int32), (24, 1))
    positions[::3, 20:] = np.arange(12)
    positions[1::3, 28:] = -1
    return bench_folder / "model", spec, Blocks(ids, positions, ids.size, ids.size)


@pytest.fixture(scope="module")
def train(setting, tmp_path_factory):
    """Train a fresh copy; returns its rows, its weights and what was noted. `model` changes it before."""
    folder, spec, blocks = setting
    tokenizer = load_tokenizer(folder)

    def run(execution=None, change=lambda model: None, **changes):
        model, rows, notes = load_model(folder, "fp32"), [], []
        change(model)
        asked = dataclasses.replace(spec, **({"micro_batch": 8} | changes))
        measured = curve(blocks, asked, rows, grid=[1, 2, 3], measure=lambda: heldout_loss(model, blocks))
        path = tmp_path_factory.mktemp("train")
        note = lambda execution, why: notes.append((execution, why))  # noqa: E731
        post_train(Training(model, blocks, asked, tokenizer, path, execution, note), [measured])
        return rows, model, notes

    return run


@pytest.fixture(scope="module")
def reference(train):
    """A whole step in one pass."""
    return train()


def same(one, other, tolerance=2e-6):
    """The same curve and weights: token counts exactly, losses and weights to fp32 rounding."""
    assert [row["tokens"] for row in one[0]] == [row["tokens"] for row in other[0]]
    for key in ("loss", "train_loss", "lr"):
        assert [row[key] for row in one[0]] == pytest.approx([row[key] for row in other[0]], rel=tolerance)
    for name, weight in one[1].named_parameters():
        torch.testing.assert_close(weight, other[1].get_parameter(name), rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_give_the_same_curve(train, reference, size):
    found = train(micro_batch=size)
    same(found, reference)
    assert [execution.micro_batch for execution, _ in found[2]] == [size]


@pytest.mark.parametrize(
    "execution",
    [Execution(micro_batch=4, recomputed=how) for how in ("every second block", "every block")]
    + [Execution(micro_batch=4, attention="eager")],
    ids=str,
)
def test_recomputation_and_attention_give_the_same_curve(train, reference, execution):
    found = train(execution)
    same(found, reference)
    assert not found[2]  # what an earlier call chose is taken as it is


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_compiled_blocks_give_the_same_curve_and_names(train, reference):
    """Blocks and loss compiled for training, while the held-out loss is measured uncompiled all along."""
    found = train(Execution(micro_batch=8, compiled=True))
    same(found, reference, 1e-5)
    assert list(found[1].state_dict()) == list(reference[1].state_dict())


def out_of_memory_above(limit):
    """A model that asks for a petabyte when it trains on more than `limit()` sequences: a real failed allocation."""

    def hook(decoder, _, given):
        if decoder.training and len(given["input_ids"]) > limit():
            torch.empty(2**50, dtype=torch.uint8)

    return lambda model: model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)


def test_out_of_memory_does_the_step_again_in_smaller_pieces(train, reference):
    found = train(change=out_of_memory_above(lambda: 2), gradient_checkpointing=False)
    same(found, reference)
    assert [execution.micro_batch for execution, _ in found[2]] == [8, 4, 2]
    assert "out of memory at step 0 with micro-batch 8" in found[2][1][1]


def test_out_of_memory_in_the_middle_of_a_run(train, reference):
    passes = itertools.count()
    found = train(change=out_of_memory_above(lambda: 8 if next(passes) == 0 else 4), gradient_checkpointing=False)
    same(found, reference)
    (_, (execution, why)) = found[2]
    assert execution.micro_batch == 4
    assert why.startswith("out of memory at step 1 ")


@pytest.mark.slow
def test_nothing_that_fits_ends_in_words(train):
    with pytest.raises(RunFailed, match=r"out of memory even with micro-batch 1.*--resume.*adamw-8bit"):
        train(change=out_of_memory_above(lambda: 0))


def test_the_ladder_goes_down_in_memory_only():
    rungs = ladder(64, 2_048, None, None, "cuda")
    assert (rungs[0].micro_batch, rungs[0].recomputed) == (16, "none")
    assert rungs[-1] == Execution(micro_batch=1, recomputed="every block")
    assert [rung.micro_batch for rung in rungs if rung.recomputed == "every second block"] == [16, 8, 4, 2]
    assert all(64 % rung.micro_batch == 0 for rung in rungs)
    assert len(set(rungs)) == len(rungs)
    assert {rung.recomputed for rung in ladder(64, 2_048, 8, False, "cuda")} == {"none"}
    assert {rung.recomputed for rung in ladder(64, 2_048, 8, True, "cuda")} == {"every block"}
    assert ladder(6, 2_048, 4, None, "cuda")[0].micro_batch == 3


def test_timing_takes_what_runs_and_is_faster():
    """Attempts of known length in place of passes: the default, one that is faster, one that cannot run."""
    start = Execution(micro_batch=2)
    work = {"sdpa": 400_000, "eager": 1_000}

    def attempt(execution):
        if execution.compiled:
            raise RuntimeError("no compiler")
        sum(range(work[execution.attention]))

    assert fastest(start, attempt, CPU).attention == "eager"
    work["eager"] = 4_000_000
    assert fastest(start, attempt, CPU) == start
    assert {execution.attention for execution in candidates(start, CPU)} <= set(ATTENTION)
    assert pays(flops=4e20, peak=1e15)
    assert not pays(flops=1e13, peak=1e11)


def test_checkpointing_is_on_where_it_was_asked_for(setting):
    model = load_model(setting[0], "fp32")
    logging.set_verbosity_error()
    for how, every in BLOCKS.items():
        apply(model, Execution(micro_batch=1, recomputed=how))
        on = [layer.gradient_checkpointing for layer in model.get_decoder().layers]
        assert on == [bool(every) and number % every == 0 for number in range(len(on))]
