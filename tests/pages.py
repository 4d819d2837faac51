"""The pages of the documentation, their fenced blocks, and whether a program prints what a page shows."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("zoo", "recipes", "leaderboard", "space", "tests")
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SKILL.md",
    *sorted(page.relative_to(ROOT).as_posix() for room in ROOMS for page in (ROOT / room).rglob("README.md")),
)
TOLERANCE = 0.03  # of a number that a page shows, against what is printed here
FENCE = re.compile(r"^```(\w+) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the word after it, its lines."""

    language: str
    how: str
    code: str


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    return [Block(*block) for block in FENCE.findall(text(page))]


def unlike(shown: str, printed: str) -> list[str]:
    """Lines of a page that no printed line is like: the same words, each number within TOLERANCE."""
    return [line for line in shown.splitlines() if not any(_alike(line, other) for other in printed.splitlines())]


def _alike(line: str, other: str) -> bool:
    if NUMBER.sub("#", line).split() != NUMBER.sub("#", other).split():
        return False
    ours, theirs = ([float(n.replace(",", "")) for n in NUMBER.findall(words)] for words in (line, other))
    return all(abs(a - b) <= TOLERANCE * abs(b) for a, b in zip(ours, theirs, strict=True))
