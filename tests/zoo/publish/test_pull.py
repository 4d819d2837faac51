"""Pulling a published model: it is what its card says, and one that is not is found out."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from typer.testing import CliRunner

from leaderboard.errors import P2Error, RunFailed
from tests.zoo.publish.conftest import USERS
from zoo.cli import app
from zoo.publish.card import numbers_of
from zoo.publish.publish import plan, publish
from zoo.publish.pull import check_model, download


@pytest.fixture(scope="module")
def pulled(runs, hub_url, bench_folder, tmp_path_factory):
    """The 2:4 run, published and pulled, with the held-out text put beside it."""
    publish(HfApi(endpoint=hub_url, token=USERS["ann"]), plan(runs(), "ann", licence="apache-2.0", name="pulled"))
    out = tmp_path_factory.mktemp("pulled") / "model"
    download(HfApi(endpoint=hub_url, token=USERS["bob"]), "ann/pulled", out)
    shutil.copy(bench_folder / "heldout.jsonl", out)
    return out


@pytest.fixture
def copy(pulled, tmp_path) -> Path:
    return Path(shutil.copytree(pulled, tmp_path / "copy"))


def verdict(folder: Path) -> dict[str, bool | None]:
    return {check.what: check.ok for check in check_model(folder, measure=True)}


SOUND = {
    "weights, sha256": True,
    "matrices that are 2:4": True,
    "parameters kept": True,
    "pruning rate": True,
    "held-out loss": True,
}


def change_weights(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_sound_model(pulled):
    assert verdict(pulled) == SOUND


def test_text_that_is_not_there_is_said_not_guessed(copy):
    (copy / "heldout.jsonl").unlink()
    (check,) = [c for c in check_model(copy, measure=True) if c.what == "held-out loss"]
    assert check.ok is None
    assert "put heldout.jsonl into" in check.found


def test_other_text_of_that_name_does_not_count(copy):
    (copy / "heldout.jsonl").write_text(json.dumps({"text": "other words"}))
    assert verdict(copy) == SOUND | {"held-out loss": None}


def test_weights_that_were_exchanged(copy):
    def change(tensors):
        tensors["model.norm.weight"] *= -1

    change_weights(copy, change)
    assert verdict(copy) == SOUND | {"weights, sha256": False, "held-out loss": False}


def test_a_pattern_that_was_lost(copy):
    def change(tensors):
        weight = tensors["model.layers.0.mlp.up_proj.weight"]
        weight[weight == 0] = 1e-8

    change_weights(copy, change)
    assert verdict(copy) == SOUND | {"weights, sha256": False, "matrices that are 2:4": False}


@pytest.mark.parametrize("method", ["depth+2:4", "unstructured"])
def test_zeros_of_every_kind_are_counted(runs, hub_url, tmp_path, method):
    done = plan(runs(method), "ann", licence="apache-2.0", name=f"zeros-{method[0]}")
    publish(HfApi(endpoint=hub_url, token=USERS["ann"]), done)
    folder = download(HfApi(endpoint=hub_url, token=USERS["bob"]), f"ann/zeros-{method[0]}", tmp_path / "model")
    checks = {check.what: check.ok for check in check_model(folder)}
    pattern = f"matrices that are {method.removeprefix('depth+')}"
    assert checks == dict.fromkeys(("weights, sha256", pattern, "parameters kept", "pruning rate"), True)
    card = (folder / "README.md").read_text()
    assert ("20.0% asked for, for depth alone)" in card) == (method == "depth+2:4")
    assert ("single weights" in card, "semi_structured" in card) == (method == "unstructured", method == "depth+2:4")

    def change(tensors):
        tensors["model.layers.0.mlp.up_proj.weight"].add_(1e-3)

    change_weights(folder, change)
    lost = {check.what for check in check_model(folder) if not check.ok}
    assert lost >= {"weights, sha256", "matrices that are 2:4" if method == "depth+2:4" else "parameters kept"}


@pytest.mark.parametrize(
    ("claim", "found_out"),
    [("  loss: ", {"held-out loss"}), ("  n_pruned: ", {"parameters kept"}), ("  rate: ", {"pruning rate"})],
)
def test_a_card_that_claims_more(copy, claim, found_out):
    lines = (copy / "README.md").read_text().splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith(claim)]
    lines[at] = claim + {"  loss: ": "1.5", "  n_pruned: ": "1000", "  rate: ": "0.75"}[claim]
    (copy / "README.md").write_text("\n".join(lines))
    assert {what for what, ok in verdict(copy).items() if ok is False} == found_out


@pytest.mark.parametrize(("off", "ok"), [(0.0008, True), (0.0012, False)])
def test_the_loss_may_be_off_by_a_thousandth(copy, off, ok):
    card = (copy / "README.md").read_text()
    loss = numbers_of(card, "card").loss
    (copy / "README.md").write_text(card.replace(f"  loss: {loss}\n", f"  loss: {loss + off}\n"))
    assert verdict(copy)["held-out loss"] is ok


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("# Hello", "none of p2zoo's"),
        ("---\np2zoo: [1]\n---\n", "none of p2zoo's"),
        ("---\np2zoo: {run_id: x}\n---\n", "none of p2zoo's"),
        (None, "something else than the value of weights_sha256"),
    ],
)
def test_cards_of_others(copy, card, words):
    ours = (copy / "README.md").read_text()
    unquoted = ours.replace(numbers_of(ours, "card").weights_sha256, "0" * 64)  # which YAML reads as a number
    (copy / "README.md").write_text(unquoted if card is None else card)
    with pytest.raises(P2Error, match=words):
        check_model(copy)


def test_a_folder_with_something_else_is_not_written_to(tmp_path, hub_url):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(P2Error, match="holds something else"):
        download(HfApi(endpoint=hub_url, token=USERS["bob"]), "ann/pulled", tmp_path)


def test_a_model_that_is_not_there(tmp_path, hub_url):
    with pytest.raises(P2Error, match=r"pull: ann/nothing: not found"):
        download(HfApi(endpoint=hub_url, token=USERS["bob"]), "ann/nothing", tmp_path / "new")


def test_the_command_says_what_differs_and_fails(pulled, hub_url, tmp_path, monkeypatch):
    for name in ("HF_ENDPOINT", "HF_HUB_DISABLE_XET"):
        monkeypatch.setenv(name, "1")  # the command sets them for its process; here they must not stay
    command = ["pull", "ann/pulled", "--out", str(tmp_path / "new"), "--endpoint", hub_url]
    sound = CliRunner().invoke(app, command)
    assert sound.exit_code == 0
    assert sound.stdout.count("ok ") == 4
    shutil.copy(pulled / "heldout.jsonl", tmp_path / "new")
    told = CliRunner().invoke(app, [*command, "--verify", "--json"])
    assert len(json.loads(told.stdout)["checks"]) == 5
    assert "verifying: measuring its held-out loss ...\n" in told.stderr
    assert "%|" not in told.stderr  # no bars without a terminal
    claimed = numbers_of((pulled / "README.md").read_text(), "card")
    card = (pulled / "README.md").read_text().replace(claimed.weights_sha256, "f" * 64)
    HfApi(endpoint=hub_url, token=USERS["ann"]).upload_file(
        path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="ann/pulled"
    )
    changed = CliRunner().invoke(app, command)
    assert "DIFFERS  weights, sha256" in changed.stdout
    assert isinstance(changed.exception, RunFailed)
