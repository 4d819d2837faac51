"""Post-training: exact tokens, the lean loss against plain cross-entropy, refusals, and stopping on NaN."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import ARCHITECTURES, Architecture
from zoo.evaluation.heldout import heldout_loss, loss_by_source
from zoo.evaluation.next_token import IGNORE, as_inputs, next_token_nll, nll_sum
from zoo.inputs.base_model import load_model, load_tokenizer
from zoo.inputs.gather import Sources
from zoo.inputs.packing import Blocks, pack
from zoo.pruning.methods import TWO_OF_FOUR
from zoo.pruning.sparsity import make_sparse
from zoo.pruning.zeros import check_zeros
from zoo.recipe.files import load_recipe
from zoo.training.callback import Curve
from zoo.training.checkpoints import FRESH, damage, last_complete, newest
from zoo.training.masks import MaskKeeper
from zoo.training.trainer import Training, post_train, tokens_after


@pytest.fixture
def small(bench_folder):
    """Model, tokenizer and TrainSpec of the bench recipe; eight steps of four blocks of 32 random tokens."""
    spec = load_recipe(bench_folder / "recipe.yaml", ["train.tokens=1024"]).train
    ids = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.int32)
    blocks = Blocks(ids, np.broadcast_to(np.arange(32, dtype=np.int32), ids.shape), ids.size, ids.size)
    return load_model(bench_folder / "model", "fp32"), load_tokenizer(bench_folder / "model"), spec, blocks


def curve(blocks, spec, rows, masks=None, **changes):
    parts = {
        "tokens": tokens_after(blocks, spec),
        "grid": [3, 8],
        "checkpoint_tokens": 256,
        "measure": lambda: 1.0,
        "write": rows.append,
        "tick": lambda *_: None,
        "masks": masks and (lambda: masks),
        "start": FRESH,
    }
    return Curve(**(parts | changes))


def test_losses_of_scaled_and_capped_logits_are_the_models_own(build):
    """And their gradients, in chunks; of Gemma 3, capped, and of Granite, whose logits are divided."""
    ids = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))
    granite = Architecture("granite-3", "granite", logit_divisor="logits_scaling")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(ARCHITECTURES, "granite", granite)
        for model in (build("gemma3_text", True), build("granite", True, logits_scaling=4.0)):
            found = []
            for loss in (model(ids, labels=ids).loss * 30, next_token_nll(model, ids, ids)):
                model.zero_grad()
                loss.backward()
                found.append([loss.float(), *(p.grad.clone() for p in model.parameters())])
            for own, ours in zip(*found, strict=True):
                torch.testing.assert_close(ours, own, rtol=1e-3, atol=1e-4)
            positions = np.broadcast_to(np.arange(16, dtype=np.int32), ids.shape)
            blocks = Blocks(ids.numpy().astype(np.int32), positions, 32, 32)
            assert heldout_loss(model, blocks) == pytest.approx(found[0][0].item() / 30, rel=1e-5)
            by_source = loss_by_source(model, blocks, Sources(("all",), np.zeros((2, 16), np.int8)))
            assert by_source["all"]["loss"] == pytest.approx(found[0][0].item() / 30, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_chunked_loss_and_gradients_equal_cross_entropy(dtype):
    """In chunks of 7 rows, the last one shorter."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(30, 5, dtype=dtype), torch.randn(11, 5, dtype=dtype)
    labels = torch.randint(0, 11, (30,))
    labels[::4] = IGNORE
    pairs = []
    ours = partial(nll_sum, at_once=7 * 11)
    for loss in (ours, lambda h, w, y: cross_entropy(h @ w.T, y, ignore_index=IGNORE, reduction="sum")):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        value = loss(h, w, labels)
        (value * 0.5).backward()
        pairs.append((value.to(dtype), h.grad, w.grad))
    for found, reference in zip(*pairs, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-5)


def test_a_packed_piece_has_the_loss_it_has_alone(small, build):
    """Two pieces in one block do not see each other, and padding counts for nothing."""
    model, *_ = small
    first, second = np.arange(10, 22), np.arange(40, 55)
    alone = [_block(piece) for piece in (first, second)]
    together = _block(first, second)
    for any_model in (model, *(build(model_type, True) for model_type in ARCHITECTURES)):
        losses = [next_token_nll(any_model, **as_inputs(block, slice(0, 1))).item() for block in (*alone, together)]
        assert losses[2] == pytest.approx(losses[0] + losses[1], rel=1e-5)
    assert together.lengths.tolist() == [27]


def _block(*pieces):
    ids, positions = np.zeros((1, 32), np.int32), np.full((1, 32), -1, np.int32)
    at = 0
    for piece in pieces:
        ids[0, at : at + len(piece)], positions[0, at : at + len(piece)] = piece, np.arange(len(piece))
        at += len(piece)
    return Blocks(ids, positions, at, at)


def test_training_step_is_plain_adamw_on_the_mean_loss(small, tmp_path):
    """One step through the trainer, two micro-batches, equals the same step written out."""
    model, tokenizer, spec, blocks = small
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    one = Blocks(blocks.ids[:4], blocks.positions[:4], 128, 128)
    post_train(
        Training(model, one, spec, tokenizer, tmp_path),
        [curve(one, spec, [], grid=[1], checkpoint_tokens=10**9)],
    )
    optimizer = torch.optim.AdamW(twin.parameters(), lr=spec.lr_peak, betas=(0.9, 0.95), weight_decay=0.0)
    ids = torch.from_numpy(one.ids.astype(np.int64))
    logits = twin(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
    cross_entropy(logits, ids[:, 1:].flatten()).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, twin.get_parameter(name), rtol=1e-4, atol=2e-6, msg=name)


def test_tokens_exclude_padding(small):
    *_, spec, blocks = small
    positions = blocks.positions.copy()
    positions[0, 20:] = -1
    padded = Blocks(blocks.ids, positions, blocks.seen, blocks.packed)
    assert tokens_after(padded, spec).tolist() == [0, *range(116, 1024, 128)]


def test_masks_hold_at_every_save(small, tmp_path):
    model, tokenizer, spec, blocks = small
    make_sparse(model, "magnitude", TWO_OF_FOUR, 0.5)
    rows = []
    keeper = MaskKeeper(model)
    trained = post_train(Training(model, blocks, spec, tokenizer, tmp_path), [curve(blocks, spec, rows, keeper)])
    check_zeros(trained)
    check_zeros(load_model(last_complete(tmp_path)[0], "fp32"))
    assert [row["tokens"] for row in rows] == [384, 1024]
    assert all(row["lr"] == spec.lr_peak for row in rows)


def test_bf16_master_weights_are_refused_unless_asked_for(small, tmp_path):
    model, tokenizer, spec, blocks = small
    with pytest.raises(
        P2Error, match=r"fp32 needs torch.float32 weights, .* is torch.bfloat16; .* ask for .*bf16-master"
    ):
        post_train(Training(model.to(torch.bfloat16), blocks, spec, tokenizer, tmp_path))
    asked = dataclasses.replace(spec, precision="bf16-master")
    rows = []
    post_train(Training(model, blocks, asked, tokenizer, tmp_path), [curve(blocks, asked, rows)])
    assert model.dtype == torch.bfloat16
    assert rows


class Overflow(TrainerCallback):
    """Breaks a weight before the eighth step."""

    trainer = None

    def on_step_begin(self, args, state, control, model=None, **_):
        if state.global_step == 7:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))


def test_nan_stops_the_run_and_keeps_the_last_checkpoint(small, tmp_path):
    model, tokenizer, spec, blocks = small
    with pytest.raises(
        RunFailed,
        match=r"training loss became nan at step 7 \(896 tokens\), on blocks 28 to 29 of the training data; .*, at 768",
    ):
        post_train(Training(model, blocks, spec, tokenizer, tmp_path), [curve(blocks, spec, []), Overflow()])
    kept, marker = last_complete(tmp_path)
    assert kept.name == "checkpoint-6"
    assert marker["tokens"] == 768


def test_without_a_checkpoint_the_message_says_so(small, tmp_path):
    model, tokenizer, spec, blocks = small
    late = curve(blocks, spec, [], checkpoint_tokens=10**9)
    with pytest.raises(RunFailed, match="no checkpoint was due yet"):
        post_train(Training(model, blocks, spec, tokenizer, tmp_path), [late, Overflow()])


def test_bfd_split_trains_and_counts_only_real_tokens(small, tmp_path):
    model, tokenizer, spec, _ = small
    draw = np.random.default_rng(1)
    texts = [draw.integers(0, 256, draw.integers(5, 60)).tolist() for _ in range(60)]
    blocks = pack(texts, 32, "bfd_split", 10**9).draw(600, 4, seed=0)
    assert blocks.padding > 0
    rows = []
    post_train(Training(model, blocks, spec, tokenizer, tmp_path), [curve(blocks, spec, rows, grid=[])])
    assert rows[-1]["tokens"] == int((blocks.positions >= 0).sum()) >= 600


def test_a_damaged_checkpoint_is_refused_for_the_one_before(small, tmp_path):
    """One byte is another; a marker from before there were sums is taken as it is."""
    model, tokenizer, spec, blocks = small
    post_train(Training(model, blocks, spec, tokenizer, tmp_path), [curve(blocks, spec, [])])
    last, _ = newest(tmp_path)
    before = tmp_path / "checkpoint-6"
    assert (last.name, sorted(tmp_path.glob("checkpoint-*"))) == ("checkpoint-8", [before, last])
    weights = bytearray((last / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (last / "model.safetensors").write_bytes(weights)
    said = []
    assert last_complete(tmp_path, said.append)[0] == before
    assert said == [
        "the checkpoint at 1,024 tokens is damaged (model.safetensors is not as it was written); going on from the one "
        "before"
    ]
    assert not last.exists()
    (before / "optimizer.pt").unlink()
    assert damage(before, newest(tmp_path)[1]) == "optimizer.pt is gone"
    assert damage(before, {"tokens": 768}) is None
    assert last_complete(tmp_path) == (None, FRESH)
