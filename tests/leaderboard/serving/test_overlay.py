"""One's own curve over others': nearest runs of its method, in nats on one text and by shares of the damage on two."""

import pytest

from leaderboard.serving.overlay import NATS, SHARE, overlay


@pytest.fixture
def own(seed):
    rows = seed[(seed["base_model"] == "p2lab/llama-3-s2") & (seed["method"] == "width")]
    return rows[rows["run_id"] == rows["run_id"].iloc[0]].reset_index(drop=True)


def test_losses_on_one_text_compare_in_nats_and_the_nearest_stand_first(seed, own):
    rows, unit = overlay(seed, own)
    assert unit == NATS
    mine = rows[rows["own"]]
    assert mine["value"].tolist() == (own["loss"] - own["l0"])[own["tokens"] > 0].tolist()
    assert set(rows["method"]) == {"width"}
    others = rows[~rows["own"]]
    assert others["name"].nunique() == 5
    assert others["distance"].is_monotonic_increasing


def test_on_another_text_the_share_of_the_damage_compares(seed, own):
    rows, unit = overlay(seed, own.assign(eval_data="mine"))
    assert unit == SHARE
    first = rows[rows["own"]].iloc[0]
    assert first["value"] == pytest.approx((first["loss"] - first["l0"]) / (first["l_pruned"] - first["l0"]))
    assert rows["value"].between(-0.3, 1).all()


def test_without_the_losses_it_needs_nothing_is_drawn(seed, own):
    for lacks in ({"l_pruned": None, "eval_data": "mine"}, {"l0": None}, {"method": "random"}):
        assert overlay(seed, own.assign(**lacks))[0].empty
