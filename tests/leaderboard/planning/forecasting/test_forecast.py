"""A forecast from a run's own rows: planted curves come back, missing columns only widen, bad rows are named."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import P2Error, forecast
from leaderboard.planning.forecasting.answer import answer
from leaderboard.planning.forecasting.forecast import NO_LAW
from leaderboard.planning.forecasting.prior import without

SHARE = 0.2
UNNEEDED = [
    "l0",
    "l_pruned",
    "rate",
    "n_pruned",
    "family",
    "lr_peak",
    "schedule",
    "batch_tokens",
    "seed",
    "warmup_tokens",
]


def run_of(frame: pd.DataFrame, method: str = "depth", n0: float = 3e7) -> pd.DataFrame:
    """The rows of the first run by a method with a base larger than n0."""
    rows = frame[(frame["method"] == method) & (frame["n0"] > n0)]
    return rows[rows["run_id"] == rows["run_id"].iloc[0]].sort_values("tokens")


def beginning(own: pd.DataFrame, share: float = SHARE) -> pd.DataFrame:
    return own[own["tokens"] <= share * own["tokens"].max()]


def planted(fading: float, noise: float, seed: int = 0) -> pd.DataFrame:
    """A curve at real sizes with white noise: 2.1 + 0.2 (D / 1e9)^-fading, 60 evaluations up to 10 B tokens."""
    tokens = np.linspace(1e8, 1e10, 60)
    clean = 2.1 + 0.2 * (tokens / 1e9) ** -fading
    return pd.DataFrame({"tokens": tokens, "loss": clean + np.random.default_rng(seed).normal(0, noise, 60)})


def test_a_kept_run_is_forecast_within_its_band(seed):
    own = run_of(seed)
    ahead = forecast(seed, beginning(own))
    late = own[own["tokens"] > own["tokens"].max() / 2]
    error = np.asarray(ahead.predict(late["tokens"])) - late["loss"]
    low, high = ahead.interval(late["tokens"], 0.95)
    assert np.sqrt((error**2).mean()) < 0.01
    assert ((low <= late["loss"]) & (late["loss"] <= high)).mean() > 0.8
    assert ahead.state == "inside"
    assert sum(ahead.weights.values()) == pytest.approx(1)


def test_the_run_itself_is_no_prior(seed):
    own = run_of(seed)
    others = without(seed, own)
    assert not set(own["run_id"]) & set(others["run_id"])
    assert len(others) == len(seed) - len(own)
    nameless = without(seed, own[["tokens", "loss"]])
    assert len(nameless) == len(others)


def test_what_a_log_lacks_only_widens_the_band(seed):
    own = beginning(run_of(seed))
    full, bare = forecast(seed, own), forecast(seed, own[["tokens", "loss"]])
    some = forecast(seed, own.drop(columns=UNNEEDED))
    at = 9e6
    widths = [float(high) - float(low) for low, high in (f.interval(at) for f in (full, some, bare))]
    assert widths[0] < widths[1] <= widths[2] * 1.01
    assert bare.weights == {NO_LAW: pytest.approx(1)}
    assert bare.predict(at) == pytest.approx(full.predict(at), abs=0.1)


LACKING = ("l0", "l_pruned", "rate", "n_pruned", "family")
RECIPE = ("lr_peak", "schedule", "batch_tokens", "seed", "warmup_tokens", "tokens_planned", "precision", "packing")


def lacks(own: pd.DataFrame, frame: pd.DataFrame, columns: list[str]) -> float:
    """The width of the band without some columns; null in a column says no more than none."""
    bare, null = (forecast(frame, o) for o in (own.drop(columns=columns), own.assign(**dict.fromkeys(columns))))
    at = np.array([[6e6, 9e6]])
    assert np.asarray(bare.predict(at)).shape == (1, 2)
    np.testing.assert_allclose(bare.predict(at), null.predict(at))
    np.testing.assert_allclose(bare.predict(at), 2.8, atol=0.15)
    low, high = bare.interval(9e6)
    return float(high) - float(low)


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize("more", [(), RECIPE], ids=["recipe known", "no recipe"])
def test_any_subset_of_columns_may_be_missing(seed, more):
    frame = seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]
    own = beginning(run_of(frame)).astype(dict.fromkeys((*LACKING, *RECIPE), object))
    full = lacks(own, frame, [])
    for number in range(1, 2 ** len(LACKING)):
        columns = [name for i, name in enumerate(LACKING) if number >> i & 1]
        assert lacks(own, frame, [*columns, *more]) > 0.8 * full


def test_each_column_of_the_recipe_may_be_missing(seed):
    frame = seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]
    own = beginning(run_of(frame)).astype(dict.fromkeys(RECIPE, object))
    for name in RECIPE:
        lacks(own, frame, [name])


SILENT = {
    "it trained some parameters only": {"trainable_params": 1e6},
    "has its eval_data, mine": {"eval_data": "mine"},
    "has its seq_len, 1024": {"seq_len": 1024},
    "has its vocab_size, 32000": {"vocab_size": 32_000},
    "has its eval_tokens, 4096": {"eval_tokens": 4096},
    "it is a control": {"method": "none"},
    ": l0 not known": {"l0": None},
    ": n0, l0 not known": {"l0": None, "n0": None, "rate": None},
    "236 times outside": {"n0": 8e9},
}


@pytest.mark.parametrize("words", SILENT)
def test_what_keeps_laws_from_speaking_is_named(seed, words):
    """A run of another protocol, text or kind, or one that lacks what they need."""
    own = beginning(run_of(seed)).astype({"l0": object, "n0": object, "rate": object})
    ahead = forecast(seed, own.assign(**SILENT[words]))
    assert ahead.weights == {NO_LAW: pytest.approx(1)}
    (line,) = [line for line in ahead.why if line.startswith("No law speaks")]
    assert words in line


def test_rows_that_are_not_used_are_told_and_why(seed):
    own = beginning(run_of(seed), 0.4)
    ahead = forecast(seed, own.assign(l0=None))
    warm = int((own["tokens"] <= own["warmup_tokens"].iloc[0]).sum()) - 1
    assert ahead.rows == len(own) - 1 - warm
    assert f"1 at 0 tokens, the loss after pruning and {warm} of the warm-up" in ahead.why[-1]


def test_laws_are_fitted_to_trusted_runs_only(seed):
    """A run whose loss climbs shapes no prior, and is named."""
    own = beginning(run_of(seed))
    other = seed[(seed["method"] == "depth") & (seed["run_id"] != own["run_id"].iloc[0])]
    bad = other[other["run_id"] == other["run_id"].iloc[0]].copy()
    bad["loss"] += bad["tokens"] / 1e7
    spoiled = pd.concat([seed, bad.assign(run_id="c" * 16)], ignore_index=True)
    plain, ahead = forecast(seed, own), forecast(spoiled, own)
    assert any("climbs" in line for line in ahead.why)
    assert ahead.predict(9e6) == pytest.approx(plain.predict(9e6), abs=1e-6)


@pytest.mark.parametrize("fading", [0.2, 0.5])
def test_a_planted_curve_at_a_size_no_law_knows(seed, fading):
    whole = planted(fading, 0.004).assign(n0=8e9, rate=0.3, l0=2.0, method="depth", schedule="constant")
    ahead = forecast(seed, whole[whole["tokens"] <= 2.5e9])
    truth = 2.1 + 0.2 * 10.0**-fading
    low, high = ahead.interval(1e10, 0.95)
    assert low < truth < high
    assert ahead.predict(1e10) == pytest.approx(truth, abs=0.03)
    assert ahead.weights == {NO_LAW: pytest.approx(1)}
    assert ahead.state_at(10000000000.0) != "too_far"
    assert ahead.state_at(1e13) == "too_far"


def test_noisier_rows_give_a_wider_band(seed):
    calm, noisy = (forecast(seed, planted(0.3, noise).iloc[:15]) for noise in (0.002, 0.03))
    widths = [float(high) - float(low) for low, high in (f.interval(3e9) for f in (calm, noisy))]
    assert widths[1] > 2 * widths[0]


def test_numbers_for_numbers_and_arrays_for_arrays(seed):
    ahead = forecast(seed, beginning(run_of(seed)))
    assert isinstance(ahead.predict(1e7), float)
    grid = np.array([[4e6, 6e6], [8e6, 1e7]])
    assert np.shape(ahead.predict(grid)) == (2, 2)
    low, high = ahead.interval(grid, 0.8)
    assert np.shape(low) == np.shape(high) == (2, 2)
    assert (np.asarray(low) < np.asarray(ahead.predict(grid))).all()
    assert np.shape(ahead.tokens(target_loss=[2.8, 2.77])) == (2,)


def test_tokens_to_a_loss_are_where_the_curve_meets_it(seed):
    ahead = forecast(seed, beginning(run_of(seed)))
    target = float(ahead.predict(6e6))
    tokens = float(ahead.tokens(target_loss=target))
    low, high = ahead.tokens_interval(0.8, target_loss=target)
    assert tokens == pytest.approx(6e6, rel=0.01)
    assert low < tokens < high
    assert np.isnan(ahead.tokens(target_loss=1.0))
    steady = float(ahead.tokens(gain=0.03))
    assert ahead.fall(steady)[0] == pytest.approx(0.03, abs=0.003)


def test_an_answer_says_whether_going_on_pays(seed):
    ahead = forecast(seed, beginning(run_of(seed)))
    told = answer(ahead, [5e6, 1e12], excess=0.05, gpu="h100")
    assert told["state"] == "too_far"
    assert told["at"][1]["loss"] is None
    assert told["at"][1]["low_80"] is None
    assert told["at"][0]["low_95"] < told["at"][0]["low_80"] < told["at"][0]["loss"] < told["at"][0]["high_80"]
    assert told["goal"]["more_tokens"] == pytest.approx(told["goal"]["tokens"] - ahead.last)
    assert told["doubling"]["gain"] > 0
    assert told["doubling"]["gpu_hours"] > 0
    with pytest.raises(P2Error, match="one goal"):
        answer(ahead, target_loss=2.8, gain=0.01)
    bare = forecast(seed, beginning(run_of(seed))[["tokens", "loss"]])
    with pytest.raises(P2Error, match="l0, which this log does not hold"):
        answer(bare, excess=0.05)


BAD = {
    "needs the column": lambda own: own.drop(columns="loss"),
    "rows of one": lambda own: own.assign(run_id=[f"{i % 2}" for i in range(len(own))]),
    "row 3 has the loss nan": lambda own: own.assign(loss=own["loss"].where(np.arange(len(own)) != 2)),
    "row 3 has the loss inf": lambda own: own.assign(loss=own["loss"].where(np.arange(len(own)) != 2, np.inf)),
    "Is that a perplexity": lambda own: own.assign(loss=np.exp(own["loss"] + 1)),
    "must rise": lambda own: own.iloc[::-1],
    "1 usable rows of 4": lambda own: own.iloc[:4],
    "0 usable rows of 0": lambda own: own.iloc[:0],
    "row 2 has the loss much": lambda own: own.astype({"loss": object}).replace(
        {"loss": {own["loss"].iloc[1]: "much"}}
    ),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_rows_are_named(seed, words):
    own = beginning(run_of(seed))
    with pytest.raises(P2Error, match=words):
        forecast(seed, BAD[words](own))


def test_bad_questions_are_named(seed):
    ahead = forecast(seed, beginning(run_of(seed)))
    for wrong in (0, -1e6, np.nan, [1e6, np.inf]):
        with pytest.raises(P2Error, match="counts above 0"):
            ahead.predict(wrong)
    with pytest.raises(P2Error, match="between 0 and 1"):
        ahead.interval(1e7, 80)


def test_many_rows_say_what_few_means_of_them_say(seed):
    tokens = np.linspace(1e7, 2e9, 100_000)
    noise = np.random.default_rng(1).normal(0, 0.05, len(tokens))
    own = pd.DataFrame({"tokens": tokens, "loss": 2.1 + 0.2 * (tokens / 1e9) ** -0.3 + noise})
    ahead = forecast(seed, own.assign(schedule="constant"))
    assert ahead.predict(5e9) == pytest.approx(2.1 + 0.2 * 5**-0.3, abs=0.03)
