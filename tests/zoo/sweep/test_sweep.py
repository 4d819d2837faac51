"""`p2zoo sweep` on small recipes: what runs, what is skipped, what goes on, what one failure does; and its report."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from leaderboard import load_logs
from leaderboard.logs.load import SEED
from tests.commands import p2zoo, until
from zoo.devhub import client_env, serve
from zoo.jobs.request import MOUNT
from zoo.recipe.catalog import recipes_folder
from zoo.recipe.files import load_recipe
from zoo.run.pipeline import run
from zoo.sweep.report import gather, of_folders
from zoo.sweep.report_page import page
from zoo.sweep.sweep import plan

SHORT = ["train.tokens=512", "train.checkpoint_tokens=256"]


@pytest.fixture(scope="module")
def swept(bench_folder, tmp_path_factory):
    """A folder of five recipes and what a sweep of it said: one finished before, one cut off, two that cannot run."""
    root = tmp_path_factory.mktemp("sweep")
    recipes, out = root / "recipes", root / "out"
    recipes.mkdir()
    texts = {
        "base": "extends: ../bench/recipe.yaml\n",
        "before": "extends: base.yaml\n",
        "cut": "extends: base.yaml\ntrain: {seed: 1}\n",
        "refused": "extends: base.yaml\nprune: {rate: 1.5}\n",
        "broken": "extends: base.yaml\nname: broken\nmodel: {name: ./wordy}\n",
    }
    (root / "bench").symlink_to(bench_folder)
    shutil.copytree(bench_folder / "model", recipes / "wordy")
    shutil.copy(
        recipes_folder() / "quickstart" / "tiny-llama-3" / "tokenizer.json", recipes / "wordy"
    )  # of another model
    for name, text in texts.items():
        (recipes / f"{name}.yaml").write_text(text)
    cache = {"P2ZOO_CACHE": str(root / "cache")}
    before = run(load_recipe(recipes / "before.yaml", SHORT), out / "recipes-before", console=Console(quiet=True))
    cut = load_recipe(recipes / "cut.yaml", SHORT)
    (out / cut.name).mkdir()
    state = {"status": "running", "name": cut.name, "recipe_sha256": cut.sha256}
    (out / cut.name / "run.json").write_text(json.dumps(state))
    sets = [word for change in SHORT for word in ("--set", change)]
    command = ["sweep", recipes, "--out", out, "--jobs", "2", *sets]
    return command, out, before, p2zoo(*command, "--json", **cache)


def test_a_sweep_skips_resumes_and_goes_on_after_a_failure(swept):
    _, out, before, done = swept
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert {run["name"]: run["status"] for run in result["runs"]} == {
        "recipes-before": "finished", "recipes-cut": "finished", "recipes-refused": "refused", "broken": "refused",
    }  # fmt: skip
    assert json.loads((out / "recipes-before" / "run.json").read_text()) == before
    why = {run["name"]: run["why"] for run in result["runs"]}
    assert "allowed is" in why["recipes-refused"]
    assert "they are not of one model" in why["broken"]
    assert "recipes-before: was finished before" in done.stderr
    assert "recipes-cut: goes on" in done.stderr


def test_the_report_holds_every_run_and_needs_no_other_file(swept):
    _, out, before, _ = swept
    text = (out / "report.html").read_text()
    for words in ("recipes-before", "recipes-cut", f"{before['loss']:.4f}", "they are not of one model", "CPU-hours"):
        assert words in text
    assert text.count("<svg") == 3
    assert not re.search(r'<script|<link|<img|src="|@import', text)


def test_a_dry_run_starts_nothing_and_says_what_it_would_cost(swept):
    command, out, _, _ = swept
    before = sorted(out.rglob("*"))
    done = p2zoo(*command, "--dry-run")
    assert done.returncode == 1  # of the recipe that is refused
    assert re.search(r"recipes-cut +finished +512 tokens", done.stdout)
    assert "6 FLOPs a parameter and token at 40% of the card's bf16 peak" in done.stdout
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    ("where", "said"), [("nowhere", "no recipe there"), ("quickstart", None), ("recipes/*/depth*.yaml", None)]
)
def test_recipes_are_found_by_folder_pattern_and_group(where, said, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    if said is None:
        assert all(item.status == "new" for item in plan(where, tmp_path))
    else:
        with pytest.raises(ValueError, match=said):
            plan(where, tmp_path)


def test_changes_reach_base_models_only_where_all_are(tmp_path):
    change = ["train.tokens=8_192_000"]
    bases = plan("ladder/bases", tmp_path, change)
    assert {item.planned.tokens for item in bases} == {8_192_000}
    assert all("train.tokens=8_192_000" in item.words for item in bases)
    base, pruned = plan("recipes/ladder/mistral-s2-2of4.yaml", tmp_path, change)
    assert (base.words, base.planned.tokens > 50_000_000) == ((), True)
    assert pruned.planned.tokens == 8_192_000


@pytest.mark.slow
def test_no_job_starts_without_a_wheel(tmp_path):
    done = p2zoo("sweep", "quickstart", "--on", "hf-jobs:h200", "--wheel", "none.whl", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "none.whl is no wheel file" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_job_gets_the_wheel(tmp_path):
    """No job runs here: the Hub on this machine has no such service, and the child ends with that."""
    (tmp_path / "p2zoo.whl").touch()
    recipe = Path(__file__).parents[3] / "recipes" / "quickstart" / "depth.yaml"
    command = ["sweep", recipe, "--on", "hf-jobs:h200", "--wheel", tmp_path / "p2zoo.whl", "--out", tmp_path / "out"]
    with serve(tmp_path / "hub", {"me": "hf_me"}) as url:
        done = p2zoo(*command, **client_env(url, "hf_me"))
    assert done.returncode == 1
    said = (tmp_path / "out" / "quickstart-depth.log").read_text()
    assert f"installs     p2zoo[train] @ file://{MOUNT}/p2zoo.whl" in said


def test_a_gpu_that_is_not_in_the_table_is_refused_in_the_words_of_a_sweep(tmp_path):
    done = p2zoo("sweep", "quickstart", "--gpu", "h1000", "--out", tmp_path, "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: sweep: unknown gpu 'h1000'. Did you mean 'h100'?")


@pytest.mark.slow
def test_where_to_publish_is_refused_without_publish(tmp_path):
    done = p2zoo("sweep", "quickstart", "--to", "me", "--out", tmp_path, "--dry-run")
    assert done.returncode == 2
    assert "go with --publish" in done.stderr


def test_laws_are_ranked_in_the_report_where_the_runs_can_test_them():
    frame = load_logs().frame.query("family == 'llama-3' and method in ('depth', 'none')")
    report = gather(frame, "Ladder")
    assert report.laws["rank"].iloc[0] == 1
    assert report.next_run is not None
    assert report.law == report.laws["law"].iloc[0]
    assert f"<td>{report.law}</td><td>1</td>" in page(report)


def test_a_run_in_two_folders_costs_the_report_no_law(tmp_path):
    seed = load_logs().frame.query("family == 'llama-3' and method == 'depth'")
    runs = list(seed["run_id"].astype(str).unique())
    folders = [tmp_path / f"{place}" for place in range(len(runs) + 1)]
    for folder, run_id in zip(folders, [*runs, runs[0]], strict=True):
        folder.mkdir()
        shutil.copy(SEED / "p2lab" / f"{run_id}.parquet", folder)
        (folder / "run.json").write_text(json.dumps({"status": "finished", "run_id": run_id, "name": folder.name}))
    report = of_folders(folders, "Twice")
    assert len(report.runs) == len(runs)
    assert report.laws["rmse_fit"].notna().any()
    assert report.notes[0].startswith(f"Left out: {folders[-1]}: run {runs[0]}: ")


@pytest.mark.slow
def test_a_sweep_that_is_told_to_leave_stops_its_runs(bench_folder, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "long.yaml").write_text(f"extends: {bench_folder / 'recipe.yaml'}\nname: long\n")
    command = [sys.executable, "-m", "zoo", "sweep", tmp_path / "recipes", "--out", tmp_path / "out"]
    command += ["--set", "train.tokens=12_288"]
    cache = {"P2ZOO_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, env=os.environ | cache, stderr=subprocess.PIPE, start_new_session=True) as sweep:
        until(lambda: (tmp_path / "out" / "long" / "run.json").exists() or sweep.poll() is not None)
        sweep.terminate()
        _, said = sweep.communicate(timeout=200)
    assert sweep.returncode == 75, said
    assert "stopped by SIGTERM" in (tmp_path / "out" / "long.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.killpg(sweep.pid, 0)
