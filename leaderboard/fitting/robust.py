"""What answers are made from: every run weighs as one, no contributor outweighs others, runs no law expects are out.

`fit` is exact on the rows it gets; these are the rows that rankings, recommendations and budgets give it. Of all usable
rows on one held-out text

- a run's weight is the usual number of rows over its own, whatever that is;
- a contributor's runs in a group (family and method) weigh at most as much as a third of the group, or as `FEW` runs;
  who exceeds that is lowered, nobody is raised, the owner of the data set is exempt;
- a run is discounted, and named, whose curve climbs, or which a law of its method, fitted to the runs that agree
  (least trimmed squares by whole runs: Rousseeuw & Van Driessen 2006), misses by far more than it misses others. A run
  that alone decides what the law says there (leverage) is asked of a fit without it.

A tenth of a method's runs may be bad. Losses are nats per token.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.errors import FitError
from leaderboard.fitting.compressed import WEIGHT
from leaderboard.fitting.identifiability import fitted_rows
from leaderboard.fitting.pooled import SharedFit, fit_group, marked
from leaderboard.fitting.resample import run_leverage
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.logs.frame import OWNER
from leaderboard.once import Once

CLIMB = 0.1  # nats above what a run had reached: two seeds wander by .01, the seed's runs by less than .02
MOST_RATE = 0.9  # the laws know the capacity left, (1 - rate) ** 2
LEAST_MISS = 0.06  # nats that no run is discounted for
FAR = 6.0  # times what the law misses the median run by
LONE_MISS = 0.2  # nats that a fit without the run may miss it by, where nothing else is measured near it
LEVERAGE = 0.8  # from which a run decides alone
LONE = 4  # runs of a method that are asked so, the most decisive first
LEAST_RUNS = 6  # of a method, before a law may discount any
TRIMMED = 0.2  # of the runs, that do not shape the law that judges
STEPS = 8
ROWS = 12  # of a run, that judge it
MOST_RUNS = 300  # that shape the law that judges; all are judged
SHARE = 1 / 3  # of a group, that one contributor may weigh
FEW = 4.0  # runs that anybody may weigh
SEED_OWNER = "p2lab"  # of the bundled runs
OTHERS = "from the others"
JUDGED = "judged"  # attribute of rows that come from here
KEPT = 16
JUDGES = ("capacity-damage", "capacity")  # with and without a measured damage
_kept = Once(KEPT)


@dataclass(frozen=True)
class Doubt:
    """A run that is discounted: whose, how far off in nats, and why in words."""

    run_id: str
    contributor: str
    off: float
    why: str

    def __str__(self) -> str:
        who = f"{self.contributor}/" if self.contributor else ""
        return f"{who}{self.run_id}, {self.why}"


@dataclass(frozen=True)
class Trusted:
    """Rows to answer from, with a column `weight` where runs do not weigh alike; who was discounted; who was lowered,
    by contributor and group the factor on each run's weight."""

    rows: pd.DataFrame
    doubts: tuple[Doubt, ...]
    lowered: dict[tuple[str, ...], float]
    curves: pd.DataFrame  # rows of all runs that look like one, discounted or not

    @property
    def words(self) -> tuple[str, ...]:
        """What a reader of the answer should know; empty where all runs count alike."""
        said = []
        if self.doubts:
            n = len(self.doubts)
            named = "; ".join(map(str, self.doubts[:3])) + ("; ..." if n > 3 else "")
            said.append(f"{n} run{'s' * (n > 1)} discounted: {named}.")
        for (who, family, method), factor in list(self.lowered.items())[:3]:
            said.append(f"The {family} {method} runs of {who} are lowered to {factor:.2g} of their weight.")
        return tuple(said)


def trusted(text: pd.DataFrame) -> Trusted:
    """Judge the usable rows on one held-out text. Rows that were weighed before come back as they are."""
    if text.attrs.get(JUDGED) or not len(text) or not {"run_id", "loss", *GROUP[:2]} <= set(text):
        return Trusted(text, (), {}, text)
    columns = [c for c in ("run_id", "contributor", *GROUP, *_inputs(), "tokens", "loss") if c in text]
    hashed = pd.util.hash_pandas_object(text[list(dict.fromkeys(columns))], index=False).to_numpy()
    key = (hash(hashed.tobytes()), text.attrs.get(OWNER))
    run, off, weight, why, lowered = _kept.get(key, lambda: _judge(text))
    keep = np.isnan(off)
    if not keep.any():  # nothing is left to judge them by
        return Trusted(text, (), {}, text)
    rows = text[keep[run]] if not keep.all() else text.copy(deep=False)
    if not np.allclose(weight[keep], 1.0):
        rows = rows.assign(**{WEIGHT: weight[run][keep[run]]})
    rows.attrs[JUDGED] = True
    curve = np.isnan(off) | np.array([words.endswith(OTHERS) for words in why], dtype=bool)
    return Trusted(rows, tuple(_doubts(text, run, off, why)), lowered, text if curve.all() else text[curve[run]])


def _inputs() -> tuple[str, ...]:
    return tuple(dict.fromkeys(c for name in JUDGES for c in LAWS[name].inputs))


_Judged = tuple[NDArray[np.int64], Array, Array, list[str], dict[tuple[str, ...], float]]


def _judge(text: pd.DataFrame) -> _Judged:
    """The run of each row (n,), and by run how far off it is in nats (NaN: not discounted), its weight and why."""
    run = curve_numbers(text)
    runs = int(run.max()) + 1
    off, why = np.full(runs, np.nan), [""] * runs
    climbs = climbed(text, run)
    for i in map(int, np.flatnonzero(climbs > CLIMB)):
        off[i], why[i] = climbs[i], f"its loss climbs by {climbs[i]:.2f} nats"
    thin = _thinned(text, run)
    for i in map(int, np.flatnonzero(_rates(text, run) > MOST_RATE)):
        off[i], why[i] = np.inf, f"more than {MOST_RATE:.0%} was removed, which no law here speaks of"
    for i, miss, law in _unexpected(thin.assign(curve=run[thin.index]), np.isnan(off)):
        off[i], why[i] = miss, f"{miss:.2f} nats off what the law {law} says {OTHERS}"
    rows = np.bincount(run)
    weight = float(np.median(rows)) / rows
    heads = text.iloc[np.unique(run, return_index=True)[1]]
    factor, lowered = _caps(heads, np.isnan(off), text.attrs.get(OWNER))
    return run, off, weight * factor, why, lowered


def climbed(frame: pd.DataFrame, run: NDArray[np.int64]) -> Array:
    """How far each run's loss is, at worst, above the lowest it had before, shape (runs,), in nats; `run` (n,) numbers
    the run of each row. After the warm-up, and from `l_pruned` on, where it was measured."""
    worst = np.zeros(int(run.max()) + 1 if len(run) else 0)
    frame = frame.assign(run_number=run)
    frame = usable(frame.drop(columns="method", errors="ignore"))
    run = frame["run_number"].to_numpy()
    order = np.lexsort((frame["tokens"].to_numpy(dtype=float), run))
    loss = frame["loss"].to_numpy(dtype=float)
    lowest = pd.Series(loss[order]).groupby(run[order]).cummin().to_numpy()
    if "l_pruned" in frame:
        lowest = np.fmin(lowest, frame["l_pruned"].to_numpy(dtype=float)[order])
    np.maximum.at(worst, run[order], np.nan_to_num(loss[order] - lowest))
    return worst


def _rates(text: pd.DataFrame, run: NDArray[np.int64]) -> Array:
    """The rate of each run, shape (runs,)."""
    rate = text["rate"].to_numpy(dtype=float) if "rate" in text else np.zeros(len(text))
    return np.asarray(rate[np.unique(run, return_index=True)[1]])


def _thinned(text: pd.DataFrame, run: NDArray[np.int64]) -> pd.DataFrame:
    """At most `ROWS` rows of each run, evenly spread in their order, indexed by their place in `text`."""
    order = np.lexsort((text["tokens"].to_numpy(dtype=float), run))
    length = np.bincount(run)
    place = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
    n = length[run[order]]
    step = np.floor(place * ROWS / n) != np.floor((place - 1) * ROWS / n)
    kept = order[(n <= ROWS) | step]
    thin: pd.DataFrame = text.iloc[kept].set_axis(kept, axis=0)
    return thin


def _unexpected(thin: pd.DataFrame, fine: NDArray[np.bool_]) -> Iterator[tuple[int, float, str]]:
    """Runs that the law of their method does not expect: number, nats off, law."""
    for method, rows in thin.groupby(thin["method"].astype(str)):
        rows = rows[fine[rows["curve"].to_numpy()]]
        if rows["curve"].nunique() < LEAST_RUNS:
            continue
        law = LAWS[JUDGES[0 if _damaged(rows) else 1]]
        try:
            yield from ((i, miss, law.name) for i, miss in _far(law, rows, str(method)))
        except FitError:
            continue


def _damaged(rows: pd.DataFrame) -> bool:
    return "l_pruned" in rows and bool((rows["l_pruned"] > rows["l0"]).all())


def _far(law: Law, rows: pd.DataFrame, method: str) -> Iterator[tuple[int, float]]:
    """Runs of one method far from a law of those that agree, and how far, in nats."""
    runs = np.unique(rows["curve"])
    shaping = runs[np.unique(np.linspace(0, len(runs) - 1, MOST_RUNS).round().astype(int))]
    agree = shaping
    fitted = _fitted(law, rows, agree, method)
    for _ in range(STEPS):
        miss = _misses(fitted, rows)
        among = miss[shaping]
        inner = shaping[(among <= among.quantile(1 - TRIMMED)).to_numpy()]
        if set(inner) == set(agree):
            break
        agree, fitted = inner, _fitted(law, rows, inner, method)
    for _ in range(2):  # all that are not far shape the law; who is far from it then stays out
        miss = _misses(fitted, rows)
        most = max(LEAST_MISS, FAR * float(miss.median()))
        near = miss[shaping] <= most
        if set(shaping[near.to_numpy()]) == set(agree):
            break
        agree, fitted = shaping[near.to_numpy()], _fitted(law, rows, shaping[near.to_numpy()], method)
    miss = _misses(fitted, rows)
    yield from ((int(i), float(miss[i])) for i in miss.index[~(miss <= most)])
    for judge in {law.name: law, JUDGES[-1]: LAWS[JUDGES[-1]]}.values():  # one law may not see where a run lies far out
        yield from _decisive(judge, rows, agree, method)


def _fitted(law: Law, rows: pd.DataFrame, runs: Iterable[int], method: str) -> SharedFit:
    return fit_group(law, rows[rows["curve"].isin(list(runs))], {"method": method})


def _misses(fitted: SharedFit, rows: pd.DataFrame) -> "pd.Series[float]":
    """RMS of what the law misses each run by, by its number; infinite where it says nothing."""
    error = fitted.joint.predict(marked(fitted.joint.law, rows)) - rows["loss"].to_numpy(dtype=float)
    mean = pd.Series(error**2).groupby(rows["curve"].to_numpy()).mean()
    return mean.pow(0.5).fillna(np.inf)


def _decisive(law: Law, rows: pd.DataFrame, agree: NDArray[np.int64], method: str) -> Iterator[tuple[int, float]]:
    """Runs that bend a law to themselves, where the law without them is far from them."""
    fitted = _fitted(law, rows, agree, method)
    used, held, _ = fitted_rows(fitted.joint.law, fitted.rows)
    pull = run_leverage(fitted.joint, used, held)
    of = pd.unique(used["curve"])  # numbered in the order they come in, as the fit does
    for at in np.argsort(-pull)[:LONE]:
        if pull[at] < LEVERAGE:
            return
        alone = int(of[at])
        rest = agree[agree != alone]
        try:
            miss = _misses(_fitted(law, rows, rest, method), rows[rows["curve"] == alone]).iloc[0]
        except FitError:
            continue
        if not miss <= LONE_MISS:
            yield alone, float(miss)


def _caps(
    heads: pd.DataFrame, fine: NDArray[np.bool_], owner: str | None
) -> tuple[Array, dict[tuple[str, ...], float]]:
    """A factor on each run's weight (runs,) that bounds contributors; those it lowers."""
    factor, lowered = np.ones(len(heads)), dict[tuple[str, ...], float]()
    if "contributor" not in heads or heads["contributor"].nunique() < 2:
        return factor, lowered
    named = heads[["contributor", *GROUP[:2]]].astype(str).reset_index(drop=True)[fine]
    for key, group in named.groupby(list(GROUP[:2])):
        count = group["contributor"].value_counts()
        for who, own in count.items():
            most = max(FEW, SHARE / (1 - SHARE) * (len(group) - own))
            if own > most and who not in (SEED_OWNER, owner) and len(count) > 1:
                factor[group.index[group["contributor"] == who]] = most / own
                lowered[(str(who), *map(str, key))] = most / own
    return factor, lowered


def _doubts(text: pd.DataFrame, run: NDArray[np.int64], off: Array, why: list[str]) -> Iterator[Doubt]:
    first = np.unique(run, return_index=True)[1]
    for i in np.flatnonzero(~np.isnan(off)):
        head = text.iloc[first[i]]
        yield Doubt(str(head["run_id"]), str(head.get("contributor", "")), float(off[i]), why[i])
