"""The predicted curve passes through the answer, the band holds it, and what lies outside the data is named."""

import numpy as np
import pytest

from leaderboard import load_logs
from leaderboard.planning.budget import Question, answer
from leaderboard.planning.outlook import beyond, nearest_runs, outlook
from leaderboard.planning.recommend import predictor


def asked(**changes):
    known = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72, "excess": 0.05}
    return Question(**(known | changes))


@pytest.fixture(scope="module")
def frame():
    return load_logs().frame


@pytest.fixture(scope="module")
def found(frame):
    return predictor(frame, family="llama-3", method="depth", law="p2")


def test_the_curve_meets_the_goal_at_the_answer_inside_its_band(found):
    question = asked()
    tokens = answer(found, question).tokens
    curve = outlook(found, question, tokens)
    at = np.interp(np.log(tokens), np.log(curve["tokens"]), curve["loss"])
    assert at == pytest.approx(2.77, abs=2e-4)
    assert ((curve["low"] < curve["loss"]) & (curve["loss"] < curve["high"])).all()


def test_a_higher_level_has_a_wider_band(found):
    narrow, wide = (outlook(found, asked(), None, level) for level in (0.8, 0.95))
    assert (wide["high"] - wide["low"] > narrow["high"] - narrow["low"]).all()


def test_the_nearest_run_is_the_one_of_that_size_and_rate(frame, found):
    near = nearest_runs(frame, found.group, asked(rate=0.26, n0=33.9e6))
    assert near["run_id"].iloc[0] == "1972cf7b8b54a76d"
    assert near["run_id"].nunique() == 3
    assert near.groupby("run_id", sort=False)["distance"].first().is_monotonic_increasing


def test_no_run_of_the_kind_means_no_rows(frame):
    group = {"family": "llama-3", "method": "width", "eval_data": "another text", "objective": "clm"}
    assert nearest_runs(frame, group, asked()).empty


def test_a_question_inside_is_beyond_nothing_and_one_outside_says_by_how_much(found):
    assert beyond(found, asked(), 5e6) == []
    out = beyond(found, asked(n0=340e6, rate=0.6), 1e9)
    assert [b.what for b in out] == ["tokens", "size", "rate"]
    assert out[1].factor == pytest.approx(340e6 / found.rows["n0"].max())
    assert beyond(found, asked(n0=1e6), 0)[0].factor == pytest.approx(found.rows["n0"].min() / 1e6)
    (unreachable,) = beyond(found, asked(), None)
    assert (unreachable.what, unreachable.value) == ("tokens", 1e13)
