"""What a submission would change: the law that is recommended, a standard budget, and curves no law expected.

Only held-out texts and groups that the new runs touch are fitted again. The standard budget is the marginal one of
the group's largest model: from how many tokens on the next doubling wins less than .01 nats.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leaderboard import LAWS, fit, rank, recommend_tokens, score_cells
from leaderboard.errors import FitError, P2Error
from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.logs.findings import UNUSUAL, Finding
from leaderboard.ranking.rank import NEW_MODEL
from leaderboard.ranking.tracks import groups, split

TEXT = ["eval_data", "objective"]
ENOUGH_RUNS = 5  # in a group, before a law may call a curve odd
FAR = 4.0  # times the fit's own error
LEAST = 0.02  # nats per token that always are within the interval: two seeds differ by as much
NONE = "none"
FEW_DRAWS = 2  # intervals are not shown here


@dataclass(frozen=True)
class Effect:
    """A figure before and after merging, as text."""

    what: str
    before: str
    after: str

    @property
    def unchanged(self) -> str:
        """That merging makes no difference, in words; empty where it makes one."""
        if self.before != self.after:
            return ""
        return "no change" if self.after == NONE else f"no change, {self.after}"


def effects(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[Effect]:
    """The recommended law of each touched text, then one budget of each touched group."""
    new = _new(before, after)
    for text, rows in new.groupby(TEXT, observed=True):
        old_frame, new_frame = (_on_text(frame, text) for frame in (before, after))
        old_law, new_law = _recommended(old_frame), _recommended(new_frame)
        yield Effect(f"recommended law on {text[0]}", old_law or NONE, new_law or NONE)
        for key, _ in groups(usable(rows)):
            where = f"budget of {key['family']} {key['method']} on {key['eval_data']}"
            yield Effect(
                where, _budget(old_frame, new_frame, key, old_law), _budget(new_frame, new_frame, key, new_law)
            )


def outliers(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, tuple[Finding, ...]]:
    """Warnings by run_id: new curves far outside of what the law of their group, fitted on main, expects."""
    out: dict[str, tuple[Finding, ...]] = defaultdict(tuple)
    known = {tuple(key.values()): rows for key, rows in groups(usable(before))} if len(before) else {}
    for key, rows in groups(usable(_new(before, after))):
        old = known.get(tuple(key.values()))
        if old is None or old["run_id"].nunique() < ENOUGH_RUNS:
            continue
        damaged = all((frame["l_pruned"] > frame["l0"]).all() for frame in (old, rows))
        law = LAWS["damage" if damaged else "p2"]
        try:
            fitted = fit(law, old)
        except FitError:
            continue
        miss = pd.Series(fitted.predict(rows) - rows["loss"].to_numpy(dtype=float))
        own = np.sqrt((miss**2).groupby(curve_numbers(rows)).mean())
        runs = rows.groupby(curve_numbers(rows))["run_id"].first().astype(str)
        for run, error in zip(runs, own, strict=True):
            if not error <= (most := max(FAR * fitted.rmse, LEAST)):
                got, allowed = f"{error:.3f} nats off the law {law.name}", f"up to {most:.3f}"
                fix = "It waits for a person: look at rate, l0 and the held-out text once more."
                out[run] += (Finding("outlier", UNUSUAL, "loss", got, allowed, fix),)
    return out


def _new(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs that are not on main as they are here, or were and go."""
    return pd.concat(
        [_only_in(after, before), _only_in(before, after)[lambda gone: ~gone["run_id"].isin(after["run_id"])]]
    )


def _only_in(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    columns = ["contributor", "run_id", "tokens", "loss", "l0", "l_pruned", "rate"]
    known = set(map(tuple, other[columns].astype({"contributor": str, "run_id": str}).itertuples(index=False)))
    rows = map(tuple, one[columns].astype({"contributor": str, "run_id": str}).itertuples(index=False))
    fresh = one[[row not in known for row in rows]] if len(one) else one
    return one[one["run_id"].isin(fresh["run_id"])]


def _on_text(frame: pd.DataFrame, text: tuple[object, ...]) -> pd.DataFrame:
    keep = np.ones(len(frame), dtype=bool)
    for column, value in zip(TEXT, text, strict=True):
        keep &= (frame[column].astype(str) == str(value)).to_numpy(dtype=bool)
    return frame[keep]


def _recommended(frame: pd.DataFrame) -> str | None:
    """The law that predicts new models best; None where the data can test none."""
    rows = [group for _, group in groups(usable(frame))] if len(frame) else []
    if all(split(group, track) is None for group in rows for track in NEW_MODEL):
        return None
    table = rank(frame, cells=score_cells(frame, tracks=NEW_MODEL, draws=FEW_DRAWS))
    best = table[table["recommended"]]
    return str(best["law"].iloc[0]) if len(best) else None


def _budget(frame: pd.DataFrame, after: pd.DataFrame, key: dict[str, str], law: str | None) -> str:
    """Tokens for the largest model that the group will have."""
    group = next(rows for name, rows in groups(usable(after)) if name == key) if len(usable(after)) else None
    if law is None or group is None:
        return NONE
    run = group[group["n0"] == group["n0"].max()].iloc[0]
    try:
        answer = recommend_tokens(
            frame, family=key["family"], method=key["method"], rate=float(run["rate"]), n0=float(run["n0"]),
            l0=float(run["l0"]), l_pruned=float(run["l_pruned"]), eval_data=key["eval_data"],
            objective=key["objective"], law=law,
        )  # fmt: skip
    except P2Error:
        return NONE
    return f"{answer.tokens:,} tokens" if answer.tokens is not None else str(answer.status)
