"""A table as HTML: real <table> markup, numbers aligned by tabular figures, scrolling inside its own frame."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from leaderboard import words

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A heading, the value's name, how it is written (escaped HTML), whether it is a number, and what it means."""

    label: str
    key: str
    write: Callable[[Any], str] = words.text
    numeric: bool = False
    help: str = ""
    wrap: bool = False


def number(label: str, key: str, write: Callable[[Any], str], help: str = "") -> Column:
    """A right-aligned column."""
    return Column(label, key, lambda value: escape(write(value)), True, help)


def records(rows: pd.DataFrame) -> list[Row]:
    """A frame's rows as they are written here."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def table(
    columns: Iterable[Column],
    rows: pd.DataFrame | list[Row],
    label: str,
    *,
    empty: str = "Nothing here yet.",
    marked: Callable[[Row], bool] | None = None,
) -> str:
    """HTML of a table; `label` names it for screen readers, `marked` rows stand out, `empty` is said without rows."""
    shown = list(columns)
    given = records(rows) if isinstance(rows, pd.DataFrame) else rows
    if not given:
        return f'<p class="empty" role="status">{escape(empty)}</p>'
    head = "".join(_head(column) for column in shown)
    body = "".join(_row(shown, row, marked is not None and marked(row)) for row in given)
    return (
        f'<div class="table-frame" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(column: Column) -> str:
    kind = ' class="num"' if column.numeric else ""
    title = f' title="{escape(column.help)}"' if column.help else ""
    return f'<th scope="col"{kind}{title}>{escape(column.label)}</th>'


def _row(columns: list[Column], row: Row, stands_out: bool) -> str:
    kinds = {(True, False): " class=num", (False, True): " class=wrap"}
    cells = "".join(
        f"<td{kinds.get((column.numeric, column.wrap), '')}>{column.write(row.get(column.key))}</td>"
        for column in columns
    )
    return f"<tr{' class=marked' if stands_out else ''}>{cells}</tr>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Named facts side by side; values are HTML."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'
