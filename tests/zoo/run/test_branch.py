"""A decay branch: the trunk's rows, then a rate that goes to 0; a run of its own; what is no branch is refused."""

import numpy as np
import pandas as pd
import pytest

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files
from tests.commands import p2zoo
from tests.zoo.run.test_pipeline import QUIET
from zoo.recipe.files import load_recipe
from zoo.run.extension import look_at_trunk
from zoo.run.pipeline import run


@pytest.fixture(scope="module")
def trunk(bench_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("trunk") / "trunk"
        run(load_recipe(bench_folder / "recipe.yaml", ["train.tokens=512"]), folder, console=QUIET, keep=True)
        yield folder


def asked(bench_folder, trunk, tokens, *more):
    own = [f"train.tokens={tokens}", "train.schedule=wsd", f"train.trunk={trunk}", *more]
    return load_recipe(bench_folder / "recipe.yaml", own)


@pytest.mark.slow
def test_a_branch_has_the_rows_of_its_trunk_and_decays_from_there(trunk, bench_folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in trunk.rglob("*")}
    state = run(asked(bench_folder, trunk, 1024), tmp_path / "branch", console=QUIET)
    assert before == {path: path.stat().st_mtime_ns for path in trunk.rglob("*")}
    stem, log = (pd.read_parquet(folder / "log.parquet") for folder in (trunk, tmp_path / "branch"))
    assert (log[["tokens", "loss"]][: len(stem)] == stem[["tokens", "loss"]]).all(axis=None)
    assert state["run_id"] != stem["run_id"][0] == log["trunk"].unique()
    assert log["extends"].isna().all()
    rates = log["lr"][len(stem) :]
    assert (np.diff(rates) < 0).all()
    assert rates.iloc[-1] == pytest.approx(0.001 / 4)  # of the last of four steps
    (report,) = check_files([tmp_path / "branch" / "log.parquet"]).reports
    assert not report.findings


def test_what_is_no_branch_is_refused_in_words(trunk, bench_folder, tmp_path):
    for recipe, message in (
        (asked(bench_folder, trunk, 512), "has trained on 512 tokens already"),
        (asked(bench_folder, trunk, 1024, "train.seed=3"), "train.seed was 0, is 3"),
        (asked(bench_folder, tmp_path, 1024), r"train\.trunk: .* holds no run"),
    ):
        with pytest.raises(P2Error, match=message):
            look_at_trunk(recipe)
    with pytest.raises(P2Error, match=r"train\.trunk: got './x' with the schedule constant, allowed is"):
        load_recipe(bench_folder / "recipe.yaml", ["train.trunk=./x"])


@pytest.mark.slow
def test_a_whole_run_may_warm_up_stay_and_decay(bench_folder, tmp_path):
    out = tmp_path / "run"
    more = ("--set", "train.schedule=wsd", "--set", "train.warmup_tokens=256")
    assert p2zoo("run", bench_folder / "recipe.yaml", *more, "--out", out).returncode == 0
    rates = pd.read_parquet(out / "log.parquet")["lr"][1:]
    assert rates.max() == 0.001
    assert rates.iloc[-1] < 0.001
