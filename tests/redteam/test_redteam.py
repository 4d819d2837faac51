"""Strangers' files and poison: nothing ends the process that judges, and what merges by itself moves answers little."""

import pytest

from leaderboard.logs.findings import WRONG
from tests.redteam.measure import poisoned, stormed, summary
from tests.redteam.poison import KINDS, sets

GIGABYTE = 1_000_000_000


def test_the_same_seed_makes_the_same_poison():
    one, again, other = ([p.tables for p in sets(len(KINDS), seed)] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert all(table.num_rows for tables in one for table in tables)


def judged_and_told(files: int) -> None:
    """Judge so many hostile files: each gets a verdict, none is taken for a log, and memory stays bounded."""
    storm = stormed(files)
    assert sum(storm["verdicts"].values()) == files
    assert storm["broken_but_clean"] == []
    assert storm["peak"] < GIGABYTE


@pytest.mark.slow
@pytest.mark.sample
def test_a_sample_of_hostile_files():
    judged_and_told(100)


@pytest.mark.slow
def test_2000_hostile_files():
    judged_and_told(2_000)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_what_merges_by_itself_of_66_sets_of_poison_moves_answers_little():
    poisons = 6 * len(KINDS)
    moved = summary(list(poisoned(sets(poisons))))
    assert moved["one log, another group, times"] <= 1.1
    assert moved["one log, its own group, times"] <= 1.5
    assert moved["one contributor, any group, times"] <= 2.0
    assert moved[WRONG] + moved["wait for a person"] + moved["merged"] == poisons
