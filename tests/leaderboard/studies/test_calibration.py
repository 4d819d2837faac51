"""Coverage is counted right, folds are what they say, and nothing held out reaches what is judged on it."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import P2Error
from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.planning.mixture import AXES, WITH_DAMAGE, WITHOUT_DAMAGE
from leaderboard.planning.recommend import mixture
from leaderboard.studies.calibration import (
    _missed,
    calibrate,
    fit_width,
    hold_outs,
    ordered,
    summary,
    trials_of,
    widths,
)


@pytest.fixture(scope="module")
def text(seed):
    rows = usable(seed[seed["method"].isin(["depth", "none"])]).reset_index(drop=True)
    return rows.assign(curve=curve_numbers(rows))


def test_every_ordered_hold_out_is_there_and_tests_only_what_it_holds(text):
    kinds = set()
    for fold in ordered(text):
        kinds.add(fold.kind)
        assert not (fold.test & ~fold.held).any()
    assert kinds == {
        "size", "other sizes", "rate", "lowest rate", "size and rate", "tokens", "size and tokens", "rate and tokens",
        "family",
    }  # fmt: skip


def test_held_out_losses_reach_no_weight_and_no_prediction(text):
    fold = next(f for f in ordered(text) if f.kind == "size")
    spoiled = text.assign(loss=np.where(fold.held, 9.0, text["loss"]))
    (one,), (other,) = ([t for t in trials_of(rows, fold) if t.known][:1] for rows in (text, spoiled))
    assert one.fitted.errors == other.fitted.errors
    np.testing.assert_array_equal(one.fitted.predict(one.rows), other.fitted.predict(one.rows))


def test_growth_and_scale_are_found_where_they_are_known():
    rng = np.random.default_rng(0)
    sd, reach = 0.01, np.repeat([0.0, 0.05], [7600, 400]) ** 2
    error = 0.5**2 * rng.normal(0, np.sqrt(sd**2 + 0.4**2 * reach)) ** 2
    about = {"kind": "tokens", "fold": "a", "curve": np.arange(8000), "error": error, "variance": sd**2}
    missed = pd.DataFrame(about | dict.fromkeys(AXES, 0.0) | {"tokens": reach, "t": 1.2816})
    width = fit_width(missed, known=True)
    assert width.scale == pytest.approx(0.5, abs=0.03)
    assert width.growth["tokens"] == pytest.approx(0.4, abs=0.06)


def test_one_run_cannot_be_held_out(text):
    with pytest.raises(P2Error, match="calibration: no run"):
        hold_outs(text[text["curve"] == 0].drop(columns="curve"))


@pytest.mark.slow
def test_the_seeds_intervals_cover_what_they_promise_with_the_width_that_answers_take(seed):
    trials = hold_outs(seed)
    overall = summary(calibrate(trials)).query("kind == 'all'")
    assert overall["loss_80"].between(0.72, 0.9).all()
    assert overall["tokens_80"].between(0.72, 0.9).all()
    assert (overall[["loss_95", "tokens_95"]] >= 0.9).all(axis=None)
    for row in widths(trials).to_dict("records"):
        taken = WITH_DAMAGE if row["l_pruned_known"] else WITHOUT_DAMAGE
        assert taken.scale == pytest.approx(row["scale"], abs=0.02)
        assert taken.growth == pytest.approx({axis: row[axis] for axis in AXES}, abs=0.03)


def test_a_missed_loss_is_counted_on_its_own_side(text):
    fold = next(f for f in ordered(text) if f.kind == "size")
    trial = next(t for t in trials_of(text, fold) if t.known)
    missed = _missed(trial)
    assert (missed["variance"] > 0).all()
    assert len(missed) == len(trial.rows)
    assert mixture(text[~fold.held], trial.fitted.group, None, True).errors == trial.fitted.errors
