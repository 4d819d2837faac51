"""Counts and shares as people write them on a command line: 34M, 8B, 61_440, 1e9; 25%, 0.25."""

import re
from typing import Annotated

import typer

_COUNT = re.compile(r"(\d{1,3}(?:,\d{3})+(?:\.\d*)?|[\d_.]+(?:[eE]\+?\d+)?)\s*([kKmMbBtT]?)")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def count(text: str) -> float:
    """Parameters or tokens."""
    found = _COUNT.fullmatch(text.strip())
    try:
        return float(found[1].replace(",", "")) * _UNITS[found[2].lower()] if found else float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no count; write 34M, 8B, 61_440 or 1e9.") from None


def share(text: str) -> float:
    """A share of all parameters."""
    number = text.strip().removesuffix("%")
    try:
        return float(number) / 100 if text.strip().endswith("%") else float(number)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no share; write 25% or 0.25.") from None


Share = Annotated[
    float | None, typer.Option(parser=share, metavar="SHARE", help="Share of all parameters removed, e.g. 25%.")
]


def count_option(words: str) -> typer.models.OptionInfo:
    """An option that takes a count."""
    option: typer.models.OptionInfo = typer.Option(parser=count, metavar="COUNT", help=words)
    return option
