"""Watched by trackio: a run that stops and goes on is one plot, beside the run folder, without a point twice."""

import json
import sqlite3

import pytest

from leaderboard.errors import P2Error
from tests.commands import p2zoo
from zoo.recipe.files import load_recipe
from zoo.run.watch import check_installed


def points(folder):
    """(run id, tokens, values) of every point that was plotted."""
    with sqlite3.connect(folder / "trackio" / "p2zoo.db") as base:
        rows = base.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    assert {name for _, name, _, _ in rows} == {"run"}
    return [(run, step, json.loads(metrics)) for run, _, step, metrics in rows]


@pytest.mark.slow
def test_a_resumed_and_an_extended_run_go_on_in_the_same_plot(bench_folder, tmp_path):
    pytest.importorskip("trackio", reason="in the extra [watch]")
    words = ("run", bench_folder / "recipe.yaml", "--out", tmp_path / "run", "--set", "train.report_to=trackio")
    for more in (("--pilot", "40%"), ("--resume",), ("--set", "train.tokens=2048", "--resume")):
        done = p2zoo(*words, *more, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    plotted = points(tmp_path)
    assert len({run for run, _, _ in plotted}) == 1
    losses = [(tokens, values["loss"]) for _, tokens, values in plotted if "loss" in values]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses == [(row["tokens"], row["loss"]) for row in log]
    assert losses[0][0] == 0
    assert losses[-1][0] == 2048


def test_where_to_is_no_part_of_the_experiment_and_checked_before_it(bench_folder, monkeypatch):
    def recipe(to):
        return load_recipe(bench_folder / "recipe.yaml", [f"train.report_to={to}"])

    assert recipe("trackio:me/plots").sha256 == recipe("null").sha256
    with pytest.raises(P2Error, match=r"train\.report_to: got 'wandb', allowed is trackio or trackio:OWNER/SPACE"):
        recipe("wandb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_installed(recipe("null"))
    with pytest.raises(P2Error, match=r"trackio is not installed; pip install 'p2zoo\[watch\]'"):
        check_installed(recipe("trackio"))
