"""A run finds the control of its own base, text and recipe, and no other."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import P2Error
from leaderboard.logs.controls import controls_table, over_control, with_controls

RECIPE = {
    "base_model": "ada/base", "eval_data": "ada/heldout", "train_data": "ada/text", "batch_tokens": 100,
    "schedule": "constant", "lr_peak": 1e-4, "tokens_planned": 400, "l0": 3.0,
}  # fmt: skip


def run(name: str, method: str, losses: list[float], **changes: object) -> pd.DataFrame:
    """A run with an evaluation after each 100 tokens, from 0 on."""
    rows = pd.DataFrame({"tokens": 100 * np.arange(len(losses)), "loss": losses})
    return rows.assign(run_id=name, method=method, **RECIPE | changes)


PRUNED = run("cut", "depth", [4.0, 3.5, 3.3, 3.2, 3.1])
CONTROL = run("whole", "none", [3.0, 2.9, 2.8])


def joined(*runs: pd.DataFrame) -> pd.DataFrame:
    frame = with_controls(pd.concat(runs, ignore_index=True))
    return frame[frame["run_id"] == "cut"]


def test_a_run_stands_beside_its_control_as_far_as_that_goes():
    rows = joined(PRUNED, CONTROL)
    assert set(rows["control"]) == {"whole"}
    np.testing.assert_allclose(rows["control_loss"], [3.0, 2.9, 2.8, np.nan, np.nan])


def test_between_evaluations_a_control_is_read_off_and_at_no_tokens_it_is_the_base():
    sparse = CONTROL[CONTROL["tokens"] == 200]
    rows = joined(PRUNED, sparse)
    share = np.log(2) / np.log(3)  # one batch of two, on ln(1 + batches)
    np.testing.assert_allclose(rows["control_loss"][:3], [3.0, 3.0 - 0.2 * share, 2.8])


def test_two_seeds_of_a_control_are_averaged():
    rows = joined(PRUNED, CONTROL, run("again", "none", [3.0, 2.7]))
    np.testing.assert_allclose(rows["control_loss"][:3], [3.0, 2.8, 2.8])


@pytest.mark.parametrize(
    "other", [{"base_model": "ada/other"}, {"eval_data": "ada/news"}, {"lr_peak": 3e-4}, {"batch_tokens": 200}]
)
def test_a_run_of_another_base_text_or_recipe_is_no_control(other):
    rows = joined(PRUNED, CONTROL.assign(**other))
    assert rows["control"].isna().all()
    assert rows["control_loss"].isna().all()


def test_of_a_decaying_schedule_only_the_same_length_counts():
    cosine = PRUNED.assign(schedule="cosine")
    assert joined(cosine, CONTROL.assign(schedule="cosine", tokens_planned=200))["control"].isna().all()
    assert joined(cosine, CONTROL.assign(schedule="cosine"))["control"].notna().all()
    assert joined(PRUNED, CONTROL.assign(tokens_planned=200))["control"].notna().all()


def test_the_table_says_where_there_is_none():
    other = run("lone", "depth", [4.0, 3.5], base_model="ada/other")
    table = controls_table(pd.concat([PRUNED, CONTROL, other], ignore_index=True)).set_index("base_model")
    assert table.loc["ada/base", "drift"] == pytest.approx(-0.2)
    assert table.loc["ada/base", "tokens"] == 200
    assert table.loc["ada/other", "controls"] == 0
    assert np.isnan(table.loc["ada/other", "drift"])


def test_the_seed_has_a_control_for_one_of_its_bases(seed):
    table = controls_table(seed)
    assert table["runs"].sum() == seed.loc[seed["method"].astype(str) != "none", "run_id"].nunique()
    (base,) = table.loc[table["controls"] > 0, "base_model"]
    assert (table["drift"].dropna() < 0).all()
    rows = with_controls(seed)
    assert set(rows.loc[rows["control"].notna(), "base_model"].astype(str)) == {base}
    below = rows[rows["control_loss"].notna() & (rows["tokens"] > rows["warmup_tokens"])]
    assert (below["loss"] - below["control_loss"] >= 0).all()


def test_a_frame_without_losses_is_refused():
    with pytest.raises(P2Error, match="controls: needs the column loss"):
        with_controls(PRUNED.drop(columns="loss"))


def test_losses_over_a_control_are_less_what_the_base_moved_by():
    alone = run("other", "width", [4.0, 3.6, 3.4], base_model="ada/other")
    rows, words = over_control(pd.concat([PRUNED, CONTROL, alone], ignore_index=True))
    np.testing.assert_allclose(rows["loss"], [4.0, 3.5 + 0.1, 3.3 + 0.2])  # as far as the control goes
    assert set(rows["run_id"]) == {"cut"}
    assert set(rows["l0"]) == {3.0}
    assert words.startswith("1 of 2 pruned runs")


def test_where_no_run_has_a_control_there_is_nothing_to_fit():
    with pytest.raises(P2Error, match="none of the 1 pruned runs has a control: a run of the method none"):
        over_control(PRUNED)
