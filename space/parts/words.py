"""Numbers and names as people read them. Nothing here computes; it rounds and names units."""

import math
from html import escape
from urllib.parse import quote

SCALES = ((1e12, "trillion", "T"), (1e9, "billion", "B"), (1e6, "million", "M"), (1e3, "thousand", "k"))
NONE = "–"  # what was not measured stays empty


def missing(value: object) -> bool:
    """Whether there is no value: None, NaN or NaT."""
    return value is None or value != value


def count(value: float | None, long: bool = False) -> str:
    """A count to three digits: 5.62 M, or 5.62 million."""
    if value is None or missing(value):
        return NONE
    for scale, word, letter in SCALES:
        if abs(value) >= scale * 0.9995:
            return f"{digits(value / scale)} {word if long else letter}"
    return f"{value:,.0f}"


def digits(value: float, number: int = 3) -> str:
    """A value to so many significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    places = max(0, number - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


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


def money(value: float | None) -> str:
    """US dollars."""
    if value is None or missing(value):
        return NONE
    return f"${digits(value, 2)}" if value >= 0.01 else "under 1 cent"


def hours(value: float | None) -> str:
    """GPU-hours; minutes where that reads better."""
    if value is None or missing(value):
        return NONE
    if value >= 1:
        return f"{digits(value, 2)} GPU hours"
    return f"{digits(value * 60, 2)} GPU minutes" if value >= 1 / 60 else f"{digits(value * 3600, 2)} GPU seconds"


def day(value: object) -> str:
    """A date."""
    return NONE if missing(value) else f"{value:%-d %b %Y}"


def text(value: object) -> str:
    """Any text, safe inside HTML."""
    return NONE if missing(value) or value == "" else escape(str(value))


def run_link(name: object) -> str:
    """A link to the page of a run `contributor/run_id`, from any page; only the id is shown."""
    return f'<a href="curves?run={quote(str(name))}"><code>{text(str(name).rpartition("/")[2])}</code></a>'
