"""What README.md shows of the demo is what it prints: the words in their order, and the numbers within five percent.

Times and speeds are those of one machine, and compared with nothing.
"""

import re
from pathlib import Path

import pytest

from tests.commands import p2zoo

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"^```text\n([^`]*?\[\d+\] [^`]*?^All of it took [^`]*?)^```$", re.M)
OF_THE_MACHINE = re.compile(r"[\d,]+ tok/s|\d+ s\b|127\.0\.0\.1:\d+|\d+ min\b")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
TOLERANCE = 0.05


def line(text: str) -> tuple[str, list[float]]:
    """The words of a line, and its numbers."""
    text = " ".join(OF_THE_MACHINE.sub("", text).split())
    return NUMBER.sub("#", text), [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def missing(shown: str, printed: str) -> list[str]:
    """Lines that are shown and do not come in what was printed, in this order."""
    rest, absent = iter(map(line, printed.splitlines())), []
    for text in filter(lambda one: one.strip() not in ("", "..."), shown.splitlines()):
        words, numbers = line(text)
        if not any(said == words and got == pytest.approx(numbers, rel=TOLERANCE) for said, got in rest):
            absent.append(text)
            break  # what follows was passed over
    return absent


def test_a_line_that_is_not_printed_is_seen():
    printed = "loss 2.50  1,000 tok/s\nthen 3.00\nall in 9 s"
    assert missing("loss 2.51  7 tok/s\n...\nall in 70 s", printed) == []
    assert missing("loss 2.70  7 tok/s", printed) == ["loss 2.70  7 tok/s"]
    assert missing("then 3.00\nloss 2.50  1,000 tok/s", printed) == ["loss 2.50  1,000 tok/s"]


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(tmp_path):
    done = p2zoo("demo", "--out", tmp_path / "quickstart", timeout=850)
    assert done.returncode == 0, done.stderr
    (shown,) = SHOWN.findall(README)
    printed = done.stdout.replace(str(tmp_path), "runs")
    assert missing(shown, printed) == []
