"""Numbers as people read them: one way to write a count, a time, a price. Programs get the numbers as they are."""

import math
import re
from html import escape
from typing import Any
from urllib.parse import urlsplit

SCALES = ((1e12, "trillion", "T"), (1e9, "billion", "B"), (1e6, "million", "M"), (1e3, "thousand", "k"))
TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
NONE = "–"  # what was not measured stays empty
_COUNT = re.compile(r"(\d{1,3}(?:,\d{3})+(?:\.\d*)?|[\d_.]+(?:[eE]\+?\d+)?)\s*([kKmMbBtT]?)")


def missing(value: object) -> bool:
    """Whether there is no value: None, NaN or NaT."""
    return value is None or value != value


def short(value: float) -> str:
    """Three digits, no trailing zeros and no exponent: 3.76, 30, 2,345."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def digits(value: float, number: int = 3) -> str:
    """A value to so many significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    places = max(0, number - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def count(value: float | None, long: bool = False) -> str:
    """A count to three digits: 5.62 M, or 5.62 million."""
    if value is None or missing(value):
        return NONE
    for scale, word, letter in SCALES:
        if abs(value) >= scale * 0.9995:
            return f"{short(value / scale)} {word if long else letter}"
    return short(value)


def read_count(text: str) -> float | None:
    """The number that a count in words means, as people write one: 34M, 8B, 61_440, 1e9; None where it is none."""
    found = _COUNT.fullmatch(text.strip())
    scales = {"": 1.0} | {letter.lower(): scale for scale, _, letter in SCALES}
    try:
        return float(found[1].replace(",", "")) * scales[found[2].lower()] if found else float(text)
    except ValueError:
        return None


def span(low: float, high: float, long: bool = False) -> str:
    """Two counts, the unit once where it is the same: 3.1 to 10.5 million."""
    first, last = count(low, long), count(high, long)
    (a, unit), (_, other) = first.rpartition(" ")[::2], last.rpartition(" ")[::2]
    return f"{a} to {last}" if unit == other and a else f"{first} to {last}"


def loss(value: float | None) -> str:
    """Nats per token."""
    return NONE if value is None or missing(value) else f"{value:.3f}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return NONE if value is None or missing(value) else f"{100 * value:.1f} %"


def number(value: float | None, places: int = 2) -> str:
    """A plain number."""
    return NONE if value is None or missing(value) else f"{value:,.{places}f}"


def price(value: float | None) -> str:
    """US dollars: $0.05, $12.30, $1,234."""
    if value is None or missing(value):
        return NONE
    return f"${value:,.{0 if value >= 99.995 else 2}f}" if value >= 0.005 else "under a cent"


def time(hours: float | None) -> str:
    """Time of one machine, given in hours, in the unit that reads best: 2.5 h, 30 min, 2.16 s."""
    if hours is None or missing(hours):
        return NONE
    return next(
        (f"{short(hours * 3600 / size)} {unit}" for size, unit in TIMES if hours * 3600 / size >= 0.9995),
        "under a second",
    )


def day(value: Any) -> str:
    """A date."""
    return NONE if missing(value) else f"{value:%-d %b %Y}"


def text(value: object) -> str:
    """Any text, safe inside HTML."""
    return NONE if missing(value) or value == "" else escape(str(value))


def address(url: str) -> str:
    """An address without the name and password that may stand in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
