"""Distillation: the chunked divergence against plain PyTorch, and what a distilled model wins back."""

import copy

import pytest
import torch

from leaderboard.errors import P2Error
from zoo.evaluation.heldout import heldout_loss
from zoo.evaluation.next_token import IGNORE, as_inputs
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.packing import pack
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import TrainSpec
from zoo.training.distill import kl_sum, next_token_kl
from zoo.training.trainer import Training, post_train


def plain(model, teacher, ids, labels):
    """The same by whole logits: torch's own KL divergence, summed where a next token is predicted."""
    counted = labels[:, 1:].flatten() != IGNORE
    q, p = (m(input_ids=ids).logits[:, :-1].flatten(0, 1)[counted].log_softmax(-1) for m in (model, teacher))
    return torch.nn.functional.kl_div(q, p.detach(), reduction="sum", log_target=True)


@pytest.mark.parametrize(("model_type", "tied"), [("llama", True), ("llama", False), ("gemma3_text", True)])
def test_loss_and_gradients_are_those_of_plain_torch(build, model_type, tied):
    """Gemma's logits are capped, the teacher's elsewhere than the model's."""
    other = {"final_logit_softcapping": 3.0} if model_type == "gemma3_text" else {}
    model, teacher = build(model_type, tied).double(), build(model_type, tied, 1, hidden_size=48, **other).double()
    ids = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, 4] = labels[2, 7:] = IGNORE
    want = plain(model, teacher, ids, labels)
    want.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    got = next_token_kl(model, teacher, ids, labels)
    got.backward()
    assert got.item() == pytest.approx(want.item(), rel=1e-5)
    for name, p in model.named_parameters():  # the softmax is in fp32
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6 * expected[name].abs().max().item())
    assert all(p.grad is None for p in teacher.parameters())


def test_a_few_rows_at_a_time_give_what_all_give_together():
    """Five rows at a time, the last two alone."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight, wanted, aim = (
        torch.randn(*shape, generator=draw) for shape in ((17, 8), (64, 8), (17, 6), (64, 6))
    )
    counted = torch.arange(17) % 4 > 0
    found = []
    for at_once in (None, 64 * 2 * 5):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = kl_sum(h, w, wanted, aim, counted, at_once=at_once)
        loss.backward()
        found.append((loss.detach(), h.grad, w.grad))
    assert found[0][0] > 1
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


def test_a_model_is_no_distance_from_itself(build):
    model, rows = build("qwen2", True), torch.randn(7, 32)
    weight = model.get_output_embeddings().weight
    hidden = rows.requires_grad_()
    same = kl_sum(hidden, weight, rows.detach(), weight.detach(), torch.ones(7, dtype=torch.bool))
    same.backward()
    assert same.item() == pytest.approx(0, abs=1e-5)
    assert hidden.grad.abs().max() < 1e-5


def test_a_distilled_model_comes_nearer_to_its_teacher_than_before(build, bench_folder, tmp_path):
    """A damaged copy of the teacher; its held-out next-token loss on the teacher's own samples falls too."""
    teacher = build("llama", True, max_position_embeddings=64)
    torch.manual_seed(0)
    texts = teacher.generate(
        torch.randint(1, 64, (24, 1)), do_sample=True, min_new_tokens=63, max_new_tokens=63, pad_token_id=0
    )
    blocks = pack(texts.tolist(), 32, "wrapped", 10**6)
    train, heldout = blocks.select(slice(0, 40)), blocks.select(slice(40, 48))
    model = copy.deepcopy(teacher)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.08 * torch.randn_like(weight))
    spec = TrainSpec(
        tokens=1280, batch_tokens=128, seq_len=32, lr_peak=0.01, checkpoint_tokens=10**6, precision="fp32",
        objective="distill",
    )  # fmt: skip
    inputs = as_inputs(heldout, slice(None))
    with torch.no_grad():
        apart, before = next_token_kl(model, teacher, **inputs).item(), heldout_loss(model, heldout)
    tokenizer = load_tokenizer(bench_folder / "model")
    post_train(Training(model, train, spec, tokenizer, tmp_path, teacher=teacher))
    with torch.no_grad():
        assert next_token_kl(model, teacher, **inputs).item() < 0.8 * apart
    assert heldout_loss(model, heldout) < before


def test_a_model_from_scratch_has_no_teacher(bench_folder):
    scratch = ["model={name: new, scratch: {family: llama-3, size: s0}}", "train.objective=distill"]
    with pytest.raises(P2Error, match="has no teacher"):
        load_recipe(bench_folder / "recipe.yaml", [*scratch, "prune={method: none}"])
