"""`p2zoo tune`: rounds that halve the rates and double the tokens, every run a checked log, the winner a recipe."""

import json

import pytest

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files
from tests.commands import p2zoo
from zoo.recipe.files import load_recipe
from zoo.sweep.tune import plan_tuning


def test_rounds_halve_the_rates_and_double_the_tokens(bench_folder, tmp_path):
    path = bench_folder / "recipe.yaml"
    tuning = plan_tuning(path, tmp_path, tokens=1_024)
    assert tuning.rates == (0.00025, 0.0005, 0.001, 0.002, 0.004)
    assert tuning.tokens == (256, 512, 1024)
    assert tuning.trained == 5 * 256 + 3 * 256 + 2 * 512
    anew = plan_tuning(path, tmp_path, tokens=1_024, sets=["train.schedule=cosine"])
    assert anew.trained == 5 * 256 + 3 * 512 + 2 * 1024
    for rates, tokens, message in (
        ([0.1], None, r"--rates: got 0\.1, allowed are two or more"),
        ([0.1, 2.0], None, r"--rates: got 0\.1, 2, allowed"),
        ([0.1, 0.2, 0.3], 256, r"--tokens: got 256 for the last of 2 rounds, .* allowed is 512 or more"),
    ):
        with pytest.raises(P2Error, match=message):
            plan_tuning(path, tmp_path, rates, tokens)


@pytest.mark.slow
def test_the_winner_is_written_as_a_recipe_and_all_runs_are_logged(bench_folder, tmp_path):
    out = tmp_path / "tuned"
    words = ("tune", bench_folder / "recipe.yaml", "--rates", "1e-6,0.003,0.01", "--tokens", "512", "--out", out)
    done = p2zoo(*words, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [(row["round"], row["tokens"]) for row in said["runs"]] == [(1, 256)] * 3 + [(2, 512)] * 2
    assert [row["lr_peak"] for row in said["runs"] if not row["kept"] and row["round"] == 1] == [1e-6]
    assert said["lr_peak"] == min((row["loss"], row["lr_peak"]) for row in said["runs"] if row["round"] == 2)[1]
    winner, recipe = load_recipe(out / "winner.yaml"), load_recipe(bench_folder / "recipe.yaml")
    assert (winner.train.lr_peak, winner.train.tokens) == (said["lr_peak"], recipe.train.tokens)
    checked = check_files(sorted(out.glob("*/log.parquet")))
    assert [report.findings for report in checked.reports] == [()] * 3
    assert sorted(checked.frame.groupby("run_id", observed=True)["tokens"].max()) == [256, 512, 512]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    assert json.loads(p2zoo(*words, "--json").stdout) == said
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
