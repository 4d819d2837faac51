"""A whole run on a four-layer model: what it leaves behind, and that a killed one ends the same to the last bit."""

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import VOLATILE
from tests.commands import p2zoo
from zoo.evaluation.heldout import heldout_loss
from zoo.preemption import Preempted
from zoo.pruning.zeros import check_zeros
from zoo.recipe.files import load_recipe
from zoo.run.extension import extend
from zoo.run.pipeline import run

QUIET = Console(quiet=True)
SPARSE = ["prune.method='depth+2:4'", "prune.importance=block-influence+sparsegpt"]  # both kinds of pruning at once


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def recipe(bench_folder):
    return load_recipe(bench_folder / "recipe.yaml", SPARSE)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """One uninterrupted run."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, run(recipe, folder, console=QUIET)


def test_run_folder_holds_what_it_promises(finished):
    folder, result = finished
    assert sorted(p.name for p in folder.iterdir()) == [
        "curve.png",
        "log.jsonl",
        "log.parquet",
        "model",
        "recipe.yaml",
        "run.json",
    ]
    assert result == json.loads((folder / "run.json").read_text())
    assert result["status"] == "finished"
    assert str(folder) not in (folder / "run.json").read_text()


def test_log_passes_the_check_and_counts_every_token(finished, recipe):
    folder, result = finished
    (report,) = check_files([folder / "log.parquet"]).reports
    assert not report.findings
    log = pd.read_parquet(folder / "log.parquet")
    assert log.tokens.iloc[0] == 0
    assert log.loss.iloc[0] == log.l_pruned.iloc[0] == result["l_pruned"]
    assert log.tokens.iloc[-1] == recipe.train.tokens == 1536
    assert (log.tokens % 128 == 0).all()
    assert log.eval_tokens.iloc[0] == 256
    assert 256 < log.eval_bytes.iloc[0] < 256 * 8  # English has about four bytes a token
    assert log.base_tokens.isna().all()  # the recipe does not say
    measured = log[log.yardstick_loss.notna()]
    assert measured.yardstick_loss.iloc[0] == log.yardstick_l_pruned.iloc[0] == result["yardstick_l_pruned"]
    assert measured.tokens.iloc[-1] == 1536
    assert len(measured) < len(log)  # once tokens have doubled
    assert 0.5 < log.yardstick_l0.iloc[0] < 6  # nats a byte
    assert len(log.tokenizer_sha256.iloc[0]) == 64
    assert log.loss.iloc[-1] < log.l_pruned.iloc[0]
    assert result["execution"] == {"micro_batch": 2, "recomputed": "none", "attention": "sdpa", "compiled": False}
    assert json.loads(log.software.iloc[0]) | {"attention": "sdpa", "compile": "off"} == result["software"]
    assert log.mfu.isna().all()  # a CPU has no peak in the table
    assert (log.method.iloc[0], log.importance.iloc[0]) == ("depth+2:4", "block-influence+sparsegpt")
    assert log.rate_requested.iloc[0] == 0.2 < 0.45 < log.rate.iloc[0]
    assert set(result["removed"]) == {"layers", "matrices", "output_error"}


def test_masks_survive_training_and_the_saved_model_has_the_logged_loss(finished, recipe, tmp_path):
    from transformers import AutoModelForCausalLM

    from zoo.inputs.base_model import load_tokenizer
    from zoo.inputs.gather import gather

    folder, result = finished
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    check_zeros(model)
    tokenizer = load_tokenizer(folder / "model")
    blocks = gather(recipe, tokenizer, result["inputs"], tmp_path / "train").heldout
    assert heldout_loss(model, blocks) == pytest.approx(result["loss"], abs=1e-6)


def test_a_finished_run_is_left_alone(finished, recipe, capsys):
    folder, result = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run(recipe, folder) == result
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_recipe_is_refused(finished, bench_folder):
    folder, _ = finished
    other = load_recipe(bench_folder / "recipe.yaml", [*SPARSE, "train.seed=1"])
    with pytest.raises(P2Error, match=r"holds another run: train\.seed was 0, is 1\. .* choose another --out"):
        run(other, folder, console=QUIET)


def test_another_recipe_in_an_unfinished_folder_is_refused_by_name(recipe, finished, tmp_path):
    folder, result = finished
    (tmp_path / "run.json").write_text(json.dumps(result | {"status": "running"}))
    shutil.copy(folder / "recipe.yaml", tmp_path)
    with pytest.raises(P2Error, match=r"holds another run: train\.lr_peak was \S+, is 0\.5"):
        extend(tmp_path, replace(recipe, train=replace(recipe.train, lr_peak=0.5)), resume=True)


def test_the_resolved_recipe_in_the_folder_is_the_same_experiment(finished, recipe):
    folder, _ = finished
    again = load_recipe(folder / "recipe.yaml")
    assert again.sha256 == recipe.sha256
    assert again.path(again.data.train.file) == recipe.path(recipe.data.train.file)


KILLS = """
import os, pathlib, signal, sys
import torch
import zoo.training.checkpoints, zoo.run.record, zoo.run.pipeline
from zoo.recipe.files import load_recipe
from zoo.run.folder import RunFolder

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(moment):
    append = RunFolder.append
    def half_a_row(self, row):
        if row["tokens"] < 700:
            return append(self, row)
        with self.log.open("a") as file:
            file.write('{"tokens": 7')
        die()
    if moment == "before the first checkpoint":
        RunFolder.append = lambda self, row: die() if row["tokens"] else append(self, row)
    elif moment == "in the middle of a row":
        RunFolder.append = half_a_row
    elif moment == "in the middle of a save":
        torch.save = die
    elif moment == "after the save, before its marker":
        zoo.training.checkpoints.write_atomic = die
    elif moment == "after the last step":
        zoo.run.record.write_log = die

recipe, out, moments = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3].split(";")
for moment in moments:  # each in a process of its own, which has the imports already
    child = os.fork()
    if not child:
        die_at(moment)
        zoo.run.pipeline.run(load_recipe(recipe, sys.argv[4:]), out, resume=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, moment
    assert not (out / "log.parquet").exists(), moment
"""
MOMENTS = (
    "before the first checkpoint",
    "in the middle of a row",
    "in the middle of a save",
    "after the save, before its marker",
    "after the last step",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moments", [pytest.param(MOMENTS[:3], marks=pytest.mark.sample), MOMENTS], ids=["three", "five"]
)
def test_killed_again_and_again_it_ends_the_same_to_the_last_bit(finished, recipe, bench_folder, tmp_path, moments):
    folder = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLS, bench_folder / "recipe.yaml", folder, ";".join(moments), *SPARSE],
        env=os.environ
        | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with pytest.raises(P2Error, match="add --resume"):
        run(recipe, folder, console=QUIET)
    run(recipe, folder, resume=True, console=QUIET)
    whole, resumed = (pd.read_parquet(f / "log.parquet").drop(columns=list(VOLATILE)) for f in (finished[0], folder))
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    weights = [(f / "model" / "model.safetensors").read_bytes() for f in (finished[0], folder)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_the_command_tells_on_stderr_what_takes_a_while(bench_folder, tmp_path):
    done = p2zoo("run", bench_folder / "recipe.yaml", "--out", tmp_path / "run", "--json")
    assert json.loads(done.stdout)["status"] == "finished"
    told = [line for line in done.stderr.splitlines() if line.endswith(" ...")]
    assert [words.split()[0] for words in told] == [
        "loading", "finding", "tokenizing", "loading", "pruning", "saving", "saving",
    ]  # fmt: skip


class Stopping(io.StringIO):
    """A screen that sends this process SIGTERM once it shows some words."""

    def __init__(self, words: str):
        super().__init__()
        self.words = words

    def write(self, text: str) -> int:
        if self.words in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


@pytest.mark.slow
@pytest.mark.sample
def test_stopped_early_it_says_whether_there_is_something_to_go_on_from(recipe, tmp_path):
    folder = tmp_path / "stopped"
    stops = (
        ("parameters (rate", "before anything was saved"),
        ("model/ loads back", "with what was done so far saved"),
    )
    for resume, (words, said) in enumerate(stops):
        with pytest.raises(Preempted, match=said) as stopped:
            run(recipe, folder, resume=bool(resume), console=Console(file=Stopping(words), width=200))
        assert stopped.value.exit_code == 75
    assert run(recipe, folder, resume=True, console=QUIET)["status"] == "finished"


def test_changed_text_stops_a_resume(recipe, bench_folder, tmp_path):
    """Goes on from a folder that was pinned to other text."""
    folder = tmp_path / "run"
    folder.mkdir()
    state = {"status": "running", "name": recipe.name, "recipe_sha256": recipe.sha256}
    state["inputs"] = {"model": "another", "train": "another", "heldout": "another"}
    (folder / "run.json").write_text(json.dumps(state))
    with pytest.raises(P2Error, match="model, train, heldout changed since the run began"):
        run(recipe, folder, resume=True, console=QUIET)


def test_a_demo_that_was_cut_off_goes_on(tmp_path):
    from zoo.cli.demo import RECIPES, steps

    (tmp_path / "width").mkdir()
    (tmp_path / "width" / "run.json").write_text("{}")
    runs = [step.command for step in steps(tmp_path) if step.command.startswith("run ")]
    assert [name for name, command in zip(RECIPES, runs, strict=True) if "--resume" in command] == ["width"]


def test_a_demo_may_stand_in_a_folder_with_a_space(tmp_path):
    from zoo.cli.demo import RECIPES, steps

    words = [shlex.split(step.command) for step in steps(tmp_path / "a b")]
    outs = [command[command.index("--out") + 1] for command in words if command[0] == "run"]
    assert outs == [str(tmp_path / "a b" / name) for name in RECIPES]
    assert ["check", str(tmp_path / "a b")] in words
