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


def stand(files: int, poisons: int) -> None:
    """Judge so many of each, and hold them to the targets."""
    storm = stormed(files)
    assert sum(storm["verdicts"].values()) == files
    assert storm["broken_but_clean"] == []
    assert storm["peak"] < GIGABYTE
    moved = summary(list(poisoned(sets(poisons))))
    assert moved["one log, another group, times"] <= 1.1
    assert moved["one log, its own group, times"] <= 1.5
    assert moved["one contributor, any group, times"] <= 2.0
    assert moved[WRONG] + moved["wait for a person"] + moved["merged"] == poisons


@pytest.mark.slow
@pytest.mark.sample
def test_a_sample_of_hostile_files_and_poison():
    stand(files=100, poisons=3)


@pytest.mark.slow
def test_2000_hostile_files_and_66_sets_of_poison():
    stand(files=2_000, poisons=6 * len(KINDS))
