"""Folds hold out what they say, everywhere; pooled laws alone are judged on unseen families and methods."""

import numpy as np
import pytest

from leaderboard import LAWS, P2Error
from leaderboard.logs.contract import usable
from leaderboard.studies.crossval import KINDS, cross_validate, folds, summary

TWO = {name: LAWS[name] for name in ("p2", "capacity-damage")}


@pytest.fixture(scope="module")
def found(seed):
    return cross_validate(seed, TWO)


def test_folds_hold_out_what_they_say(seed):
    text = usable(seed).reset_index(drop=True)
    by_name = {(f.kind, f.name): f for f in folds(text)}
    assert {kind for kind, _ in by_name} == set(KINDS)
    assert sum(kind in ("size", "other sizes") for kind, _ in by_name) == 3  # two families share a size
    for fold in by_name.values():
        assert fold.test.any()
        assert not (fold.test & ~fold.held).any()
    both = by_name["size and rate", "largest, highest"]
    assert set(text["n0"][both.test]) == {text["n0"].max()}
    left = text[~both.held]
    assert left["n0"].max() < text["n0"].max()
    highest = by_name["rate", "highest"]
    assert "2:4" not in set(text["method"][highest.test])  # one rate a base
    assert set(text["family"][by_name["family", "qwen-2.5"].test]) == {"qwen-2.5"}


def test_only_pooled_laws_are_judged_on_unseen_families_and_methods(found):
    assert set(found.loc[found["kind"] == "method", "law"]) == {"capacity-damage"}
    assert set(found.loc[found["kind"] == "size", "law"]) == set(TWO)
    assert set(found.loc[found["kind"] == "size", "family"]) == {"llama-3"}  # qwen-2.5 has two sizes
    assert np.isfinite(found[["rmse", "bias"]]).all(axis=None)


def test_the_recommended_law_beats_p2_on_every_kind(found):
    table = summary(found)
    tested = [k for k in table if k not in ("family", "method")]
    assert (table.loc["capacity-damage", tested] < table.loc["p2", tested]).all()
    assert table.loc["capacity-damage", "size"] < 0.015
    assert table.loc["capacity-damage", "rate"] < 0.03


def test_a_law_that_cannot_be_fitted_has_no_figure(seed):
    rows = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]
    table = summary(cross_validate(rows.assign(l_pruned=rows["l0"]), TWO))
    assert np.isnan(table.loc["capacity-damage", "size"])
    assert table.loc["p2", "size"] > 0


def test_no_rows_are_refused(seed):
    with pytest.raises(P2Error):
        cross_validate(seed[seed["method"] == "none"], TWO)
