"""Published figures of recoveries: one row a figure, and the rows nearest to a question.

`figures.csv` holds each figure in its source's own unit, `sources.json` where it stands. Loaded losses are nats a token
(ln of a perplexity); accuracies are %. Missing stays missing. The law over them is in recovery.py.
"""

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error

HERE = Path(__file__).parent
COLUMNS = (
    "source", "model", "family", "method", "importance", "kind", "n0", "n_pruned", "rate", "tokens", "text", "unit",
    "l0", "l0_control", "l_pruned", "loss", "score0", "score_pruned", "score", "damage", "excess", "share_left",
    "healed", "note",
)  # fmt: skip
SHOWN = (
    "source", "where", "model", "family", "n0", "method", "kind", "rate", "tokens", "text", "unit", "l0", "l0_control",
    "l_pruned", "loss", "score0", "score_pruned", "score", "share_left", "healed", "note",
)  # fmt: skip
PUBLISHED = ("dense", "control", "pruned", "recovered")
LOSSES = ("l0", "l0_control", "l_pruned", "loss")
SCORES = ("score0", "score_control", "score_pruned", "score")
HEALED = 0.1  # who wins back less than a tenth of the damage has not healed the cut
# What counts as one step away: a factor in size, odds of the rate, tokens and damage; another method; an accuracy
# where losses are asked for.
FACTORS = {"n0": 4.0, "odds": 2.0, "tokens": 30.0, "damage": 2.0}
OTHER_METHOD = 2.0
NO_LOSS = 1.0


@dataclass(frozen=True)
class Source:
    """Where figures stand: title, address, table and commit, licence, evaluated text, recipe, and what to beware of."""

    name: str
    title: str
    where: str
    table: str
    licence: str
    text: str
    recipe: str
    note: str


@cache
def load_sources() -> dict[str, Source]:
    """The sources by the name that rows carry."""
    entries = json.loads((HERE / "sources.json").read_text(encoding="utf-8"))
    return {name: Source(name=name, **entry) for name, entry in entries.items()}


def load_evidence() -> pd.DataFrame:
    """All published rows, with the columns COLUMNS; a copy that may be changed.

    `damage` is l_pruned - l0, `excess` is loss over the control's where there is one, else over l0; `share_left` is
    excess over damage, or the same of accuracies. `healed` is whether training won back HEALED of the damage; empty for
    accuracies.
    """
    return _evidence().copy()


@cache
def _evidence() -> pd.DataFrame:
    rows = pd.read_csv(HERE / "figures.csv", keep_default_na=True)
    in_nats, perplexity = rows["unit"].isin(["nats", "perplexity"]), rows["unit"] == "perplexity"
    for published, loss, score in zip(PUBLISHED, LOSSES, SCORES, strict=True):
        figure = rows[published].astype(float)
        rows[loss] = figure.mask(perplexity, pd.Series(np.log(figure))).where(in_nats)
        rows[score] = figure.mask(in_nats)
    rows["text"] = rows["source"].map({name: source.text for name, source in load_sources().items()})
    rows["damage"] = rows["l_pruned"] - rows["l0"]
    rows["excess"] = rows["loss"] - rows["l0_control"].fillna(rows["l0"])
    lost = (rows["score0"] - rows["score"]) / (rows["score0"] - rows["score_pruned"])
    rows["share_left"] = (rows["excess"] / rows["damage"]).fillna(lost)
    won_back = rows["l_pruned"] - rows["loss"]
    rows["healed"] = (won_back >= HEALED * rows["damage"]).astype("boolean").mask(rows["damage"].isna())
    return rows[list(COLUMNS)]


def nearest(
    rows: pd.DataFrame | None = None,
    *,
    method: str | None = None,
    rate: float | None = None,
    n0: float | None = None,
    tokens: float | None = None,
    l0: float | None = None,
    l_pruned: float | None = None,
    count: int = 5,
) -> list[dict[str, Any]]:
    """The published rows most like a question, nearest first, as plain records (no NaN) with the keys SHOWN.

    `rows` default to all evidence. What is not given does not count; the damage counts where both losses are given. Of
    each model in a source, and of each number of tokens, only the nearest row is told, so that one long table does not
    stand for the field. Raises P2Error for a value that is no size, rate or count.
    """
    rows = load_evidence() if rows is None else rows
    asked = {"rate": rate, "n0": n0, "tokens": tokens, "count": count}
    for name, value in asked.items():
        if value is not None and not (math.isfinite(value) and value > 0 and (name != "rate" or value < 1)):
            limits = "between 0 and 1" if name == "rate" else "above 0"
            raise P2Error(f"evidence: {name} is {value}; it must be a number {limits}.")
    damage = None if l0 is None or l_pruned is None or l_pruned <= l0 else l_pruned - l0
    order = rows.assign(distance=_distance(rows, method, rate, n0, tokens, damage)).sort_values(
        ["distance", "source", "model", "rate", "kind", "importance"], kind="stable"
    )
    first = order.drop_duplicates(["source", "model", "tokens"]).head(count)
    return records(first)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain records with the keys SHOWN, each with the address of its source; what is missing is None."""
    return [_record(row) for row in rows.to_dict("records")]


def _distance(
    rows: pd.DataFrame,
    method: str | None,
    rate: float | None,
    n0: float | None,
    tokens: float | None,
    damage: float | None,
) -> "pd.Series[float]":
    """Steps from each row to the question; a figure that the row lacks counts as one step."""
    squares = (rows["unit"] != "nats").where(rows["loss"].isna(), False).astype(float) * NO_LOSS**2
    if method is not None:
        squares = squares + (rows["method"] != method) * OTHER_METHOD**2
    odds = None if rate is None else rate / (1 - rate)
    given = {"n0": n0, "tokens": tokens, "damage": damage, "odds": odds}
    for name, value in given.items():
        if value is not None:
            column = rows["rate"] / (1 - rows["rate"]) if name == "odds" else rows[name]
            steps = np.log(column.where(column > 0) / value) / math.log(FACTORS[name])
            squares = squares + steps.pow(2).fillna(1.0)
    return squares.pow(0.5)


def _record(row: dict[Hashable, Any]) -> dict[str, Any]:
    row = row | {"where": load_sources()[row["source"]].where}
    return {name: None if pd.isna(row[name]) else _plain(row[name]) for name in SHOWN}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return int(value) if value >= 1e6 else round(value, 4)
    return value
