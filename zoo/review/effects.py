"""What a submission would change: who answers on its texts, standard budgets of every group there, and odd curves.

All groups on a held-out text share fits, laws or the choice among them, so each is asked before and after, through the
path that answers visitors (planning/recommend.py). The standard budgets are those of the group's largest model: from
how many tokens on the next doubling wins less than .01 nats, and how many bring it within .05 nats of the unpruned one.
A change beyond what one submission may make by itself waits for a person.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leaderboard import LAWS, fit
from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.robust import SEED_OWNER, trusted
from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.logs.findings import UNUSUAL, Finding
from leaderboard.logs.frame import OWNER, on_yardstick
from leaderboard.logs.origin import standard
from leaderboard.planning.budget import GAIN, Question, grid, invert
from leaderboard.planning.recommend import choose_laws, predictor, same_text
from leaderboard.ranking.tracks import groups

TEXT = ["eval_data", "objective"]
ENOUGH_RUNS = 5  # in a group, before a law may call a curve odd
FAR = 4.0  # times the fit's own error
LEAST = 0.02  # nats per token that always are within the interval: two seeds differ by as much
NONE = "none"
OTHERS, OWN, IN_SUM = (
    1.10,
    1.5,
    2.0,
)  # times that a standard budget may move: another's, one's own, all of a contributor
MANY_RUNS = 10  # of a group, from where its own runs may move it by no more than OWN
GOALS: dict[str, dict[str, Any]] = {"budget": {"gain": GAIN}, "budget to .05 nats": {"excess": 0.05}}
Key = tuple[str, str]  # family and method


@dataclass(frozen=True)
class Effect:
    """A figure before and after merging, as text. `factor` is how many times it changes, None where a number comes or
    goes; `most`, how many it may by itself, None for any."""

    what: str
    before: str
    after: str
    factor: float | None = 1.0
    most: float | None = None

    @property
    def unchanged(self) -> str:
        """That merging makes no difference, in words; empty where it makes one."""
        if self.before != self.after:
            return ""
        return "no change" if self.after == NONE else f"no change, {self.after}"

    @property
    def finding(self) -> Finding | None:
        """Why it waits for a person; None where it need not."""
        if self.most is None or (self.factor is not None and self.factor <= self.most):
            return None
        times = "" if self.factor is None else f", {self.factor:.2f} times"
        allowed = f"up to {self.most:.2f} times, or the same answer"
        fix = "It waits for a person: see whether these runs should decide that."
        return Finding("moves_answers", UNUSUAL, self.what, f"{self.before} -> {self.after}{times}", allowed, fix)


def effects(before: pd.DataFrame, after: pd.DataFrame, author: str = "", owner: str = "") -> Iterator[Effect]:
    """On every text that new runs touch: the laws that answer, then standard budgets of all groups there.

    `before` and `after` hold rows of good logs on main and as they would be, `author` sends them, `owner` has the data.
    """
    for frame in (before, after):
        frame.attrs[OWNER] = owner
    new = _new(before, after)
    yield from _usual_texts(before, after)
    whole = [(before, after, new)]
    if "yardstick_loss" in new and new["yardstick_loss"].notna().any():
        whole.append((_measured(before), _measured(after), on_yardstick(new)))
    for old_frame, new_frame, fresh in whole:
        for text, rows in fresh.groupby(TEXT, observed=True):
            name = (str(text[0]), str(text[1]))
            yield from _on_one(name, _on_text(old_frame, name), _on_text(new_frame, name), rows, author)


def _on_one(
    text: tuple[str, str], before: pd.DataFrame, after: pd.DataFrame, new: pd.DataFrame, author: str
) -> Iterator[Effect]:
    """The effects on one text."""
    laws = [_laws(frame) for frame in (before, after)]
    yield Effect(f"laws that answer on {text[0]}, best first", laws[0], laws[1])
    runs = {key: rows["run_id"].nunique() for key, rows in _groups(before)}
    asked = {key: _question(rows) for key, rows in (*_groups(after), *_groups(before))}
    touched = {key for key, _ in _groups(new)}
    old, now = (_answers(frame, text, asked) for frame in (before, after))
    exempt = author in (before.attrs.get(OWNER), SEED_OWNER, "")
    theirs = after[after["contributor"].astype(str) != author]
    known = not exempt and bool((before["contributor"].astype(str) == author).any())
    rest = _answers(theirs, text, asked) if known else old
    others = {key for key, _ in _groups(theirs)}
    for family, method in sorted(asked):
        for goal in GOALS:
            at = (family, method, goal)
            own = OWN if runs.get((family, method), 0) >= MANY_RUNS else None
            most = own if (family, method) in touched else OTHERS
            what = f"{goal} of {family} {method} on {text[0]}"
            yield _change(what, old[at], now[at], most if (family, method) in runs else None)
            summed = _change(f"{what}, from without any run of {author}", rest[at], now[at], IN_SUM)
            if not exempt and (family, method) in others and summed.finding is not None:
                yield summed


def _change(what: str, before: "int | str", after: "int | str", most: float | None) -> Effect:
    old, now = (f"{answer:,} tokens" if isinstance(answer, int) else answer for answer in (before, after))
    return Effect(what, old, now, factor=_times(before, after), most=None if before == NONE else most)


def _times(one: "int | str", other: "int | str") -> float | None:
    """How many times one budget is the other, 1 or more; None between a number and words."""
    if isinstance(one, int) and isinstance(other, int):
        return max(one + 1, other + 1) / min(one + 1, other + 1)
    return 1.0 if one == other else None


def _usual_texts(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[Effect]:
    """Groups whose questions would be answered on another text, where a question names none."""
    for family, method in sorted({key for key, _ in _groups(before)}):
        texts = []
        for frame in (before, after):
            try:
                texts.append(same_text(frame, family, method, None, None)[1]["eval_data"])
            except P2Error:
                texts.append(NONE)
        if texts[0] != texts[1] and NONE not in texts:
            yield Effect(f"text on which {family} {method} answers", texts[0], texts[1], factor=None, most=1.0)


def _groups(frame: pd.DataFrame) -> list[tuple[Key, pd.DataFrame]]:
    """The rows that answer about each family and method."""
    rows = standard(usable(frame)) if len(frame) else frame
    if not len(rows):
        return []
    return [((key["family"], key["method"]), own) for key, own in groups(rows, ("family", "method"))]


def _question(group: pd.DataFrame) -> dict[str, Any]:
    """What is asked about a group: its largest model, as its first run has it."""
    run = group[group["n0"] == group["n0"].max()].iloc[0]
    names = ("rate", "n0", "l0", "l_pruned")
    return {name: None if pd.isna(run[name]) else float(run[name]) for name in names}


def _answers(
    frame: pd.DataFrame, text: tuple[str, str], asked: dict[Key, dict[str, Any]]
) -> "dict[tuple[str, str, str], int | str]":
    """Tokens, or in words why there are none, by family, method and goal."""
    out: dict[tuple[str, str, str], int | str] = {}
    for (family, method), run in asked.items():
        out |= {(family, method, goal): NONE for goal in GOALS}
        try:
            fitted = predictor(
                frame, family=family, method=method, eval_data=text[0], objective=text[1],
                l_pruned_known=run["l_pruned"] is not None,
            )  # fmt: skip
            for goal, wanted in GOALS.items():
                question = Question(family=family, method=method, **run, **wanted)
                tokens, _, status = invert(fitted, question, grid(fitted.range.tokens[0]))
                out[family, method, goal] = str(status) if tokens is None else tokens
        except P2Error:
            continue
    return out


def _laws(text: pd.DataFrame) -> str:
    """The laws that answer on one text, best first."""
    rows = standard(usable(text)) if len(text) else text
    if not len(rows):
        return NONE
    return ", ".join(choose_laws(trusted(rows).rows, None, True)[0]) or NONE


def _measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows by their losses on the yardstick, which may be none."""
    try:
        rows = on_yardstick(frame)
    except P2Error:
        rows = frame.iloc[:0]
    rows.attrs[OWNER] = frame.attrs.get(OWNER)
    return rows


def outliers(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, tuple[Finding, ...]]:
    """Warnings by run_id: new curves far outside of what the law of their group, fitted on main, expects."""
    out: dict[str, tuple[Finding, ...]] = defaultdict(tuple)
    new = _new(before, after)
    rows = pd.concat([before.assign(fresh=False), new.assign(fresh=True)], ignore_index=True)
    for _, group in groups(usable(rows)) if len(rows) else []:  # of both at once, so that protocols part them
        fresh = group["fresh"].to_numpy(dtype=bool)
        for run, error, most, law in _off(group[~fresh], group[fresh]):
            got, allowed = f"{error:.3f} nats off the law {law}", f"up to {most:.3f}"
            fix = "It waits for a person: look at rate, l0 and the held-out text once more."
            out[run] += (Finding("outlier", UNUSUAL, "loss", got, allowed, fix),)
    return out


def _off(old: pd.DataFrame, rows: pd.DataFrame) -> Iterable[tuple[str, float, float, str]]:
    """New runs of a group that its law misses by far: run_id, nats, how many are allowed, the law."""
    if not len(rows) or old["run_id"].nunique() < ENOUGH_RUNS:
        return
    damaged = all((frame["l_pruned"] > frame["l0"]).all() for frame in (old, rows))
    law = LAWS["damage" if damaged else "p2"]
    try:
        fitted = fit(law, old)
    except FitError:
        return
    miss = pd.Series(fitted.predict(rows) - rows["loss"].to_numpy(dtype=float))
    own = np.sqrt((miss**2).groupby(curve_numbers(rows)).mean())
    runs = rows.groupby(curve_numbers(rows))["run_id"].first().astype(str)
    most = max(FAR * fitted.rmse, LEAST)
    yield from ((run, error, most, law.name) for run, error in zip(runs, own, strict=True) if not error <= most)


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


def _on_text(frame: pd.DataFrame, text: tuple[str, str]) -> pd.DataFrame:
    keep = np.ones(len(frame), dtype=bool)
    for column, value in zip(TEXT, text, strict=True):
        keep &= (frame[column].astype(str) == value).to_numpy(dtype=bool)
    return frame[keep]
