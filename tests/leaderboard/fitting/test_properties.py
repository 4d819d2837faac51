"""Whatever the contract lets through fits or says why: never a traceback, never a non-finite number with status ok."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from leaderboard import LAWS, FitError, P2Error, fit, rank, recommend_tokens

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _answer(ask: Callable[[], Any]) -> Any:
    """What a call returns, or the P2Error that says why not; anything else fails the test."""
    try:
        return ask()
    except P2Error as error:
        return error


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    """Frames of a few runs with everything a log may hold: any sizes, rates, ranges, levels and outliers."""
    runs = draw(st.integers(1, 6))
    rows = []
    for i in range(runs):
        n0 = draw(st.sampled_from([4e6, 1e9, 7.77e10, 1e12]))
        rate = draw(st.sampled_from([1e-6, 0.1, 0.25, 0.5, 0.999]))
        points = draw(st.integers(1, 14))
        low, span = draw(st.floats(3, 11)), draw(st.floats(0.01, 10))
        tokens = np.unique(np.geomspace(10**low, 10 ** min(low + span, 13), points).round())
        l0 = draw(st.floats(0.05, 12))
        start = draw(st.floats(-0.5, 4))
        loss = l0 + start * (tokens / tokens[0]) ** -draw(st.floats(0, 2))
        loss = np.maximum(loss + draw(st.floats(0, 0.1)) * np.sin(tokens), 1e-3)
        if draw(st.booleans()):
            loss[draw(st.integers(0, len(loss) - 1))] *= draw(st.sampled_from([0.01, 100.0]))
        rows.append(pd.DataFrame({"tokens": tokens, "loss": loss, "n0": n0, "rate": rate, "l0": l0}))
        damaged = max(l0 + draw(st.floats(-0.2, 5)), 1e-3)
        rows[-1] = rows[-1].assign(run_id=f"r{i}", l_pruned=damaged, n_pruned=n0 * (1 - rate), base_model=f"{n0:g}")
    return pd.concat(rows, ignore_index=True).assign(
        family="llama-3", method="depth", eval_data="text", objective="clm", warmup_tokens=0, contributor="ada", seed=0
    )


@SETTINGS
@given(frame=logs(), name=st.sampled_from(sorted(LAWS)), loss=st.sampled_from(["ls", "log-ls", "huber", "log-huber"]))
def test_a_fit_is_finite_or_says_why(frame, name, loss):
    fitted = _answer(lambda: fit(LAWS[name], frame, loss=loss))
    if isinstance(fitted, FitError):
        assert fitted.code
        return
    numbers = [*fitted.params.values(), fitted.objective, fitted.rmse]
    if fitted.status == "ok":
        assert np.isfinite(numbers).all(), fitted
        assert np.isfinite(fitted.predict(frame)).all()
    for q in fitted.law.nonlinear:
        assert q.bounds[0] <= fitted.params[q.name] <= q.bounds[1] or q.name in fitted.pinned


@settings(SETTINGS, max_examples=8)
@given(frame=logs())
def test_a_ranking_of_anything_is_a_ranking(frame):
    few = {name: LAWS[name] for name in ("p2-no-nc", "damage", "chinchilla")}
    table = rank(frame, few)
    assert set(table["law"]) == set(few)
    ranked = table[table["rank"].notna()]
    assert np.isfinite(ranked["score"].astype(float)).all()


@settings(SETTINGS, max_examples=25)
@given(
    frame=logs(),
    rate=st.floats(0.01, 0.99),
    n0=st.sampled_from([1e5, 1e9, 1e12]),
    l0=st.floats(0.1, 10),
    excess=st.floats(-1, 2),
    law=st.sampled_from(["p2", "p2-no-nc", "compression", "kaplan"]),
)
def test_a_budget_of_anything_is_an_answer_or_a_sentence(frame, rate, n0, l0, excess, law):
    ask = {"family": "llama-3", "method": "depth", "rate": rate, "n0": n0, "l0": l0, "excess": excess, "law": law}
    answer = _answer(lambda: recommend_tokens(frame, **ask))
    if isinstance(answer, P2Error):
        assert str(answer)
        return
    assert (answer.tokens is None) == (answer.status in (None, "unreachable"))
    assert (answer.status is None) <= (answer.state == "too_far")
    if answer.status == "reached":
        assert np.isfinite(answer.loss)
        assert answer.loss <= l0 + excess + 1e-6
        assert answer.tokens_80 is None or answer.tokens_80[0] <= answer.tokens <= answer.tokens_80[1]


def test_one_run_one_point_is_refused_with_a_code(seed):
    one = seed[seed["tokens"] > 0].head(1)
    with pytest.raises(FitError) as caught:
        fit(LAWS["p2"], one.assign(warmup_tokens=0))
    assert caught.value.code == "too_few_rows"
