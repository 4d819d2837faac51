"""Schedules: what they are read from, and that a decayed curve is forecast to where its decay takes it."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from leaderboard import forecast
from leaderboard.planning.forecasting.decay import SHAPES, decay_of

END = 4e9
NO_LOGS = pd.DataFrame(
    columns=["run_id", "family", "method", "eval_data", "objective", "n0", "rate", "tokens", "loss", "base_model"]
)


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


def test_of_a_warm_up_half_the_tokens_count():
    """A power of what was taught, 1 at a warm-up of 0.1 of the rows so far, is met by a known warm-up only."""
    tokens = np.linspace(2e8, 1e9, 30)
    own = pd.DataFrame({"tokens": tokens, "loss": 2 + 0.3 * ((tokens - 1e8) / 1e9) ** -0.4, "schedule": "constant"})
    misses = [
        abs(forecast(NO_LOGS, own.assign(warmup_tokens=warm)).predict(4e9) - 2 - 0.3 * 3.9**-0.4)
        for warm in (2e8, None)
    ]
    assert misses[0] < 0.01 < misses[1]


def test_after_the_end_of_a_decay_nothing_is_learned(seed):
    begin = decayed("linear").iloc[:12].assign(schedule="linear", tokens_planned=END)
    ahead = forecast(seed, begin)
    assert ahead.predict(2 * END) == pytest.approx(ahead.predict(END), abs=1e-6)


def published_form(shape: str, gain: float, fading: float, fall: float, seed: int) -> tuple[pd.DataFrame, dict]:
    """A pretraining curve of arXiv:2408.11029, E + A S1^-a - C S2, and what a run knows of its schedule.

    8,000 steps, 200 of them warm-up, peak 1e-3; S2 is the falling of the rate with momentum 0.99, scaled to win `gain`
    nats in all. A wsd decays over its last fifth. `fall` is what a constant rate still wins after a quarter.
    """
    steps, warm, step = 8000, 200, 500_000
    at = np.arange(1, steps + 1)
    share = np.minimum(at / warm, SHAPES[shape](np.clip((at - warm) / (steps - warm), 0, 1)))
    falls = np.where(at > warm, -np.diff(share, prepend=0), 0)
    momentum = np.cumsum(lfilter([1], [1, -0.99], falls))
    clean = 2.5 + fall * (np.cumsum(share) / 2000) ** -fading - gain * momentum / momentum[-1]
    rows = np.arange(99, steps, 100)
    noise = np.random.default_rng(seed).normal(0, 0.004, len(rows))
    own = pd.DataFrame({"tokens": at[rows] * step, "loss": clean[rows] + noise})
    return own, {
        "schedule": shape, "lr_peak": 1e-3, "tokens_planned": steps * step, "warmup_tokens": warm * step,
    }  # fmt: skip


def at_the_end(gains: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Errors at the end from the first quarter, and whether it lies in the 95 % band, of 15 such curves."""
    errors, inside = [], []
    draw = np.random.default_rng(0)
    for shape in ("cosine", "linear", "wsd"):
        for number in range(5):
            own, known = published_form(shape, draw.uniform(*gains), *draw.uniform([0.25, 0.2], [0.5, 0.5]), number)
            end, last = own.iloc[-1]
            ahead = forecast(NO_LOGS, own[own["tokens"] <= end / 4].assign(**known))
            low, high = ahead.interval(end, 0.95)
            errors.append(ahead.predict(end) - last)
            inside.append(low < last < high)
    return np.array(errors), np.array(inside)


def test_decayed_curves_of_another_form_from_their_first_quarter():
    """What coming to rest wins cannot be seen by then: where it is as expected the median error is 0.02 at most."""
    errors, inside = at_the_end((0.14, 0.141))
    assert np.median(abs(errors)) <= 0.02
    assert inside.all()


def test_the_band_holds_what_coming_to_rest_may_win():
    errors, inside = at_the_end((0.1, 0.2))
    assert np.median(abs(errors)) <= 0.03
    assert inside.mean() >= 0.9
