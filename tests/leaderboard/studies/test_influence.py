"""Which runs an answer hangs on: a planted far-off run comes first, and leaving out is what is measured."""

import numpy as np
import pytest

from leaderboard import load_logs, recommend_tokens
from leaderboard.errors import P2Error
from leaderboard.studies.influence import influence, most_telling, question_of


def test_a_run_that_the_answer_hangs_on_comes_first_and_the_change_is_that_of_leaving_it_out():
    """Of one group, half of whose runs somebody else gave, one of them with losses .05 nats too high at the end."""
    frame = load_logs().frame
    frame = frame[(frame["family"] == "llama-3") & (frame["method"] == "depth")].copy()
    runs = list(dict.fromkeys(frame["run_id"].astype(str)))
    odd = runs[-1]
    frame["contributor"] = np.where(frame["run_id"].isin(runs[::2]), "ann", "bob")
    off = (frame["run_id"] == odd) & (frame["tokens"] > 0)
    frame.loc[off, "loss"] += 0.05 * frame.loc[off, "tokens"] / frame.loc[off, "tokens"].max()
    table = influence(frame)
    by_run = table[table["left_out"] == "run"]
    assert by_run.iloc[0]["name"] == odd
    assert table["factor"].is_monotonic_decreasing
    assert set(table.loc[table["left_out"] == "contributor", "name"]) == {"ann", "bob"}
    assert set(most_telling(table)["left_out"]) == {"run", "contributor"}
    asked = vars(question_of(frame[frame["tokens"] > frame["warmup_tokens"]]))
    whole = recommend_tokens(frame, **asked).tokens
    assert by_run["tokens"].tolist() == [whole] * len(by_run)


def test_logs_without_a_run_to_fit_are_told():
    with pytest.raises(P2Error, match="no run here can be fitted"):
        influence(load_logs().frame.query("method == 'none'"))
