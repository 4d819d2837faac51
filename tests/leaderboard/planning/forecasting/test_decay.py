"""Schedules: what they are read from, and that a decayed curve is forecast to where its decay takes it."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import forecast
from leaderboard.planning.forecasting.decay import SHAPES, decay_of

END = 4e9


def decayed(shape: str, rest: float = 0.1) -> pd.DataFrame:
    """A curve 2 + 0.2 (E / 1e9)^-0.4 under a decaying rate that wins `rest` nats in the end, 40 evaluations."""
    tokens = np.linspace(END / 40, END, 40)
    fine = np.linspace(0, END, 4001)
    share = SHAPES[shape](fine / END)
    effective = np.interp(tokens, fine, np.concatenate([[0], np.cumsum((share[1:] + share[:-1]) / 2 * np.diff(fine))]))
    lr = SHAPES[shape](tokens / END)
    return pd.DataFrame(
        {"tokens": tokens, "loss": 2 + 0.2 * (effective / 1e9) ** -0.4 - rest * (1 - lr), "lr": 3e-4 * lr}
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_known_schedule_brings_the_forecast_to_the_end(seed, shape):
    whole = decayed(shape)
    begin = whole[whole["tokens"] <= END / 4]
    known = forecast(seed, begin.assign(schedule=shape, tokens_planned=END, lr_peak=3e-4))
    low, high = known.interval(END, 0.95)
    assert low < whole["loss"].iloc[-1] < high
    assert known.predict(END) == pytest.approx(whole["loss"].iloc[-1], abs=0.04)
    blind = forecast(seed, begin[["tokens", "loss"]])
    assert abs(known.predict(END) - whole["loss"].iloc[-1]) < abs(blind.predict(END) - whole["loss"].iloc[-1])


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_end_is_read_off_falling_rates(shape):
    begin = decayed(shape).iloc[:16]
    decay = decay_of(begin, {}.get)
    assert decay.end == pytest.approx(END, rel=0.1)
    assert "read off" in decay.words
    assert shape in decay.words


def test_a_rate_that_does_not_fall_is_constant_and_none_is_unknown():
    rows = decayed("linear").iloc[:10]
    flat = decay_of(rows.assign(lr=1e-4), {}.get)
    assert flat.gain == flat.spread == 0
    assert flat.at(np.array([1e9])).effective == pytest.approx(1e9)
    unknown = decay_of(rows.drop(columns="lr"), {}.get)
    assert unknown.spread > 0
    assert "not known" in unknown.words


def test_after_the_end_of_a_decay_nothing_is_learned(seed):
    begin = decayed("linear").iloc[:12].assign(schedule="linear", tokens_planned=END)
    ahead = forecast(seed, begin)
    assert ahead.predict(2 * END) == pytest.approx(ahead.predict(END), abs=1e-6)
