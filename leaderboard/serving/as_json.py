"""Answers as plain data under the contract's keys, the same for the command line, REST and MCP. NaN is null."""

from typing import Any

import pandas as pd

from leaderboard.logs.contract import GROUP
from leaderboard.logs.frame import Logs
from leaderboard.logs.origin import PROTOCOL
from leaderboard.planning.recipe import usual_recipe
from leaderboard.ranking.cells import METRICS, asd_interval


def plain(value: Any) -> Any:
    """JSON-ready: numbers and text only, no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as a list of plain records."""
    return [plain(row) for row in table.to_dict("records")]


def data(logs: Logs) -> dict[str, Any]:
    """Which state of the data this is, and how most of its runs were trained."""
    return {
        "source": logs.source,
        "revision": logs.revision,
        "date": logs.date.isoformat() if logs.date else None,
        "runs": len(logs.frame[["run_id", "contributor"]].drop_duplicates()),
        "recipe": plain(usual_recipe(logs.frame)),
        "note": logs.note,
        "quarantined": [r.as_dict() for r in logs.quarantined],
    }


def ranking(table: pd.DataFrame, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Laws in rank order, each with its cells."""
    by_law = dict(list(cells.groupby("law", sort=False)))
    laws = []
    for row in table.to_dict("records"):
        own = by_law[row["law"]].to_dict("records")
        laws.append(
            {
                "law": row["law"],
                "rank": None if pd.isna(row["rank"]) else int(row["rank"]),
                "score": row["score"],
                "score_doubling": row["score_doubling"],
                "score_90": [row["score_low"], row["score_high"]],
                "wins": row["wins"],
                "rmse_heldout": row["rmse_heldout"],
                "recommended": bool(row["recommended"]),
                "cells": [
                    {
                        "group": {g: c[g] for g in (*GROUP, PROTOCOL) if g in c},
                        "track": c["track"],
                        "status": c["status"],
                    }
                    | {m: c[m] for m in METRICS}
                    | {"asd_90": asd_interval(c["asd_draws"])}
                    for c in own
                ],
            }
        )
    return plain(laws)  # type: ignore[no-any-return]
