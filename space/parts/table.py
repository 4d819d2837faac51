"""A table as HTML: real <table> markup, all rows in the page, wide ones scrolling sideways inside their own frame.

Headings sort, columns are chosen, and the table is saved as CSV or JSON: static/tables.js does that in the browser, by
`data-value`, the value before it was written in words. A file of more than is shown comes from the server (`whole`).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from leaderboard import words

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A heading, the value's name, how it is written (escaped HTML), whether it is a number, and what it means; `more`
    columns are hidden until they are chosen."""

    label: str
    key: str
    write: Callable[[Any], str] = words.text
    numeric: bool = False
    help: str = ""
    wrap: bool = False
    more: bool = False


def number(label: str, key: str, write: Callable[[Any], str], help: str = "", more: bool = False) -> Column:
    """A right-aligned column."""
    return Column(label, key, lambda value: escape(write(value)), True, help, more=more)


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
    whole: str = "",
    cut: bool = False,
) -> str:
    """HTML of a table; `label` names it for screen readers, `marked` rows stand out, `empty` is said without rows.

    `whole` is the address of all of it, a name and a query, where the server has more columns or rows than are shown;
    a table that is `cut` shows some rows only, and is shown whole before it is sorted.
    """
    shown = list(columns)
    given = records(rows) if isinstance(rows, pd.DataFrame) else rows
    if not given:
        return f'<p class="empty" role="status">{escape(empty)}</p>'
    head = "".join(_head(column) for column in shown)
    body = "".join(_row(shown, row, marked is not None and marked(row)) for row in given)
    name = re.sub("[^a-z0-9]+", "-", label.lower()).strip("-")
    return (
        f'<div class="table-box" data-name="{name}"{" data-cut" * cut}>{_tools(shown, label, name, whole)}'
        f'<div class="table-frame" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def _tools(columns: Sequence[Column], label: str, name: str, whole: str) -> str:
    """What stands above a table: its columns to choose, and its files."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{column.key}"{"" if column.more else " checked"}>'
        f" {escape(column.label)}</label>"
        for column in columns
        if column.label
    )
    file, _, query = whole.partition("?")
    files = "".join(
        f'<a href="download/{file}.{kind}{"?" * bool(query)}{escape(query)}" aria-label="{words_}">{kind.upper()}</a>'
        if whole
        else f'<button type="button" class="save" data-kind="{kind}" aria-label="{words_}">{kind.upper()}</button>'
        for kind in ("csv", "json")
        for words_ in [escape(f"{label} as {kind.upper()}")]
    )
    return (
        f'<div class="table-tools"><details class="choose"><summary>Columns</summary><div role="group" '
        f'aria-label="{escape(f"Columns of {label}")}">{boxes}</div></details>{files}</div>'
    )


def _head(column: Column) -> str:
    """A heading that sorts; one without a label does not."""
    kind = ' class="num"' if column.numeric else ""
    title = f' title="{escape(column.help)}"' if column.help else ""
    name = f'<button type="button"{title}>{escape(column.label)}</button>' if column.label else ""
    return f'<th scope="col" data-key="{column.key}"{kind}{" hidden" * column.more}>{name}</th>'


def _row(columns: list[Column], row: Row, stands_out: bool) -> str:
    kinds = {(True, False): " class=num", (False, True): " class=wrap"}
    cells = "".join(
        f"<td{kinds.get((column.numeric, column.wrap), '')}{_value(column, row)}{' hidden' * column.more}>"
        f"{column.write(row.get(column.key))}</td>"
        for column in columns
    )
    return f"<tr{' class=marked' if stands_out else ''}>{cells}</tr>"


def _value(column: Column, row: Row) -> str:
    """The number that a cell writes in words; nothing where it is a text already."""
    value = row.get(column.key)
    if not column.numeric or isinstance(value, str):
        return ""
    return ' data-value=""' if value is None or words.missing(value) else f" data-value={float(value):.10g}"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Named facts side by side; values are HTML."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'
