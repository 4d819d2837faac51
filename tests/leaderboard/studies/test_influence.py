"""Which runs an answer hangs on: leaving out is what is measured."""

from dataclasses import replace

import numpy as np
import pytest

from leaderboard import load_logs
from leaderboard.errors import P2Error
from leaderboard.fitting.robust import trusted
from leaderboard.logs.contract import usable
from leaderboard.planning.recommend import fit_new_model, mixture, same_text
from leaderboard.studies.influence import influence, most_telling, question_of, tokens_of


def test_an_answer_without_a_run_is_that_of_the_laws_fitted_without_it():
    """Of one group, half of whose runs somebody else gave; the laws are those that all runs chose."""
    frame = load_logs().frame
    frame = frame[(frame["family"] == "llama-3") & (frame["method"] == "depth")].copy()
    runs = list(dict.fromkeys(frame["run_id"].astype(str)))
    frame["contributor"] = np.where(frame["run_id"].isin(runs[::2]), "ann", "bob")
    table = influence(frame)
    by_run = table[table["left_out"] == "run"]
    assert table["factor"].is_monotonic_decreasing
    assert set(by_run["name"]) == set(runs)
    assert set(table.loc[table["left_out"] == "contributor", "name"]) == {"ann", "bob"}
    assert set(most_telling(table)["left_out"]) == {"run", "contributor"}
    question = question_of(usable(frame))
    text, group = same_text(frame, "llama-3", "depth", None, None)
    whole = mixture(trusted(text).rows, {"family": "llama-3", "method": "depth", **group}, None, True)
    first = by_run.iloc[0]
    rest = whole.rows[whole.rows["run_id"] != first["name"]]
    members = tuple(fit_new_model(member.fit.law, rest, "llama-3", "depth") for member in whole.members)
    assert first["tokens"] == pytest.approx(tokens_of(whole, question), rel=1e-3)
    assert first["tokens_without"] == pytest.approx(tokens_of(replace(whole, members=members), question), rel=0.01)


def test_logs_without_a_run_to_fit_are_told():
    with pytest.raises(P2Error, match="no run here can be fitted"):
        influence(load_logs().frame.query("method == 'none'"))
