"""Which runs, and which contributor, an answer hangs on: the standard budget of each group with each of them left out.

The standard budget is the tokens from which the next doubling wins less than .01 nats, for the largest model of the
group at its highest rate. The laws that answer are chosen once, with all runs; each is fitted again without one run,
or without all runs of one contributor. Only runs that those laws were fitted to can matter, and runs that robust.py
discounts have no say already. A leave-one-out change is what one run can do, not how wrong it is: an end run of a small
group moves its answer much because nobody else measured there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.robust import trusted
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.logs.origin import standard
from leaderboard.planning.budget import Question, grid, invert
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.recommend import fit_new_model, mixture, same_text
from leaderboard.ranking.tracks import groups

RUN, CONTRIBUTOR = "run", "contributor"
COLUMNS = (*GROUP, "left_out", "name", "contributor", "tokens", "tokens_without", "factor")
NONE = float("nan")  # no number of tokens reaches the goal


def influence(frame: pd.DataFrame, tell: Callable[[str], None] = lambda words: None) -> pd.DataFrame:
    """One row a run or contributor left out, and group: tokens with all runs and without, the most telling first.

    `factor` is how many times more or fewer tokens are recommended, 1 or more; infinite where only one of the two
    answers has a number. `tell` hears which group is at work. Raises P2Error where nothing can be fitted.
    """
    rows = usable(frame)
    if not len(rows):
        raise P2Error("influence: no run here can be fitted (tokens > warmup_tokens, something pruned).")
    told: list[dict[str, object]] = []
    seen = set[tuple[str, ...]]()
    for key, own in groups(standard(rows)):
        group = {name: key[name] for name in GROUP}
        if tuple(group.values()) in seen:  # measured in another way too: the usual one answers
            continue
        seen.add(tuple(group.values()))
        tell(f"{group['family']} {group['method']}")
        told += (group | change for change in _changes(frame, group, question_of(own)))
    table = pd.DataFrame(told, columns=list(COLUMNS))
    return table.sort_values("factor", ascending=False, kind="stable").reset_index(drop=True)


def most_telling(table: pd.DataFrame) -> pd.DataFrame:
    """Of each group and kind of what is left out the first row."""
    return table.drop_duplicates([*GROUP, "left_out"]).sort_values([*GROUP, "left_out"], kind="stable")


def question_of(group: pd.DataFrame) -> Question:
    """The standard budget of a group, from its usable rows."""
    heads = group.sort_values(["n0", "rate"], kind="stable")
    run = heads.iloc[-1]
    l_pruned = float(run["l_pruned"]) if "l_pruned" in group and np.isfinite(run["l_pruned"]) else None
    return Question(
        family=str(run["family"]), method=str(run["method"]), rate=float(run["rate"]), n0=float(run["n0"]),
        l0=float(run["l0"]), l_pruned=l_pruned,
    )  # fmt: skip


def _changes(frame: pd.DataFrame, group: dict[str, str], question: Question) -> Iterator[dict[str, object]]:
    """The answer without each run and each contributor that has a say in it."""
    known = question.l_pruned is not None
    text, own = same_text(frame, **group)
    text = trusted(text).rows
    whole = mixture(text, {**group, **own}, None, known, "influence")
    tokens = tokens_of(whole, question)
    numbers = curve_numbers(text)
    heads = text.iloc[np.unique(numbers, return_index=True)[1]]
    lent = set.union(*(set(_names(member.rows)) for member in whole.members))
    for number, (_, head) in enumerate(heads.iterrows()):
        if (who := str(head.get("contributor", "")), str(head["run_id"])) in lent:
            without = _without(whole, text, numbers != number, question)
            yield _told(RUN, str(head["run_id"]), who, tokens, without)
    if "contributor" in text:
        by = text["contributor"].astype(str).to_numpy()
        for who in np.unique(by):
            if (keep := by != who).any():
                yield _told(CONTRIBUTOR, str(who), str(who), tokens, _without(whole, text, keep, question))


def _names(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    who = rows["contributor"].astype(str) if "contributor" in rows else pd.Series("", index=rows.index)
    return zip(who, rows["run_id"].astype(str), strict=True)


def _without(whole: Mixture, text: pd.DataFrame, keep: NDArray[np.bool_], question: Question) -> float:
    """Tokens by the same laws, fitted to the rows that are kept; NaN where they have no answer."""
    members, errors = [], []
    for member, error in zip(whole.members, whole.errors, strict=True):
        try:
            members.append(fit_new_model(member.fit.law, text[keep], question.family, question.method, "influence"))
            errors.append(error)
        except (FitError, P2Error):
            continue
    if not members:
        return NONE
    return tokens_of(replace(whole, members=tuple(members), errors=tuple(errors)), question)


def tokens_of(fitted: Mixture, question: Question) -> float:
    """Tokens of the standard budget; NaN where no number of them reaches it."""
    try:
        tokens, _, _ = invert(fitted, question, grid(fitted.range.tokens[0]), "influence")
    except P2Error:
        return NONE
    return NONE if tokens is None else float(tokens)


def _told(kind: str, name: str, who: str, tokens: float, without: float) -> dict[str, object]:
    known = np.isfinite([tokens, without])
    factor = max(tokens / without, without / tokens) if known.all() else (1.0 if not known.any() else np.inf)
    return {
        "left_out": kind, "name": name, "contributor": who, "tokens": tokens, "tokens_without": without,
        "factor": float(factor),
    }  # fmt: skip
