"""Which runs, and which contributor, an answer hangs on: the standard budget of each group with each of them left out.

The standard budget is the tokens from which the next doubling wins less than .01 nats, for the largest model of the
group at its highest rate. The laws that answer are chosen once, with all runs; each is refitted without one run, or
without all runs of one contributor. Only runs that those laws were fitted to can matter, and runs that robust.py
discounts have no say already; of a group of more than `MOST_RUNS` those are left out that pull the best law most (their
leverage). A leave-one-out change is what one run can do, not how wrong it is: an end run of a small
group moves its answer much because nobody else measured there.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.fitting.identifiability import fitted_rows
from leaderboard.fitting.pooled import draws_of_family
from leaderboard.fitting.resample import Resamples, refits, run_leverage
from leaderboard.fitting.robust import trusted
from leaderboard.laws.law import Array, Columns
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.logs.origin import standard
from leaderboard.planning.budget import Question, grid, invert
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.recommend import mixture, same_text
from leaderboard.ranking.tracks import groups

RUN, CONTRIBUTOR = "run", "contributor"
COLUMNS = (*GROUP, "left_out", "name", "contributor", "tokens", "tokens_without", "factor")
MOST_RUNS = 40  # of a group, that are left out in turn
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
    text, own = same_text(frame, **group)
    text = trusted(text).rows
    whole = mixture(text, {**group, **own}, None, question.l_pruned is not None, "influence")
    runs = _pulling(whole)
    who = list(dict.fromkeys(name[0] for name in runs))
    left = [("", ""), *runs, *((one, "") for one in (who if len(who) > 1 else ()))]  # first: nobody is left out
    tokens = _tokens_without(whole, left, question)
    for (contributor, run_id), without in zip(left[1:], tokens[1:], strict=True):
        yield _told(RUN if run_id else CONTRIBUTOR, run_id or contributor, contributor, tokens[0], without)


def _pulling(whole: Mixture) -> list[tuple[str, str]]:
    """The runs that the laws were fitted to, contributor and run_id, those first that pull the best law most."""
    best = whole.members[0]
    used, held, _ = fitted_rows(best.joint.law, best.rows)
    names, pull = _heads(used), run_leverage(best.joint, used, held)
    others = dict.fromkeys(name for member in whole.members[1:] for name in _heads(member.rows))
    return list(dict.fromkeys([*(names[int(i)] for i in np.argsort(-pull)), *others]))[:MOST_RUNS]


def _heads(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Contributor and run_id of each run, in the order of their numbers."""
    heads = rows.iloc[np.unique(curve_numbers(rows), return_index=True)[1]]
    who = heads["contributor"].astype(str) if "contributor" in heads else [""] * len(heads)
    return list(zip(who, heads["run_id"].astype(str), strict=True))


def _tokens_without(whole: Mixture, left: Sequence[tuple[str, str]], question: Question) -> list[float]:
    """Tokens by the same laws, refitted without what is left out (a contributor's runs where run_id is empty); NaN
    where no number of them is enough.
    """
    spreads = []
    for member in whole.members:
        rows, _, _ = fitted_rows(member.joint.law, member.rows)
        names = _heads(rows)
        keep = np.array([[(who, run or name[1]) != name for name in names] for who, run in left], dtype=float)
        drawn = refits(member.joint, member.rows, keep)
        spreads.append(
            draws_of_family(Resamples(member.joint, drawn, 1.0, 1.0, 0.0, 0.0), member.fit.law, member.family)
        )
    at = grid(whole.range.tokens[0])

    def predict(columns: Columns) -> Array:
        losses, weight = np.stack([s.predict(columns) for s in spreads]), whole.weights(columns)[:, None]
        share = np.where(np.isfinite(losses), weight, 0.0)
        return np.asarray((share * np.nan_to_num(losses)).sum(axis=0) / share.sum(axis=0))

    with np.errstate(all="ignore"):
        miss = question.miss(predict, at)
    return [_crossing(at, one) for one in miss]


def _crossing(at: Array, miss: Array) -> float:
    """Where the goal is met first, between two points of the grid; NaN where it is not."""
    met = np.flatnonzero(miss <= 0)
    if not len(met):
        return NONE
    i = int(met[0])
    if i == 0 or not np.isfinite(miss[i - 1]):
        return float(at[i])
    part = miss[i - 1] / (miss[i - 1] - miss[i])
    return float(np.exp(np.log(at[i - 1]) + part * np.log(at[i] / at[i - 1])))


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
