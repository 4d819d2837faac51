"""Amounts in words, by hand: the unit that reads best, three digits, and no zero for what is merely small."""

import math

import pytest

from leaderboard.words import address, count, price, span, time


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (999, "999"),
        (61_440, "61.4 k"),
        (999_700, "1 M"),
        (3_758_464, "3.76 M"),
        (8e9, "8 B"),
        (1.5e12, "1.5 T"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_counts(value, words):
    assert count(value) == words


def test_two_counts_name_a_common_unit_once():
    assert span(3.1e6, 1.05e7, long=True) == "3.1 to 10.5 million"
    assert span(999, 4e9) == "999 to 4 B"


TIMES = [
    (9e-07, "under a second"),
    (1 / 3600, "1 s"),
    (0.0006, "2.16 s"),
    (0.5, "30 min"),
    (2345, "2,345 h"),
    (math.nan, "–"),
]


@pytest.mark.parametrize(("hours", "words"), TIMES)
def test_times(hours, words):
    assert time(hours) == words


PRICES = [(0.0018, "under a cent"), (0.01, "$0.01"), (99.99, "$99.99"), (1234, "$1,234"), (math.nan, "–")]


@pytest.mark.parametrize(("value", "words"), PRICES)
def test_prices(value, words):
    assert price(value) == words


def test_an_address_is_shown_without_its_password():
    assert address("https://me:secret@hub.test:8/a?b=1") == "https://hub.test:8/a?b=1"
    assert address("https://hub.test") == "https://hub.test"
