"""Nodes stand for whole curves: the same optimum from a few numbers a run."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, fit, rank
from leaderboard.fitting.compressed import compress, plain
from leaderboard.laws.law import Law

SMOOTH = {"p2", "damage-drift", "kaplan", "compression", "chinchilla"}


def _runs(evaluations: int, span: float, runs: int = 9, shared: bool = False, seed: int = 0) -> pd.DataFrame:
    """Noisy P² curves of three sizes and three rates over a token range of `span` times."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(runs):
        n0, rate = (1e9, 3e9, 8e9)[i % 3], (0.15, 0.25, 0.35)[i // 3 % 3]
        top = 1e9 if shared else 1e9 * rng.uniform(0.5, 2)
        tokens = np.geomspace(top / span, top, evaluations).round()
        excess = (1 / rate) ** -1.5 * n0**-0.02 * (0.4 * (tokens / 1e9) ** -0.3 + 0.5)
        rows.append(pd.DataFrame({"tokens": tokens, "loss": 2.5 + excess + rng.normal(0, 0.003, evaluations)}))
        rows[-1] = rows[-1].assign(run_id=f"r{i}", base_model=f"{n0:g}", n0=n0, rate=rate, l0=2.5, l_pruned=3 + rate)
    return pd.concat(rows, ignore_index=True).assign(n_pruned=lambda d: d["n0"] * (1 - d["rate"]))


@pytest.mark.parametrize("shared", [True, False], ids=["one token grid", "a grid a run"])
@pytest.mark.parametrize("name", sorted(SMOOTH))
@pytest.mark.parametrize("loss", ["ls", "log-ls"])
def test_the_sum_of_squares_is_that_of_all_rows(name: str, loss: str, shared: bool):
    frame = _runs(150, 60, shared=shared)
    law: Law = LAWS[name]
    curves = compress(frame, law.inputs)
    assert curves.operator is not None
    assert len(curves.frame) < len(frame) / 2
    fitted = fit(law, frame, loss=loss)
    error = np.log(fitted.predict(frame) / frame["loss"]) if loss == "log-ls" else fitted.predict(frame) - frame["loss"]
    assert fitted.objective == pytest.approx(0.5 * float((error**2).sum()), rel=1e-9)


def test_a_wide_token_range_gets_more_nodes():
    for span in (3, 1e3, 1e9):
        frame = _runs(600, span)
        fitted = fit(LAWS["p2"], frame)
        error = fitted.predict(frame) - frame["loss"]
        assert fitted.objective == pytest.approx(0.5 * float((error**2).sum()), rel=1e-8)


def test_short_curves_and_inputs_that_change_in_a_run_stay_rows():
    frame = _runs(20, 60)
    assert compress(frame, LAWS["p2"].inputs).operator is None
    changing = _runs(150, 60)
    changing.loc[3, "rate"] = 0.2
    assert compress(changing, LAWS["p2"].inputs).operator is None
    assert len(plain(changing).frame) == len(changing)


def test_the_fit_of_a_shuffled_frame_is_the_same_to_the_ninth_digit():
    frame = _runs(150, 60)
    one, other = fit(LAWS["p2"], frame), fit(LAWS["p2"], frame.sample(frac=1, random_state=1))
    assert one.objective == pytest.approx(other.objective, rel=1e-9)
    np.testing.assert_allclose(one.predict(frame), other.predict(frame), rtol=1e-9)


def test_runs_that_a_law_cannot_tell_apart_are_merged_and_nothing_is_lost():
    one = _runs(150, 60, shared=True)
    many = pd.concat(
        [_runs(150, 60, shared=True, seed=s).assign(run_id=lambda d, s=s: d["run_id"] + f"-{s}") for s in range(6)]
    )
    curves = compress(many)
    merged = curves.merged(LAWS["p2"].inputs)
    assert (curves.runs, merged.runs) == (54, 9)
    fitted = fit(LAWS["p2"], many)
    error = fitted.predict(many) - many["loss"]
    assert fitted.objective == pytest.approx(0.5 * float((error**2).sum()), rel=1e-9)
    assert fitted.n_runs == 54
    assert fitted.rmse == pytest.approx(float(np.sqrt((error**2).mean())), rel=1e-9)
    assert compress(one).merged(LAWS["p2"].inputs).runs == 9


@pytest.mark.parametrize("name", ["p2", "damage", "chinchilla"])
def test_curves_made_once_give_the_same_fit(name: str):
    frame = _runs(150, 60)
    frame.loc[frame["run_id"] == "r4", "l_pruned"] = 2.0  # below l0: the damage law leaves that run out
    prepared, own = fit(LAWS[name], frame, curves=compress(frame)), fit(LAWS[name], frame)
    assert prepared.objective == pytest.approx(own.objective, rel=1e-12)
    assert (prepared.n_rows, prepared.n_runs, prepared.pinned) == (own.n_rows, own.n_runs, own.pinned)


def test_long_curves_are_ranked():
    frame = _runs(150, 60).assign(family="llama-3", method="depth", eval_data="text", objective="clm")
    table = rank(frame, {name: LAWS[name] for name in ("p2-no-nc", "damage")})
    assert table["rank"].notna().all()
