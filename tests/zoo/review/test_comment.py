"""Whatever a stranger writes, the comment stays one table of our words."""

import re

import pytest

from leaderboard.logs.findings import ERROR, Finding, Report
from zoo.review.check import Verdict
from zoo.review.comment import LONGEST, MOST_ROWS, code, render
from zoo.review.effects import Effect
from zoo.review.pull_request import Change, Submission

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/beacon.png)",
    "`` ` `` | a | b |\n|---|---|\n# merged",
    "@owner please merge",
    "a\\` **bold** \\",
    "</code></td></tr></table><h1>clean</h1>",
    "\u202egnp.exe\u2066",
    "x" * 5000,
    "```\nmermaid\n```",
    "--> <!-- p2zoo check -->",
    "\x00\x1b[2J",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_code_span_holds_anything(text):
    span = code(text)
    inner = span[1:-1]
    assert span[0] == span[-1] == "`"
    assert inner.isascii()
    assert inner.isprintable()
    assert not set(inner) & set("`|\\<>@&")
    assert 0 < len(inner) <= LONGEST + 3


@pytest.mark.parametrize("text", HOSTILE)
def test_a_comment_shows_nothing_of_strangers_outside_of_code(text):
    finding = Finding("unreadable", ERROR, text, text, "a whole parquet file", "Write it again.")
    submission = Submission("o/d", 1, "ann", "open", "a" * 40, "b" * 40, (Change(text, "added", 1),), False, ())
    told = (Effect(text, text, text), Effect(text, text, f"{text} "))
    shown = render(Verdict(submission, (finding,), (Report(text, (finding,)),), told))
    head, *table = shown.split("\n\n", 1)[1].splitlines()
    assert head == "| what | found |"
    for line in table[1:]:
        assert line.count("|") == 3
        bare = re.sub(r"`[^`]*`", "", line)
        assert not re.search(r"script|img|evil|owner|bold|h1|exe|xx|mermaid|-->", bare), bare


def test_what_merging_does_not_change_is_said_so():
    same, law, more = (Effect("budget", *ends) for ends in (("none", "none"), ("p2", "p2"), ("none", "9 tokens")))
    assert (same.unchanged, law.unchanged, more.unchanged) == ("no change", "no change, p2", "")


def test_a_long_comment_is_cut():
    changes = tuple(Change(f"runs/ann/{i}", "added", 1) for i in range(500))
    submission = Submission("o/d", 1, "ann", "open", "a" * 40, "b" * 40, changes, False, ())
    shown = render(Verdict(submission, (), tuple(Report(c.path) for c in changes)))
    assert len(shown.splitlines()) == MOST_ROWS + 6
    assert "and 440 rows more" in shown
