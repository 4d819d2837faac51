"""Every law, in every group, on every track: fitted on the training rows, judged on the test rows.

Draws say how far a law's ASD would move with other runs: each gives every run of the data an exponential weight, the
same one for all laws, so laws can be compared pair by pair. A draw moves a fit by one Gauss-Newton step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.compressed import LAW_INPUTS, Curves, compress
from leaderboard.fitting.fit import fit
from leaderboard.fitting.one_step_draws import parameter_draws
from leaderboard.fitting.pooled import joint_law, lent_rows, marked
from leaderboard.fitting.result import Fit
from leaderboard.fitting.robust import trusted
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, require, usable
from leaderboard.logs.origin import PROTOCOL, WORDS, standard
from leaderboard.ranking.scores import HeldOut
from leaderboard.ranking.tracks import TRACKS, groups, split

NEEDED = ("run_id", "base_model", "n0", "rate", "tokens", "loss")  # group columns may be absent: one group then
METRICS = ("asd", "asd_doubling", "r2", "huber", "rmse")
CELL = ("track", "cell", "law", "status", *METRICS, "asd_draws")  # behind the group columns
NOT_TESTABLE = "not_testable"
FAILED = "failed"
DRAWS = 200


def score_cells(
    frame: pd.DataFrame, laws: Mapping[str, Law] | None = None, tracks: Iterable[str] = TRACKS, draws: int = DRAWS
) -> pd.DataFrame:
    """One row a law, group and track: group columns, track, cell, law, status, the metrics on the test rows, and
    `asd_draws`, an array (draws,) of the ASD under other runs.

    `status` is the fit's, `not_testable` or `failed`; metrics of those two are NaN. Units: asd in nats per billion
    tokens, asd_doubling in nats per doubling, huber the mean Huber(1e-3) term, rmse in nats per token.
    """
    laws = LAWS if laws is None else laws
    require(frame, NEEDED, "rank")
    inputs = [c for law in laws.values() for c in law.inputs]
    columns = dict.fromkeys((*NEEDED, *GROUP, *WORDS, "contributor", "warmup_tokens", *LAW_INPUTS, *inputs))
    frame = standard(usable(frame))
    rows = frame[[c for c in columns if c in frame]]
    varied = {c for law in laws.values() for c in law.varies}  # a law whose own these are is not testable without
    lacking = [c for c in inputs if c not in varied and c in rows and rows[c].isna().any()]
    if lacking:  # laws are compared on the same rows
        rows = rows.dropna(subset=lacking)
    if not len(rows):
        raise P2Error("rank: no usable row (tokens > warmup_tokens, something pruned) in these logs.")
    scored: list[dict[str, object]] = []
    for key, text in groups(rows, GROUP[2:]):  # rows that a pooled law may share
        text = trusted(text).rows
        text = text.drop(columns=["contributor", *WORDS], errors="ignore").assign(curve=curve_numbers(text))
        weight = np.random.default_rng(0).exponential(size=(draws, int(text["curve"].max()) + 1))
        for track in tracks:
            scored += _score_text(text, track, laws, weight, {n: key[n] for n in (PROTOCOL,) if n in key})
    return pd.DataFrame(scored)


def _score_text(
    text: pd.DataFrame, track: str, laws: Mapping[str, Law], weight: Array, way: Mapping[str, str]
) -> list[dict[str, object]]:
    """All cells of one held-out text and track. Groups that cannot test it still lend their rows to pooled laws.

    `way` is how the text was measured, where it was measured otherwise too.
    """
    parts = [({**key, **way}, group, split(group, track)) for key, group in groups(text)]
    untested = [name for name, law in laws.items() if not law.testable(text)]
    rows = [_cell(key, track, law) | _no_metrics(NOT_TESTABLE) for law in untested for key, _, _ in parts]
    laws = {name: law for name, law in laws.items() if name not in untested}
    if all(part is None for _, _, part in parts):
        laws_rows = [(law, key) for law in laws for key, _, _ in parts]
        return rows + [_cell(key, track, law) | _no_metrics(NOT_TESTABLE) for law, key in laws_rows]
    inputs = ("family", *(c for law in laws.values() for c in law.inputs))
    tests = [None if part is None else HeldOut.of(_part(group, part.test), inputs) for _, group, part in parts]
    training = [group if part is None else _part(group, part.train) for _, group, part in parts]
    lender = _Lender(training[0] if len(parts) == 1 else pd.concat(training), alone=len(parts) == 1)
    for name, law in laws.items():
        fits: dict[str, tuple[Fit, Array] | None] = {}
        for (key, _, _), test in zip(parts, tests, strict=True):
            if test is None:
                rows.append(_cell(key, track, name) | _no_metrics(NOT_TESTABLE))
                continue
            lot = key.get(law.within, "") if law.pool else str(key)  # whose rows are fitted together
            if lot not in fits:
                fits[lot] = _fit_drawn(*lender.lend(law, key, lot), weight)
            rows.append(_cell(key, track, name) | _judge(fits[lot], test, weight))
    return rows


def _part(group: pd.DataFrame, rows: NDArray[np.bool_]) -> pd.DataFrame:
    return group if rows.all() else group[rows]


@dataclass
class _Lender:
    """Training rows of one text, lent to each law: laws that take the same rows share them, and their curves."""

    text: pd.DataFrame
    alone: bool  # there is one group
    made: dict[tuple[object, ...], tuple[pd.DataFrame, Curves]] = field(default_factory=dict)

    def lend(self, law: Law, key: dict[str, str], lot: str) -> tuple[Law, pd.DataFrame, Curves]:
        """The law to fit for the group `key`, its rows, and the same as curves."""
        whose: tuple[object, ...] = () if self.alone else (law.pool, law.within, bool(law.own), lot)
        if whose not in self.made:
            rows = lent_rows(law, self.text, key)
            joint = joint_law(law, rows)
            rows = marked(joint, rows)
            self.made[whose] = rows, compress(rows, (*LAW_INPUTS, *(c for c in joint.inputs if c in rows))).designs()
        rows, curves = self.made[whose]
        return joint_law(law, rows), rows, curves


def _cell(key: dict[str, str], track: str, law: str) -> dict[str, object]:
    return {**key, "track": track, "cell": "|".join((*key.values(), track)), "law": law}


def _no_metrics(status: str) -> dict[str, object]:
    return {"status": status, **dict.fromkeys(METRICS, np.nan), "asd_draws": None}


def _fit_drawn(law: Law, train: pd.DataFrame, curves: Curves, weight: Array) -> tuple[Fit, Array] | None:
    """A fit and its draws, or None where the law cannot be fitted."""
    try:
        fitted = fit(law, train, curves=curves)
    except FitError:
        return None
    return fitted, parameter_draws(fitted, train, weight, curves)


def _judge(fitted: tuple[Fit, Array] | None, test: HeldOut, weight: Array) -> dict[str, object]:
    """Status and metrics of one fit on the test rows."""
    if fitted is None:
        return _no_metrics(FAILED)
    test = replace(test, distinct=marked(fitted[0].law, test.distinct))
    predicted = fitted[0].predict(test.distinct)
    if not np.isfinite(predicted).all():
        return _no_metrics(FAILED)
    drawn = test.asd_draws(*fitted, weight)
    return {"status": str(fitted[0].status), **test.metrics(predicted), "asd_draws": drawn}


def asd_interval(drawn: Array | None, level: float = 0.9) -> list[float] | None:
    """The interval of an ASD from its draws (draws,); None without draws."""
    if drawn is None or not np.isfinite(drawn).all():
        return None
    return [float(v) for v in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])]
