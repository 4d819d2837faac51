"""Amounts in words, by hand: the unit that reads best, three digits, and no zero for what is merely small."""

import math

import pytest

from zoo.amounts import dollars, machine_time, short_count


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (999, "999"),
        (61_440, "61.4k"),
        (999_700, "1M"),
        (3_758_464, "3.76M"),
        (8e9, "8B"),
        (1.5e12, "1.5T"),
        (math.nan, ""),
    ],
)
def test_counts(value, words):
    assert short_count(value) == words


TIMES = [
    (9e-07, "under a second"),
    (1 / 3600, "1 s"),
    (0.0006, "2.16 s"),
    (0.5, "30 min"),
    (2345, "2,345 h"),
    (math.nan, ""),
]


@pytest.mark.parametrize(("hours", "words"), TIMES)
def test_machine_time(hours, words):
    assert machine_time(hours) == words


COSTS = [(0.0018, "under a cent"), (0.01, "about 0.01 $"), (1234, "about 1,234.00 $"), (math.nan, "")]


@pytest.mark.parametrize(("value", "words"), COSTS)
def test_dollars(value, words):
    assert dollars(value) == words
