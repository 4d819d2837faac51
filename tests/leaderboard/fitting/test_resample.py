"""Intervals by whole runs: seeded, told apart for the mean curve and a new run, and covering what they say."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, fit, recommend_tokens
from leaderboard.fitting.resample import METHODS, resample
from leaderboard.logs.contract import usable

RUN_SD, ROW_SD, CORRELATION = 0.006, 0.004, 0.7  # as in the seed: between runs, within a run, of neighbouring rows


@pytest.fixture(scope="module")
def group(seed: pd.DataFrame) -> pd.DataFrame:
    """One group of the seed: ten runs, three sizes, three rates."""
    return usable(seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")])


def _simulate(design: pd.DataFrame, truth: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Losses around `truth` with an effect of the whole run and autocorrelated noise within it."""
    run = pd.factorize(design["run_id"])[0]
    noise = rng.normal(0, ROW_SD, len(design))
    for i in range(1, len(design)):
        if run[i] == run[i - 1]:
            noise[i] = CORRELATION * noise[i - 1] + np.sqrt(1 - CORRELATION**2) * noise[i]
    return design.assign(loss=truth + rng.normal(0, RUN_SD, run.max() + 1)[run] + noise)


def _coverage(group: pd.DataFrame, name: str, method: str, data_sets: int) -> tuple[float, float]:
    """Share of data sets whose 90 % intervals hold the mean curve, and a new run's loss, over four questions."""
    law = LAWS[name]
    planted = fit(law, group)
    ends = group.sort_values("tokens").groupby("run_id", observed=True).tail(1)
    asked = pd.concat([ends.iloc[[0, 5, -1]], ends.iloc[[5]].assign(n0=2e7, rate=0.25, tokens=2e7)])
    asked = asked.assign(l_pruned=asked["l0"] + 0.5)
    truth, rng = planted.predict(group), np.random.default_rng(1)
    mean_hits, new_hits = [], []
    for data_set in range(data_sets):
        frame = _simulate(group, truth, rng)
        spread = resample(fit(law, frame), frame, method, draws=100, seed=data_set)
        low, high = spread.interval(asked, 0.9)
        mean_hits.append((low <= planted.predict(asked)) & (planted.predict(asked) <= high))
        low, high = spread.interval(asked, 0.9, new_run=True)
        new = planted.predict(asked) + rng.normal(0, RUN_SD) + rng.normal(0, ROW_SD, len(asked))
        new_hits.append((low <= new) & (new <= high))
    return float(np.mean(mean_hits)), float(np.mean(new_hits))


@pytest.mark.parametrize(("data_sets", "off"), [(20, 0.1), pytest.param(200, 0.0, marks=pytest.mark.slow)])
def test_ninety_percent_intervals_cover_ninety_percent(group, data_sets, off):
    """`off`: how much further from ninety percent a few data sets may be."""
    mean, new = _coverage(group, "p2-no-nc", "wild", data_sets)
    assert 0.85 - off <= mean <= 0.95 + off
    assert 0.85 - off <= new <= 0.97 + off


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["p2", "p2-no-nc", "damage", "damage-drift"])
def test_coverage_of_every_law_that_answers(group, name, method):
    mean, new = _coverage(group, name, method, 200)
    assert 0.80 <= mean <= 0.95, (mean, new)
    assert 0.85 <= new <= 0.97, (mean, new)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_and_the_mean_curve_is_narrower_than_a_new_run(group, method):
    fitted = fit(LAWS["damage"], group)
    one, same, other = (resample(fitted, group, method, draws=60, seed=s) for s in (0, 0, 1))
    asked = group.head(5)
    np.testing.assert_array_equal(one.predict(asked), same.predict(asked))
    assert (one.predict(asked) != other.predict(asked)).any()
    (mean_low, mean_high), (new_low, new_high) = one.interval(asked), one.interval(asked, new_run=True)
    assert (new_low < mean_low).all()
    assert (mean_high < new_high).all()
    assert (mean_low <= fitted.predict(asked)).all()


def test_rows_of_one_curve_are_not_taken_for_independent(group):
    """Ten times the evaluations of the same runs tell little more about a new run."""
    denser = pd.concat([group.assign(tokens=group["tokens"] + i) for i in range(10)], ignore_index=True)
    widths: list[float] = []
    for frame in (group, denser):
        low, high = resample(fit(LAWS["damage"], frame), frame, draws=200).interval(group.tail(1))
        widths.append(float(high[0] - low[0]))
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_budget_intervals_hold_the_answer_and_widen_with_the_level(seed):
    ask: Callable[..., object] = lambda **goal: recommend_tokens(  # noqa: E731
        seed, family="llama-3", method="depth", rate=0.2, n0=2e7, l0=2.8, law="p2-no-nc", **goal
    )
    for goal in ({"excess": 0.06}, {"gain": 0.01}):
        answer = ask(**goal)
        (low_80, high_80), (low_95, high_95) = answer.tokens_80, answer.tokens_95
        assert low_95 <= low_80 <= answer.tokens <= high_80 <= high_95
    assert ask(target_loss=0.1).tokens_80 is None  # no band of it reaches that


def test_too_few_runs_have_no_interval_and_that_is_said(seed):
    answer = recommend_tokens(
        seed, family="llama-3", method="2:4", rate=0.3, n0=1e7, l0=2.9, law="p2-no-nc", excess=0.1
    )
    assert answer.tokens_80 is None
    assert any("too few for an interval" in line for line in answer.why)


def test_unknown_methods_are_refused(group):
    with pytest.raises(P2Error, match="Did you mean 'wild'"):
        resample(fit(LAWS["damage"], group), group, "wilde")
