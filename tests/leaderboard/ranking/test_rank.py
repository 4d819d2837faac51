"""The order of laws: by hand on handmade cells, whole on the seed, and clear errors on frames that cannot be ranked."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, rank, score_cells
from leaderboard.logs.contract import GROUP
from leaderboard.ranking.cells import METRICS
from leaderboard.ranking.scores import HeldOut
from leaderboard.ranking.tracks import HELD_OUT, TRACKS

COLUMNS = ["law", "rank", "score", "score_doubling", "rmse_heldout", "n_cells", "recommended"]
SPREAD = ["score_low", "score_high", "wins"]


def _cells(*rows: tuple[str, str, str, float, float]) -> pd.DataFrame:
    """Cells of (law, cell, status, asd, rmse); the track is the cell's first word, asd_doubling asd squared."""
    columns = [
        {"law": law, "cell": cell, "track": cell.split()[0], "status": status, "asd": value, "rmse": rmse}
        for law, cell, status, value, rmse in rows
    ]
    return pd.DataFrame(columns).assign(asd_doubling=lambda d: d["asd"] ** 2)


def test_the_score_is_the_geometric_mean_of_asd_over_the_best(seed):
    cells = _cells(
        ("a", "tokens g", "ok", 2.0, 0.9),
        ("a", "size g", "ok", 3.0, 0.1),
        ("a", "rate g", "ok", 8.0, 0.3),
        ("a", "fit g", "ok", 99.0, 99.0),  # in sample: in no score
        ("b", "tokens g", "ok", 4.0, 0.0),
        ("b", "size g", "at_bound", 1.0, 0.4),
        ("b", "rate g", "ok", 2.0, 0.1),
        ("b", "fit g", "ok", 1.0, 0.0),
    )
    table = rank(seed, cells=cells).set_index("law")
    assert table.loc["a", "score"] == pytest.approx((1 * 3 * 4) ** (1 / 3))
    assert table.loc["b", "score"] == pytest.approx((2 * 1 * 1) ** (1 / 3))
    assert table.loc["a", "score_doubling"] == pytest.approx((1 * 9 * 16) ** (1 / 3))
    assert table["rank"].to_dict() == {"b": 1, "a": 2}
    assert table["n_cells"].to_dict() == {"b": 3, "a": 3}
    assert table["rmse_heldout"].to_dict() == {"a": pytest.approx(0.2), "b": pytest.approx(0.25)}
    assert table["recommended"].to_dict() == {"a": True, "b": False}  # tokens cells do not count here


def test_a_law_that_fails_a_testable_cell_has_no_rank_and_is_last(seed):
    cells = _cells(
        ("good", "size g", "ok", 5.0, 0.2),
        ("good", "rate g", "ok", 5.0, 0.2),
        ("lucky", "size g", "ok", 1.0, 0.01),
        ("lucky", "rate g", "failed", np.nan, np.nan),
    )
    table = rank(seed, cells=cells)
    assert table["law"].tolist() == ["good", "lucky"]
    assert table["rank"].tolist() == [1, pd.NA]
    assert np.isnan(table["score"][1])
    assert np.isnan(table["rmse_heldout"][1])
    assert table["recommended"].tolist() == [True, False]
    assert table["n_cells"].tolist() == [2, 1]


def test_a_cell_that_cannot_be_tested_counts_against_nobody(seed):
    cells = _cells(
        ("a", "size g", "ok", 1.0, 0.1),
        ("a", "rate g", "not_testable", np.nan, np.nan),
        ("b", "size g", "ok", 2.0, 0.2),
        ("b", "rate g", "not_testable", np.nan, np.nan),
    )
    table = rank(seed, cells=cells)
    assert table["score"].tolist() == pytest.approx([1.0, 2.0])
    assert table["n_cells"].tolist() == [1, 1]


def test_nothing_testable_ranks_nothing(seed):
    table = rank(seed, cells=_cells(("a", "size g", "not_testable", np.nan, np.nan), ("a", "fit g", "ok", 1.0, 0.1)))
    assert table["rank"].isna().all()
    assert not table["recommended"].any()


def test_equal_scores_share_a_rank(seed):
    cells = _cells(("a", "size g", "ok", 1.0, 0.1), ("b", "size g", "ok", 1.0, 0.1), ("c", "size g", "ok", 2.0, 0.3))
    table = rank(seed, cells=cells)
    assert table["rank"].tolist() == [1, 1, 3]
    assert table["recommended"].sum() == 1


@pytest.mark.parametrize("first", ["nearer", "sooner"])
def test_scores_that_processors_cannot_tell_apart_stand_in_order_of_names(seed, first):
    """Whichever of two laws a processor finds better by 1e-9, in one score or in every draw, the table is one."""
    asd = {"nearer": 2.0, "sooner": 2.0, "exact": 1.0, first: 2.0 + 1e-9}
    cells = _cells(*((law, "size g", "ok", value, value / 10) for law, value in asd.items()))
    draws = [np.full(50, value) for value in cells["asd"]]
    for table in (rank(seed, cells=cells), rank(seed, cells=cells.assign(asd_draws=draws))):
        assert table["law"].tolist() == ["exact", "nearer", "sooner"]
        assert table["rank"].tolist() == [1, 2, 2]
    both = _cells(*((law, "size g", "ok", asd[law], asd[law] / 10) for law in ("sooner", "nearer")))
    assert rank(seed, cells=both)["recommended"].tolist() == [True, False]


def test_the_seeds_cells(seed, seed_cells):
    assert list(seed_cells) == [*GROUP, "track", "cell", "law", "status", *METRICS, "asd_draws"]
    groups = seed_cells[list(GROUP)].drop_duplicates()
    assert len(groups) == 6
    assert "none" not in set(groups["method"])
    assert len(seed_cells) == 6 * len(TRACKS) * len(LAWS)
    tested = seed_cells[seed_cells["status"] != "not_testable"]
    assert (tested["status"] != "failed").all()
    assert np.isfinite(tested[["asd", "r2", "huber", "rmse"]]).all(axis=None)
    assert seed_cells[seed_cells["status"] == "not_testable"][list(METRICS)].isna().all(axis=None)
    at_hand = set(tested.loc[tested["track"].isin(HELD_OUT), "track"])
    assert at_hand == set(HELD_OUT)
    rates = seed_cells[(seed_cells["method"] == "2:4") & (seed_cells["track"] == "rate")]
    assert set(rates["status"]) == {"not_testable"}  # a base model has one 2:4 rate


def test_the_seeds_table(seed, seed_cells):
    table = rank(seed, cells=seed_cells)
    assert list(table) == COLUMNS + SPREAD
    assert set(table["law"]) == set(LAWS)
    scored = table[table["score"].notna()]
    assert set(LAWS) - set(scored["law"]) == {"saturation"}  # the seed's bases saw equally many tokens
    assert scored.index[-1] == len(scored) - 1
    assert scored["score"].is_monotonic_increasing
    assert (scored["score"] >= 1).all()
    assert table["recommended"].sum() == 1
    assert table.loc[table["recommended"], "rmse_heldout"].item() == table["rmse_heldout"].min()
    place = dict(zip(table["law"], table["rank"], strict=True))
    assert max(place["damage"], place["damage-drift"]) <= place["p2"] < place["chinchilla"]
    for name in ("p2-no-n0", "p2-no-rate", "p2-no-l0"):
        assert place["p2"] < place[name]  # the paper's ablations
    assert table["wins"].sum() == pytest.approx(1, abs=0.02)  # one winner a draw, ties aside
    assert ((scored["score_low"] < scored["score"]) | (scored["score"] < scored["score_high"])).all()


def test_a_law_is_tested_only_where_the_input_that_it_needs_varies(seed):
    laws = {name: LAWS[name] for name in ("damage", "saturation")}
    group = _group(seed)
    alike = score_cells(group.assign(base_tokens=6e7), laws, ("size",), draws=2).set_index("law")
    assert alike["status"].to_dict() == {"damage": "ok", "saturation": "not_testable"}
    bases = pd.factorize(group["base_model"])[0]
    varied = score_cells(group.assign(base_tokens=6e7 * (1 + bases)), laws, ("size",), draws=2).set_index("law")
    assert np.isfinite(varied["rmse"]).all()


def test_laws_tie_unless_their_paired_difference_leaves_zero(seed):
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.2, 400)  # what a draw does to every law alike
    draws = {
        "close": np.exp(0.01 + shared + rng.normal(0, 0.05, 400)),
        "best": np.exp(shared),
        "far": np.exp(0.3 + shared),
    }
    cells = _cells(*((law, "size g", "ok", float(np.median(d)), 0.1) for law, d in draws.items()))
    table = rank(seed, cells=cells.assign(asd_draws=[draws[law] for law in cells["law"]])).set_index("law")
    assert table["rank"].to_dict() == {
        "best": 1,
        "close": 1,
        "far": 3,
    }  # far: its own spread hides it, the pairs do not
    assert table.loc["far", "wins"] == 0
    assert table.loc["far", "score_low"] > 1


def _group(seed: pd.DataFrame) -> pd.DataFrame:
    return seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]


def test_a_run_measured_twice_does_not_stop_the_ranking(seed):
    rows = _group(seed)
    again = rows[rows["run_id"] == rows["run_id"].iloc[0]].astype({"contributor": str}).assign(contributor="bob")
    both = pd.concat([rows.astype({"contributor": str}), again], ignore_index=True)
    cells = score_cells(both, {"p2-no-n0": LAWS["p2-no-n0"]}, ("fit", "tokens"))
    assert cells["asd"].notna().all()


def test_group_columns_may_be_absent_and_text_plain(seed):
    rows, law = _group(seed), {"chinchilla": LAWS["chinchilla"]}
    whole = score_cells(rows, law, ("size",))
    bare = score_cells(rows.drop(columns=list(GROUP)).astype({"run_id": str, "base_model": str}), law, ("size",))
    assert bare["asd"].tolist() == pytest.approx(whole["asd"].tolist(), rel=1e-3)


@pytest.mark.parametrize("name", ["run_id", "base_model", "n0", "rate", "tokens", "loss"])
def test_a_missing_column_is_named(name, seed):
    with pytest.raises(P2Error, match=f"rank: needs the column {name};"):
        rank(seed.drop(columns=name))


def test_no_usable_row(seed):
    with pytest.raises(P2Error, match="no usable row"):
        rank(seed[seed["method"] == "none"])


def test_metrics_by_hand():
    test = pd.DataFrame({"run_id": "a", "tokens": [1e9, 2e9, 3e9], "loss": [3.0, 2.0, 1.0]})
    found = HeldOut.of(test, ["tokens"]).metrics(np.array([3.0, 2.0, 2.0]))
    assert found["rmse"] == pytest.approx((1 / 3) ** 0.5)
    assert found["r2"] == pytest.approx(0.5)
    assert found["huber"] == pytest.approx(1e-3 * (1 - 5e-4) / 3)
    assert found["asd"] == pytest.approx(0.5)
    assert np.isnan(found["asd_doubling"])
