"""A pilot is the beginning of the recipe's own run: it forecasts, and nothing of it is lost."""

import json

import pandas as pd
import pytest

from leaderboard.errors import P2Error
from tests.commands import p2zoo
from tests.zoo.run.test_pipeline import QUIET
from zoo.estimate.pilot import pilot_line, pilot_steps, pilot_tokens
from zoo.recipe.files import load_recipe
from zoo.run.pipeline import run

MORE = ["train.schedule=cosine", "train.warmup_tokens=128"]


@pytest.fixture(scope="module")
def recipe(bench_folder):
    return load_recipe(bench_folder / "recipe.yaml", MORE)


@pytest.mark.slow
def test_a_pilot_forecasts_and_the_run_goes_on_as_if_there_had_been_none(recipe, bench_folder, tmp_path):
    folder = tmp_path / "run"
    sets = [word for item in MORE for word in ("--set", item)]
    words = ("run", bench_folder / "recipe.yaml", "--out", folder, *sets, "--pilot", "40%", "--json")
    told = json.loads(p2zoo(*words).stdout)
    assert told == json.loads(p2zoo("forecast", folder, "--json").stdout)
    assert (told["now"]["tokens"], told["now"]["rows"]) == (640, 4)
    assert [place["tokens"] for place in told["at"]] == [1536]
    assert told["run"]["method"] == "depth"
    state = json.loads((folder / "run.json").read_text())
    assert (state["status"], state["columns"]["schedule"]) == ("running", "cosine")
    again = p2zoo(*words)
    assert "add --resume" in again.stderr
    assert run(recipe, folder, resume=True, console=QUIET, pilot=512)["status"] == "running"
    assert run(recipe, folder, resume=True, console=QUIET)["status"] == "finished"
    run(recipe, tmp_path / "whole", console=QUIET)
    piloted, whole = (pd.read_parquet(path / "log.parquet") for path in (folder, tmp_path / "whole"))
    both = piloted.merge(whole, on="tokens", suffixes=("", "_whole"))
    assert len(both) == len(whole) < len(piloted)
    assert (both["loss"] == both["loss_whole"]).all()
    assert (both["lr"].fillna(0) == both["lr_whole"].fillna(0)).all()
    assert set(piloted["run_id"]) == set(whole["run_id"])
    models = [(path / "model" / "model.safetensors").read_bytes() for path in (folder, tmp_path / "whole")]
    assert models[0] == models[1]
    assert "columns" not in json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    ("wanted", "tokens"), [(1.0, 512), (30.0, 512), (512.0, 512), (513.0, 640), (1280.0, 1280), (1300.0, 1408)]
)
def test_whole_steps_and_enough_of_them_after_the_warm_up(recipe, wanted, tokens):
    assert pilot_tokens(recipe, wanted, "?") == tokens
    steps = pilot_steps(recipe, tokens)
    assert (steps[0], steps[-1]) == (2, tokens // 128)
    assert ("as few as a forecast takes after 1 of warm-up" in pilot_line(recipe, tokens)) == (tokens == 512)


@pytest.mark.parametrize("wanted", [0.0, -5.0, float("nan"), float("inf"), 1536.0, 1e12])
def test_what_is_no_beginning_is_refused(recipe, wanted):
    with pytest.raises(P2Error, match=r"--pilot: (got it, allowed is a share|it is the whole recipe)"):
        pilot_tokens(recipe, wanted, "it")


def test_a_recipe_of_few_steps_has_no_pilot(bench_folder):
    few = load_recipe(bench_folder / "recipe.yaml", ["train.tokens=384"])
    with pytest.raises(P2Error, match="has 3 steps, 0 of them warm-up, too few"):
        pilot_tokens(few, 128.0, "1")


@pytest.mark.slow
def test_the_dry_run_says_where_it_stops_and_jobs_take_none(bench_folder):
    words = ("run", bench_folder / "recipe.yaml", "--pilot", "2%", "--dry-run")
    assert "stops after 384 of 1,536 tokens (25.0 %; 3 steps" in p2zoo(*words).stdout
    assert json.loads(p2zoo(*words, "--json").stdout)["pilot_tokens"] == 384
    assert "--pilot runs here" in p2zoo(*words, "--on", "hf-jobs:h200").stderr
