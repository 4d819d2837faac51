"""Noisy curves against the law of clean ones: a planted shift is found, and none is found where there is none."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, fit
from leaderboard.logs.contract import usable
from leaderboard.studies.noise_shift import shift

OFFSET, SCALE = 0.03, 1.15


@pytest.fixture(scope="module")
def group(seed: pd.DataFrame) -> pd.DataFrame:
    return usable(seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")])


def _measured(design: pd.DataFrame, rng: np.random.Generator, offset: float = 0.0, scale: float = 1.0) -> pd.DataFrame:
    """Curves of the planted law, shifted, with noise of whole runs and of rows."""
    excess = fit(LAWS["p2-no-nc"], design).predict(design) - design["l0"]
    run = pd.factorize(design["run_id"])[0]
    noise = rng.normal(0, 0.006, run.max() + 1)[run] + rng.normal(0, 0.003, len(design))
    return design.assign(loss=design["l0"] + offset + scale * excess + noise)


@pytest.mark.parametrize(("data_sets", "most"), [(4, 0.7), pytest.param(40, 0.85, marks=pytest.mark.slow)])
def test_a_planted_shift_is_found_and_none_where_there_is_none(group, data_sets, most):
    found, held = [], []
    for data_set in range(data_sets):
        rng = np.random.default_rng(data_set)
        clean, same = _measured(group, rng), _measured(group, rng)
        moved = shift(clean, _measured(group, rng, OFFSET, SCALE), "p2-no-nc", seed=data_set)
        found.append(moved)
        held.append(moved.offset.holds(OFFSET) and moved.scale.holds(SCALE))
        still = shift(clean, same, "p2-no-nc", seed=data_set)
        held.append(bool(still.predicted))
    assert all(one.predicted is False for one in found)
    assert np.mean(held) > most
    assert np.mean([one.offset.value for one in found]) == pytest.approx(OFFSET, abs=0.005)
    assert np.mean([one.scale.value for one in found]) == pytest.approx(SCALE, abs=0.02)
    assert max(one.rmse_shifted for one in found) < 0.015 < min(one.rmse_noisy for one in found)


def test_two_noisy_runs_give_numbers_and_no_verdict(group):
    two = group[group["run_id"].isin(sorted(set(group["run_id"]))[:2])]
    told = shift(group, two, "p2-no-nc")
    assert told.noisy_runs == 2
    assert told.predicted is None
    assert np.isfinite(told.gap.value)


def test_other_text_is_refused(group):
    with pytest.raises(P2Error, match="differ in eval_data"):
        shift(group, group.assign(eval_data="other"))
