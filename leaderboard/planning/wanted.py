"""Most wanted runs: candidate experiments by how much each would narrow the token budgets, and what it costs.

Candidates are base size x rate x method x tokens over the ranges of the logs, and one step beyond each. The gain is the
mean reduction of the variance of ln tokens over a declared set of questions (information.py has the mathematics).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error, unknown_name
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, require
from leaderboard.planning.bases import Base, loss_at
from leaderboard.planning.budget import Question
from leaderboard.planning.candidates import (
    SPARSE,
    GroupFit,
    group_fits,
    known_bases,
    measured_alike,
    one_text,
    sparse_rate,
)
from leaderboard.planning.gpus import GPUS, gpu_hours
from leaderboard.planning.information import Knowledge, knowledge, variances
from leaderboard.planning.recipe import usual_recipe

COLUMNS = (
    "base_model", "family", "method", "rate", "n0", "tokens", "gain", "narrower", "gpu_hours", "gain_per_gpu_hour",
    "new", "l0_from", "law",
)  # fmt: skip
NEEDED = ("run_id", *GROUP, "base_model", "n0", "n0_nonembedding", "rate", "l0", "tokens", "loss")
NEXT_RATE, HIGHEST_RATE = 1.4, 0.8
LONGER = 3.0
NEW_SIZE = 1.2  # a size this far beyond the data is new
FALLS = 1e-4  # nats: a loss that falls less has no budget
QUIET = 1e-4  # nats: the least noise a run is taken to have
LOST = np.log(1000.0) ** 2  # a variance of ln tokens from which an interval says nothing


def wanted(
    frame: pd.DataFrame,
    *,
    gpu: str = "h100",
    family: str | None = None,
    bases: Sequence[Base] = (),
    questions: Sequence[Question] | None = None,
    eval_data: str | None = None,
    objective: str | None = None,
    law: str | Law | None = None,
) -> pd.DataFrame:
    """One row a candidate run, the most telling first.

    `questions` are the budgets to narrow, by default `standard_questions` of every family and method. `gain` is the
    mean reduction of the variance of ln tokens over all of them, `narrower` the share by which the budget intervals of
    the candidate's own family and method shrink. A base that nobody has yet has no name: its size is the next step of
    the ladder, its l0 is read off the family's power law. `new` says what lies beyond the runs so far. The law is taken
    for true, so runs that would test it are worth more than this says. `.attrs["recipe"]` is how most of the runs were
    trained. Raises P2Error when nothing can be fitted.
    """
    require(frame, NEEDED, "wanted")
    if gpu not in GPUS:
        raise unknown_name("gpu", gpu, GPUS, "wanted")
    text = measured_alike(one_text(frame, eval_data, objective, "wanted"), None)
    known = known_bases(text, bases, family, "wanted")
    fits = group_fits(text, law, family, "wanted")
    run_sd, row_sd = _noise(fits)
    groups = [_group(f, knowledge(f.shared, run_sd, row_sd), ladder(known, f.family), questions) for f in fits]
    if not any(len(group.slopes) for group in groups):
        raise P2Error("wanted: none of the questions has an answer in any group, so there is no interval to narrow.")
    rows = [row for group in groups for row in _rows(group, groups, gpu)]
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    out = out.sort_values(["gain", "gpu_hours"], ascending=[False, True], ignore_index=True)
    out.attrs["recipe"] = usual_recipe(text)
    return out


@dataclass(frozen=True)
class Group:
    """A family and method: its fit, what its runs tell, the bases to ask and run, and the questions' slopes."""

    fitted: GroupFit
    known: Knowledge
    bases: list[Base]
    slopes: Array  # (questions, parameters)


def ladder(bases: Iterable[Base], family: str) -> list[Base]:
    """A family's bases by size, and behind them a nameless one on the next step, where two sizes are known."""
    own = sorted((b for b in bases if b.family == family), key=lambda b: b.n0)
    sizes = sorted({b.n0 for b in own})
    if len(sizes) < 2:
        return own
    last = own[-1]
    n0 = round(sizes[-1] * (sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1)))
    inner = round(n0 * last.n0_nonembedding / last.n0)
    return [*own, Base("", family, n0, inner, loss_at(n0, own), interpolated=True)]


def _noise(fits: list[GroupFit]) -> tuple[float, float]:
    """The spread of runs and of rows, pooled over the groups: few have runs enough to tell their own."""
    spreads = [group.shared.resample(draws=1) for group in fits]
    telling = [s for s in spreads if s.freedom > 1] or spreads
    sd = np.array([(s.run_sd, s.row_sd) for s in telling])
    run, row = np.sqrt(np.average(sd**2, axis=0, weights=[s.freedom for s in telling]))
    return max(QUIET, float(run)), max(QUIET, float(row))


def _group(fitted: GroupFit, known: Knowledge, bases: list[Base], questions: Sequence[Question] | None) -> Group:
    own = [q for q in questions or () if (q.family, q.method) == (fitted.family, fitted.method)]
    asked = own if questions is not None else standard_questions(fitted, bases)
    found = [slope for slope in map(known.budget_slopes, asked) if slope is not None]
    return Group(fitted, known, bases, np.array(found).reshape(len(found), len(known.scale)))


def standard_questions(fitted: GroupFit, bases: Iterable[Base]) -> list[Question]:
    """The budgets of every base at the middle and the next higher rate: until a doubling wins less than 0.01 nats, and
    to the loss that is predicted at three times the usual run."""
    out: list[Question] = []
    for base in bases:
        for rate in _rates(fitted, base)[1::2] or _rates(fitted, base):
            asked = Question(family=fitted.family, method=fitted.method, rate=rate, n0=base.n0, l0=base.l0 or 0.0)
            out.append(asked)
            now, later = fitted.fit.predict(asked.curve(np.array([1, LONGER]) * _usual(fitted)))
            if now - later > FALLS and later > 0:
                out.append(replace(asked, target_loss=float(later)))
    return out


def _usual(fitted: GroupFit) -> float:
    """Tokens of a typical run of the group."""
    return float(fitted.rows["tokens"].groupby(curve_numbers(fitted.rows)).max().median())


def _rates(fitted: GroupFit, base: Base) -> list[float]:
    """The lowest, middle, highest and next higher rate of the group; for 2:4 the one it has."""
    if fitted.method == SPARSE:
        return [round(sparse_rate(base.n0, base.n0_nonembedding), 3)]
    seen = fitted.rows["rate"].groupby(curve_numbers(fitted.rows)).first()
    rates = [*seen.quantile([0, 0.5, 1]), min(HIGHEST_RATE, NEXT_RATE * float(seen.max()))]
    return list(dict.fromkeys(max(0.001, round(float(rate), 3)) for rate in rates))


def _rows(group: Group, groups: list[Group], gpu: str) -> list[dict[str, object]]:
    """Every candidate of a group, with what it does for all groups that its runs are lent to."""
    asked = sum(len(g.slopes) for g in groups)
    lent = [g for g in groups if len(g.slopes) and _lends(group, g)]
    before = {id(g): _counted(variances(g.known.precision, g.slopes)) for g in lent}
    fitted = group.fitted
    objective = str(fitted.rows["objective"].iloc[0])
    rows: list[dict[str, object]] = []
    for base, rate, tokens in _experiments(group):
        run = _run(fitted, base, rate, tokens)
        after = {id(g): _counted(variances(g.known.precision + g.known.information(run), g.slopes)) for g in lent}
        gain = max(0.0, sum(float((before[key] - after[key]).sum()) for key in after) / asked)
        own = id(group)
        shrinks = 1 - float(np.sqrt(after[own]).sum() / np.sqrt(before[own]).sum()) if own in after else np.nan
        hours, _ = gpu_hours(tokens, base.n0, rate, fitted.method, gpu, where="wanted", objective=objective)
        row: dict[str, object] = (
            {"base_model": base.name, "family": fitted.family, "method": fitted.method, "rate": rate}
            | {"n0": base.n0, "tokens": tokens, "gain": gain, "narrower": shrinks}
            | {"gpu_hours": hours, "gain_per_gpu_hour": gain / hours, "new": _new(fitted, base, rate, tokens)}
            | {"l0_from": "power law" if base.interpolated else "measured", "law": fitted.fit.law.name}
        )
        rows.append(row)
    return rows


def _lends(one: Group, other: Group) -> bool:
    """Whether runs of one group enter the fit of another."""
    rows = other.known.shared.rows
    return bool(((rows["family"] == one.fitted.family) & (rows["method"] == one.fitted.method)).any())


def _counted(variance: Array) -> Array:
    """A variance of ln tokens as it counts: beyond a factor of 1000 either way all is lost."""
    return np.asarray(variance / (1 + variance / LOST))


def _experiments(group: Group) -> Iterator[tuple[Base, float, int]]:
    for base in group.bases:
        for rate in _rates(group.fitted, base):
            for times in (1, LONGER):
                yield base, rate, round(times * _usual(group.fitted))


def _run(fitted: GroupFit, base: Base, rate: float, tokens: int) -> pd.DataFrame:
    """The evaluations that a run would give: at the same shares of its tokens as those of a run of the group."""
    curve = curve_numbers(fitted.rows)
    longest = fitted.rows.loc[curve == np.bincount(curve).argmax(), "tokens"].to_numpy(dtype=float)
    known = {"n0": base.n0, "rate": rate, "l0": base.l0, "n_pruned": base.n0 * (1 - rate)}
    known |= {"n0_nonembedding": base.n0_nonembedding}
    return pd.DataFrame({"tokens": longest * tokens / longest.max(), **known}, dtype=float).assign(family=fitted.family)


def _new(fitted: GroupFit, base: Base, rate: float, tokens: int) -> str:
    """What of a candidate lies beyond the group's runs, in words."""
    rows, words = fitted.rows, []
    if base.n0 > NEW_SIZE * rows["n0"].max():
        words.append("larger base")
    if rate > float(rows["rate"].max()) + 0.005:
        words.append("higher rate")
    if tokens > float(rows["tokens"].max()):
        words.append("more tokens")
    return ", ".join(words)
