"""One row a run, and filters that say which of them leaves nothing.

Losses are nats per token, rates shares of all parameters, counts counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.contract import CLM, COLUMNS, GROUP, UNKNOWN, nats_per_byte
from leaderboard.logs.origin import ORIGIN, PROTOCOL, origin, protocol

FACETS = ("family", "method", "base_model", "contributor", "eval_data")  # columns that a filter may name a value of
RANGE = "rate"  # the column that a filter may bound
SEARCH = ("run_id", "base_model", "family", "method", "contributor", "model_repo", "train_data", "eval_data")


def runs_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run and contributor, newest first: every run-level column, with `tokens` and `loss` of its last row,
    `points` (evaluations), `name` (contributor/run_id) and `recovered`, the share of the damage won back (NaN where
    there was none), and `nats_per_byte`, the last loss where the bytes of the held-out text are known.
    """
    last = frame.sort_values("tokens", kind="stable").drop_duplicates(["run_id", "contributor"], keep="last")
    points = frame.groupby(["run_id", "contributor"], observed=True).size().rename("points").reset_index()
    text = [c.name for c in COLUMNS if c.kind == "text" and c.name in last]
    table = last.astype(dict.fromkeys(text, object)).merge(points.astype({"run_id": object, "contributor": object}))
    damage = (table["l_pruned"] - table["l0"]).where(lambda d: d > 0)
    name = table["contributor"] + "/" + table["run_id"]
    table = table.assign(recovered=(table["l_pruned"] - table["loss"]) / damage, name=name)
    table = table.assign(nats_per_byte=nats_per_byte(table))
    return table.sort_values(["created_at", "run_id"], ascending=[False, True], ignore_index=True)


@dataclass(frozen=True)
class Filtered:
    """The rows that are left, and where none is, `blame`: the filters each of which empties the table alone, or all of
    them with the number of rows that would be left without it."""

    rows: pd.DataFrame
    blame: dict[str, int]

    @property
    def words(self) -> str:
        """What empties the table, in a sentence; empty where something is left."""
        if not self.blame:
            return ""
        freed = {name: n for name, n in self.blame.items() if n}
        if not freed:
            return f"No run matches: even without one of {', '.join(self.blame)} none is left."
        hints = ", ".join(f"without {name} {n:,} {'is' if n == 1 else 'are'} left" for name, n in freed.items())
        return f"No run matches all filters: {hints}."


def filter_runs(
    table: pd.DataFrame,
    *,
    search: str = "",
    rate_from: float | None = None,
    rate_to: float | None = None,
    **facets: str | None,
) -> Filtered:
    """Rows of `runs_table` that pass every filter: `search` in any name, a rate range, and values of FACETS by name.

    An empty or None filter is none. Raises P2Error on a facet that does not exist or a value that no run has.
    """
    kept = {name: value for name, value in facets.items() if value}
    for name, value in kept.items():
        if name not in FACETS:
            raise unknown_name("filter", name, (*FACETS, "search", "rate_from", "rate_to"), "runs")
        if value not in set(table[name]):
            raise unknown_name(name, value, table[name].unique(), "runs")
    for name, bound in (("rate_from", rate_from), ("rate_to", rate_to)):
        if bound is not None and not 0 <= bound <= 1:
            raise P2Error(f"runs: {name} is {bound!r}; a rate is a share between 0 and 1, 0.25 for 25 %.")
    masks = {name: table[name] == value for name, value in kept.items()}
    if search:
        masks["search"] = _found(table, search)
    if rate_from is not None:
        masks["rate_from"] = table[RANGE] >= rate_from - 1e-9
    if rate_to is not None:
        masks["rate_to"] = table[RANGE] <= rate_to + 1e-9
    left = table[_all(masks, table)]
    return Filtered(left.reset_index(drop=True), _blame(masks, table) if masks and left.empty else {})


def _found(table: pd.DataFrame, search: str) -> pd.Series:
    hit = pd.Series(False, index=table.index)
    for name in SEARCH:
        hit |= table[name].fillna("").astype(str).str.contains(search, case=False, regex=False)
    return hit


def _all(masks: Mapping[str, pd.Series], table: pd.DataFrame, but: str = "") -> pd.Series:
    keep = pd.Series(True, index=table.index)
    for name, mask in masks.items():
        if name != but:
            keep &= mask
    return keep


def _blame(masks: Mapping[str, pd.Series], table: pd.DataFrame) -> dict[str, int]:
    return {name: int(_all(masks, table, but=name).sum()) for name in masks}


MOST_CURVES = 9  # in a panel: more cannot be told apart


def group_name(group: Mapping[Any, Any], text: bool = True) -> str:
    """Family, method, held-out text, objective, origin and protocol in words; the usual ones are not said."""
    named = [group["family"], group["method"], *([group["eval_data"]] if text else [])]
    named += [group["objective"]] * (group["objective"] not in (CLM, UNKNOWN))
    return " · ".join(map(str, [*named, *_apart(group)]))


def _apart(group: Mapping[Any, Any]) -> list[str]:
    named = (group.get(name) for name in (ORIGIN, PROTOCOL))
    return [str(name) for name in named if name and name == name]


def panels(frame: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Rows of `frame` that are drawn, with the column `panel`, and how many of `runs` (`runs_table`) are left out.

    A panel is a group; at most MOST_CURVES of its runs, evenly spread over sizes and rates.
    """
    picked = []
    runs = runs.assign(**{ORIGIN: origin(runs), PROTOCOL: protocol(runs)})
    for _, own in runs.sort_values(["n0", "rate", "name"]).groupby([*GROUP, ORIGIN, PROTOCOL], sort=True):
        step = max(1.0, len(own) / MOST_CURVES)
        picked.append(own.iloc[[int(i * step) for i in range(min(len(own), MOST_CURVES))]])
    chosen = pd.concat(picked)
    many = chosen["eval_data"].nunique() > 1
    panel = {row["name"]: group_name(row, many) for row in chosen.to_dict("records")}
    of = (frame["contributor"].astype(str) + "/" + frame["run_id"].astype(str)).map(panel)
    return frame[of.notna().to_numpy()].assign(panel=of.dropna().to_numpy()), len(runs) - len(chosen)
