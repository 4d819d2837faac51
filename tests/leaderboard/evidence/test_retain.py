"""Tokens to a share of the base's score: the first published budget that reached it, and the one before."""

import pytest

from leaderboard.errors import P2Error
from leaderboard.evidence import load_evidence
from leaderboard.evidence.retain import WARNING, as_dict, retained

NANO = "nvidia/NVIDIA-Nemotron-Nano-9B-v2"


def of(model, share):
    return next(one for one in retained("mmlu", share) if one.model == model)


def test_the_goal_lies_between_two_published_budgets():
    """74.7 before pruning, 67.8 after it, then 71.9, 71.6, 72.7, 73.0, 73.4 and 73.5 at 100 B."""
    assert (of(NANO, 0.9).tokens, of(NANO, 0.9).score) == (0, 67.8)
    assert (of(NANO, 0.95).short, of(NANO, 0.95).tokens) == (0, 2.5e9)
    assert (of(NANO, 0.975).short, of(NANO, 0.975).tokens) == (40e9, 60e9)
    assert (of(NANO, 0.99).short, of(NANO, 0.99).tokens) == (100e9, None)
    assert as_dict("mmlu", 0.95, [])["warning"] == WARNING


def test_rows_without_a_base_score_say_nothing_of_a_share():
    rows = load_evidence()
    assert retained("mmlu", 0.9, rows.assign(score0=float("nan"))) == []


@pytest.mark.parametrize(
    ("task", "share", "message"),
    [("mnlu", 0.9, "unknown task 'mnlu'. Did you mean 'mmlu'"), ("mmlu", 1.2, r"--retain: got 1\.2, allowed")],
)
def test_a_task_that_is_not_there_and_what_is_no_share_are_refused(task, share, message):
    with pytest.raises(P2Error, match=message):
        retained(task, share)
