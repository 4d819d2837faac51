"""ASD worked by hand, its refusals, the noise floor, and the evaluate metric."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import leaderboard
from leaderboard import P2Error, asd, asd_doubling, noise_floor

# Run a: gaps measured - predicted 0, .3, .1 at 1, 2, 4 G tokens: slopes .3 and -.1, mean .2.
# Run b: gaps 1, 0 at 10, 15 G tokens: slope -.2. Run c has one row and no slope. Together (.2 + .2) / 2.
RUN_A = [("a", 1e9, 3.0, 3.0), ("a", 2e9, 2.8, 2.5), ("a", 4e9, 2.6, 2.5)]
RUN_B = [("b", 10e9, 3.0, 2.0), ("b", 15e9, 2.0, 2.0)]
RUN_C = [("c", 1e9, 9.0, 1.0)]


def _columns(rows):
    run, tokens, loss, predicted = zip(*rows, strict=True)
    return {"tokens": tokens, "loss": loss, "predicted": predicted, "run_id": run}


def test_asd_by_hand():
    assert asd(**_columns(RUN_A)) == pytest.approx(0.2)
    assert asd(**_columns(RUN_B)) == pytest.approx(0.2)
    assert asd(**_columns([*RUN_A, *RUN_B, *RUN_C])) == pytest.approx(0.2)
    twice = [(run, tokens, loss, predicted - 2 * tokens / 1e9) for run, tokens, loss, predicted in RUN_B]
    # Every slope of the prediction falls by 2: run b's difference becomes |-.2 + 2| = 1.8, so (.2 + 1.8) / 2.
    assert asd(**_columns([*RUN_A, *twice])) == pytest.approx(1.0)


def test_runs_weigh_the_same_however_long():
    flat = [("long", i * 1e9, 2.0, 2.0) for i in range(1, 101)]
    assert asd(**_columns([*flat, *RUN_B])) == pytest.approx(0.1)


def test_the_order_of_rows_does_not_matter():
    assert asd(**_columns([RUN_A[2], RUN_B[1], RUN_A[0], RUN_C[0], RUN_B[0], RUN_A[1]])) == pytest.approx(0.2)


def test_without_run_ids_all_rows_are_one_run():
    columns = _columns(RUN_A)
    del columns["run_id"]
    assert asd(**columns) == pytest.approx(0.2)


def test_a_level_shift_costs_nothing():
    assert asd([1e9, 2e9], [3.0, 2.0], [13.0, 12.0]) == 0


def test_no_run_with_two_rows_gives_nan():
    assert np.isnan(asd(**_columns(RUN_C)))
    assert np.isnan(asd([], [], []))
    assert np.isnan(asd_doubling(**_columns(RUN_A)))
    assert np.isnan(asd_doubling([], [], []))


@pytest.mark.parametrize("metric", [asd, asd_doubling])
@pytest.mark.parametrize("name", ["tokens", "loss", "predicted"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_raises(metric, name, value):
    columns = _columns(RUN_A)
    columns[name] = (value, *columns[name][1:])
    with pytest.raises(P2Error, match=f"{name} has 1 value"):
        metric(**columns)


@pytest.mark.parametrize("metric", [asd, asd_doubling])
def test_equal_tokens_in_a_run_raise_and_in_two_runs_do_not(metric):
    with pytest.raises(P2Error, match="same tokens"):
        metric(**_columns([*RUN_A, ("a", 2e9, 2.7, 2.5)]))
    metric(**_columns([*RUN_A, ("b", 2e9, 2.7, 2.5)]))


@pytest.mark.parametrize("metric", [asd, asd_doubling])
def test_different_lengths_raise(metric):
    with pytest.raises(P2Error, match="differ in shape"):
        metric([1e9, 2e9], [3.0, 2.0], [3.0])


def test_asd_doubling_by_hand():
    # log2 tokens 0..16 in eight equal parts: {0,1} {2,3} ... {12,13} {14,15,16}; knots at .5, 2.5, ..., 12.5, 15.
    # The gap is 0 up to 13 and .5 after: only the last of seven slopes counts, .5 / 2.5 = .2, so .2 / 7.
    tokens = 2.0 ** np.arange(17)
    loss = np.where(np.arange(17) < 14, 3.0, 3.5)
    assert asd_doubling(tokens, loss, np.full(17, 3.0)) == pytest.approx(0.2 / 7)
    # A gap that grows by .1 a doubling has this slope everywhere, whatever the unit of tokens.
    assert asd_doubling(tokens * 1e6, 3 + 0.1 * np.arange(17), np.full(17, 3.0)) == pytest.approx(0.1)


def test_asd_doubling_leaves_out_short_runs_and_skips_empty_knots():
    eight, nine = 2.0 ** np.arange(8), np.array([*2.0 ** np.arange(8), 2.0**14])
    assert np.isnan(asd_doubling(eight, np.arange(8.0), np.zeros(8)))
    # Range 14, parts of 1.75: {0,1} {2,3} {4,5} {6} {7} . . {14}; a gap of .3 a doubling stays .3 between any knots.
    assert asd_doubling(nine, 0.3 * np.log2(nine), np.zeros(9)) == pytest.approx(0.3)
    both = {"run_id": [*"a" * 8, *"b" * 9], "tokens": [*eight, *nine], "predicted": np.zeros(17)}
    assert asd_doubling(loss=[*np.arange(8.0), *0.3 * np.log2(nine)], **both) == pytest.approx(0.3)


def _seeds(gap: float, **columns) -> pd.DataFrame:
    tokens = np.arange(1, 13) * 1e9
    one = pd.DataFrame({"run_id": "a", "seed": 0, "tokens": tokens, "loss": 3.0} | columns)
    return pd.concat([one, one.assign(run_id="b", seed=1, loss=3 + gap * tokens / 1e9)], ignore_index=True)


def test_the_noise_floor_is_asd_between_seeds():
    assert noise_floor(_seeds(0.25))["asd"] == pytest.approx(0.25)
    assert noise_floor(_seeds(0.25))["asd_doubling"] > 0


def test_a_replicate_is_no_second_seed():
    frame = _seeds(0.25, contributor="x")
    again = frame[frame["seed"] == 0].assign(contributor="y", loss=5.0)
    floor = noise_floor(pd.concat([frame, again]))
    assert floor["asd"] == pytest.approx(0.25)
    assert np.isnan(noise_floor(frame[frame["seed"] == 0])["asd"])


def test_runs_of_different_settings_make_no_noise_floor():
    frame = _seeds(0.25)
    frame["batch_tokens"] = frame["seed"]
    assert np.isnan(noise_floor(frame)["asd"])


def test_the_seeds_noise_floor(seed):
    floor = noise_floor(seed)
    assert 8 < floor["asd"] < 11
    assert 0.004 < floor["asd_doubling"] < 0.01


def test_the_evaluate_metric_is_the_same_number(tmp_path):
    evaluate = pytest.importorskip("evaluate", reason="in the extra [train]")
    folder = Path(leaderboard.__file__).parent / "metric" / "asd"
    metric = evaluate.load(str(folder), cache_dir=str(tmp_path))
    rows = _columns([*RUN_A, *RUN_B, *RUN_C, *[("d", 2.0**i * 1e6, 3 + 0.1 * i, 3.0) for i in range(17)]])
    got = metric.compute(
        predictions=rows["predicted"], references=rows["loss"], tokens=rows["tokens"], run_id=rows["run_id"]
    )
    assert got == {"asd": pytest.approx(asd(**rows)), "asd_doubling": pytest.approx(asd_doubling(**rows))}
    assert got["asd_doubling"] == pytest.approx(0.1)
