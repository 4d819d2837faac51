"""What a text in a log may be: short, printable, of one script where it is a name, and without markup.

Logs are shown on pages, in comments and in terminals, and their names stand in links and commands that people copy.
Whoever shows them escapes them as well.
"""

import json
import re
from collections.abc import Callable

from leaderboard.logs.contract import COLUMNS
from leaderboard.logs.rules.rows import Mask, Rows, Rule

MAX_TEXT = 2_000  # characters of a label of texts, which may name several, or of `software`
MAX_NAME = 200  # of any other
LABELS = ("train_data", "eval_data", "pruned_from", "software")  # hold file names, which may be of any script
MADE_OF = (*LABELS, "hardware")  # may hold letters of any script, as 1 × H100
REPOS = ("base_model", "model_repo")
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")  # of a user; a folder may be called so too
_REPO = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)  # owner/name or name
_MARKUP = re.compile(r"[<>`|]|\]\(|&#")
_TEXTS = [c.name for c in COLUMNS if c.kind == "text"]


def longest(name: str) -> int:
    """How many characters a text column may hold."""
    return MAX_TEXT if name in LABELS else MAX_NAME


def _too_long(name: str) -> Callable[[Rows], Mask]:
    return lambda rows: rows.text(name, lambda text: len(text) > longest(name))


def _odd(name: str) -> Callable[[Rows], Mask]:
    def odd(text: str) -> bool:
        plain = text.isascii() or name in MADE_OF
        shown = text.isprintable() and not _MARKUP.search(text[:MAX_TEXT])
        return not text or text != text.strip() or not shown or not plain

    return lambda rows: rows.text(name, odd)


def _no_match(name: str, pattern: re.Pattern[str]) -> Callable[[Rows], Mask]:
    return lambda rows: rows.text(name, lambda text: pattern.fullmatch(text) is None)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


TEXT_RULES: tuple[Rule, ...] = (
    *(Rule("text_too_long", name, _too_long(name), f"{longest(name)} characters", "Shorten it.") for name in _TEXTS),
    *(
        Rule(
            "odd_text",
            name,
            _odd(name),
            f"{'printable' if name in MADE_OF else 'ASCII'} text without space around it or markup (< > ` |)",
            "Drop control, direction and look-alike characters; null, where allowed, means not known.",
        )
        for name in _TEXTS
    ),
    *(
        Rule(
            "no_repo_id",
            name,
            _no_match(name, _REPO),
            "owner/name, or name alone: letters, digits and - _ . with none of - . in front",
            "Name it as the Hub does; it stands in links and commands that people copy.",
        )
        for name in REPOS
    ),
    Rule(
        "no_hub_name",
        "contributor",
        _no_match("contributor", HUB_NAME),
        "letters, digits and - _ . with a letter or digit in front, up to 96",
        "Set contributor to your Hub name; `p2zoo publish` does.",
    ),
    Rule(
        "software_not_json",
        "software",
        lambda rows: rows.text("software", lambda text: not _is_json_object(text)),
        "a JSON object of package versions",
        'Write e.g. {"torch": "2.13.0"}.',
    ),
)
