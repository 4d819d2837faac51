"""A teacher on disk: the same loss, slopes and weights as from memory, made once, and refused where it is another's."""

import copy
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.functional import cross_entropy

from leaderboard.errors import P2Error
from leaderboard.logs.load import load_logs
from leaderboard.planning.gpus import gpu_hours
from zoo.estimate.dry_run import estimate, report
from zoo.evaluation.next_token import IGNORE, as_inputs
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.packing import pack
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import DistillSpec, TrainSpec
from zoo.run.pipeline import run
from zoo.training.distill import next_token_kl
from zoo.training.teacher import keep
from zoo.training.trainer import Training, post_train

SETTINGS = [
    DistillSpec(weight=0.3, temperature=2.0),
    DistillSpec(weight=0.7, temperature=0.5, top_k=5),
    DistillSpec(top_k=63),
    DistillSpec(weight=0.0, top_k=1),
]
ABOUT = {"vocab": 64, "precision": "fp32"}


def plain(model, teacher, ids, labels, spec):
    """The loss by whole logits and torch's own functions; of top k the others are one more outcome."""
    counted, heat = labels[:, 1:].flatten() != IGNORE, spec.temperature
    z, t = (m(input_ids=ids).logits[:, :-1].flatten(0, 1)[counted].double() for m in (model, teacher))
    q, p = (z / heat).softmax(-1), (t / heat).softmax(-1).detach()
    if spec.top_k:
        at = p.topk(spec.top_k).indices
        q, p = (torch.cat([x.gather(1, at), 1 - x.gather(1, at).sum(1, keepdim=True)], 1) for x in (q, p))
    divergence = (p * (p.log() - q.log())).sum()
    aims = labels[:, 1:].flatten()[counted]
    return spec.weight * heat**2 * divergence + (1 - spec.weight) * cross_entropy(z, aims, reduction="sum")


@pytest.mark.parametrize("spec", SETTINGS, ids=lambda spec: spec.words)
def test_loss_and_gradients_are_those_of_plain_torch(build, spec):
    model, teacher = build("llama", True).double(), build("llama", True, seed=1, hidden_size=48).double()
    ids = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, 4] = labels[2, 7:] = IGNORE
    want = plain(model, teacher, ids, labels, spec)
    want.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    got = next_token_kl(model, teacher, ids, labels, spec=spec)
    got.backward()
    assert got.item() == pytest.approx(want.item(), rel=1e-5)
    for name, p in model.named_parameters():  # the softmax is in fp32
        torch.testing.assert_close(p.grad, expected[name], rtol=2e-4, atol=1e-5 * expected[name].abs().max().item())


@pytest.fixture
def lesson(build):
    """A model, its teacher, and blocks of random tokens, packed so that some places predict nothing."""
    model, teacher = build("llama", True, max_position_embeddings=64), build("llama", True, seed=1)
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, 64, size).tolist() for size in draw.integers(3, 40, 60)]
    return model, teacher.eval(), pack(texts, 32, "bfd_split", 10**6)


def test_from_disk_is_from_memory_in_loss_and_in_training(lesson, bench_folder, tmp_path):
    model, teacher, blocks = lesson
    spec = DistillSpec(weight=0.8, temperature=1.5, top_k=8)
    about = ABOUT | {"top_k": 8, "temperature": 1.5}
    kept, took = keep(lambda: teacher, blocks, about, None, tmp_path)
    assert took["made"]
    rows = [3, 0, 7]
    inputs = as_inputs(blocks, rows)
    with torch.no_grad():
        memory = next_token_kl(model, teacher, spec=spec, **inputs)
        disk = next_token_kl(model, None, spec=spec, **inputs, **kept.inputs(rows))
    assert disk.item() == pytest.approx(memory.item(), rel=1e-6)
    train = TrainSpec(
        tokens=512, batch_tokens=128, seq_len=32, lr_peak=0.01, checkpoint_tokens=10**6, precision="fp32",
        objective="distill", distill=spec, packing="bfd_split",
    )  # fmt: skip
    tokenizer = load_tokenizer(bench_folder / "model")
    trained = []
    for name, source in (("memory", {"teacher": teacher}), ("disk", {"kept": kept})):
        student = copy.deepcopy(model)
        post_train(Training(student, blocks.select(slice(0, 16)), train, tokenizer, tmp_path / name, **source))
        trained.append(student.state_dict())
    assert not torch.equal(trained[0]["model.norm.weight"], model.state_dict()["model.norm.weight"])
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, rtol=0, atol=1e-5)


def test_what_is_kept_is_made_once_and_goes_on_where_it_was_stopped(lesson, tmp_path):
    _, teacher, blocks = lesson
    about = ABOUT | {"top_k": 4, "temperature": 1.0}
    whole, _ = keep(lambda: teacher, blocks, about, tmp_path / "whole", tmp_path)
    folder = tmp_path / "cut"
    keep(lambda: teacher, blocks, about, folder, tmp_path)
    (folder / "complete.json").unlink()
    for name in ("ids.bin", "log_p.bin", "rest.bin"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-70])
    again, took = keep(lambda: teacher, blocks, about, folder, tmp_path)
    assert took["made"]
    for name in ("ids", "log_p", "rest"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))

    def nobody():
        raise AssertionError("it is there")

    assert keep(nobody, blocks, about, folder, tmp_path)[1]["made"] is False
    with pytest.raises(P2Error, match=r"was kept of another top_k: 4, this run has 5"):
        keep(nobody, blocks, about | {"top_k": 5}, folder, tmp_path)
    with pytest.raises(P2Error, match=r"was kept of another tokens"):
        keep(nobody, blocks.select(slice(0, 5)), about, folder, tmp_path)


DISTILL = [
    "train.objective=distill",
    "train.distill.top_k=16",
    "train.distill.weight=0.5",
    "train.distill.temperature=2",
]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.distill.weight=1.5"], r"train\.distill\.weight: got 1\.5, allowed is a share of the loss, 0 to 1"),
        (["train.distill.weight=-0.1"], r"weight: got -0\.1"),
        (["train.distill.temperature=0"], r"temperature: got 0\.0, allowed is a number above 0"),
        (["train.distill.top_k=0"], r"top_k: got 0, allowed is 1 or more"),
        (["train.distill.top_k=5000"], r"top_k: got 5,000, the vocabulary of model has \d+ tokens"),
        (["train.distill.top_k=null", "train.distill.logits=./x"], r"logits: only the likeliest tokens .* set top_k"),
        (["train.objective=clm"], r"train\.distill: is of the objective distill, got clm"),
        (["train.distill.logits=./recipe.yaml"], r"recipe\.yaml holds no kept logits"),
    ],
)
def test_what_cannot_be_distilled_is_refused_by_the_dry_run(bench_folder, settings, message):
    with pytest.raises(P2Error, match=message):
        estimate(load_recipe(bench_folder / "recipe.yaml", [*DISTILL, *settings]))


def test_settings_stand_in_the_objective_and_the_teacher_costs(bench_folder):
    assert load_recipe(bench_folder / "recipe.yaml", ["train.objective=distill"]).objective == "distill"
    recipe = load_recipe(bench_folder / "recipe.yaml", DISTILL)
    assert recipe.objective == "distill(w=0.5,T=2,k=16)"
    plain_hours, hours = (gpu_hours(1e9, 1e9, 0.5, "depth", "h100", objective=o)[0] for o in ("clm", recipe.objective))
    assert hours == pytest.approx(plain_hours * (3 + 2) / 3)
    planned = estimate(recipe)
    assert planned.teacher_bytes == recipe.train.planned_tokens * (16 * 8 + 4)
    assert "teacher       asked once for this text" in report(planned)
    in_memory = estimate(load_recipe(bench_folder / "recipe.yaml", [*DISTILL, "train.distill.top_k=null"]))
    assert in_memory.memory_bytes > planned.memory_bytes


@pytest.mark.slow
def test_a_run_is_distilled_from_disk_and_another_uses_the_same_logits(bench_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("P2ZOO_CACHE", str(tmp_path / "cache"))
    small = ["train.tokens=512", "evaluate.tokens=64", f"train.distill.logits={tmp_path / 'logits'}"]
    quiet = Console(quiet=True)
    first = run(load_recipe(bench_folder / "recipe.yaml", [*DISTILL, *small]), tmp_path / "first", console=quiet)
    assert first["teacher"]["made"]
    assert first["teacher"]["flops"] > 0
    frame = load_logs(tmp_path / "first").frame
    assert set(frame["objective"]) == {"distill(w=0.5,T=2,k=16)"}
    other = [*DISTILL, *small, "prune.method=none", "prune.rate=null"]
    second = run(load_recipe(bench_folder / "recipe.yaml", other), tmp_path / "second", console=quiet)
    assert second["teacher"]["made"] is False
    about = json.loads((tmp_path / "logits" / "about.json").read_text())
    assert about["tokens_sha256"] == first["train_tokens_sha256"] == second["train_tokens_sha256"]
    another = load_recipe(bench_folder / "recipe.yaml", [*DISTILL, *small, "train.seed=5"])
    for attempt in (estimate, lambda recipe: run(recipe, tmp_path / "third", console=quiet)):
        with pytest.raises(P2Error, match=r"train\.distill\.logits: .*/logits was kept of another seed"):
            attempt(another)
    (tmp_path / "train.jsonl").write_text((bench_folder / "train.jsonl").read_text() + '{"text": "more"}\n')
    moved = load_recipe(bench_folder / "recipe.yaml", [*DISTILL, *small, f"data.train.file={tmp_path / 'train.jsonl'}"])
    with pytest.raises(P2Error, match=r"was kept of another text"):
        estimate(moved)
