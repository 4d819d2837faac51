"""One row a run, and the filter that leaves nothing is named."""

import pytest

from leaderboard import load_logs
from leaderboard.errors import P2Error
from leaderboard.serving.runs import filter_runs, panels, runs_table


@pytest.fixture(scope="module")
def table():
    return runs_table(load_logs().frame)


def test_a_row_a_run_with_its_last_loss(table):
    assert len(table) == table["run_id"].nunique() == 37
    run = table.set_index("run_id").loc["1972cf7b8b54a76d"]
    frame = load_logs().frame
    last = frame[frame["run_id"] == "1972cf7b8b54a76d"].sort_values("tokens").iloc[-1]
    assert run["loss"] == last["loss"]
    assert run["recovered"] == pytest.approx((last["l_pruned"] - last["loss"]) / (last["l_pruned"] - last["l0"]))


def test_a_control_has_no_damage_to_recover(table):
    assert table.loc[table["method"] == "none", "recovered"].isna().all()


def test_nats_per_byte_are_known_where_the_held_out_bytes_are(table):
    assert table["nats_per_byte"].isna().all()  # the seed did not record them
    frame = load_logs().frame.assign(eval_tokens=1000, eval_bytes=4000)
    whole = runs_table(frame)
    assert whole["nats_per_byte"].to_numpy() == pytest.approx(whole["loss"].to_numpy() / 4)


def test_filters_join_and_a_rate_is_a_range(table):
    found = filter_runs(table, family="llama-3", method="depth", rate_from=0.2, rate_to=0.3)
    assert 0 < len(found.rows) < 37
    assert found.rows["rate"].between(0.2, 0.3).all()
    assert found.words == ""


def test_search_finds_any_name_and_takes_it_as_text(table):
    assert len(filter_runs(table, search="QWEN").rows) == (table["family"] == "qwen-2.5").sum()
    assert filter_runs(table, search=".*").rows.empty


def test_the_filter_that_empties_the_table_is_named(table):
    found = filter_runs(table, method="2:4", rate_from=0.5)
    assert found.rows.empty
    assert "without rate_from 4 are left" in found.words


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"method": "dept"}, "Did you mean 'depth'"),
        ({"colour": "red"}, "unknown filter"),
        ({"rate_from": 25.0}, "a share between 0 and 1"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(table, chosen, words):
    with pytest.raises(P2Error, match=words):
        filter_runs(table, **chosen)


def test_runs_of_two_objectives_are_drawn_in_two_panels(table):
    frame = load_logs().frame
    run_id = table["run_id"].iloc[0]
    frame = frame.assign(objective=frame["objective"].astype(str).where(frame["run_id"] != run_id, "distill"))
    rows, left_out = panels(frame, runs_table(frame))
    assert rows.groupby("panel", observed=True)["objective"].nunique().eq(1).all()
    assert set(rows.loc[rows["run_id"] == run_id, "panel"]) == {p for p in rows["panel"] if p.endswith("distill")}
    drawn = rows[["run_id", "contributor"]].drop_duplicates()
    assert len(drawn) + left_out == len(table)
