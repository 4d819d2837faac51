"""What groups lend each other: the rows a law is fitted to for one group, and amplitudes of a family's own.

A pooled law takes rows of every family and method on a text; one that pools `within` the method those of that method,
or all while that method has fewer than four runs. Where several families lend rows, the linear terms a law calls its
`own` are fitted once a family, beside exponents that all share: the joint law sees columns `family=NAME` of 0 and 1.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from leaderboard.fitting.fit import fit
from leaderboard.fitting.resample import DRAWS, Resamples, resample
from leaderboard.fitting.result import Fit
from leaderboard.laws.law import Array, Inputs, Law, Linear
from leaderboard.logs.contract import curve_numbers

MARK = "family="
LEAST_RUNS = 4  # of a method, for a fit within it


@dataclass(frozen=True)
class SharedFit:
    """A law for one family, and the joint fit to `rows` of all that lent theirs, which it is taken from."""

    fit: Fit
    joint: Fit
    rows: pd.DataFrame
    family: str

    def resample(self, method: str = "wild", draws: int = DRAWS, seed: int = 0) -> Resamples:
        """Resamples of the joint fit, for this family."""
        return draws_of_family(resample(self.joint, self.rows, method, draws, seed), self.fit.law, self.family)


def fit_group(law: Law, text: pd.DataFrame, group: dict[str, str], loss: str = "ls", delta: float = 1e-3) -> SharedFit:
    """Fit `law` for the family and method of `group` to the rows on its text that are lent to it."""
    joint, rows = lend(law, text, group)
    fitted = fit(joint, rows, loss, delta)
    return SharedFit(of_family(fitted, law, group.get("family", "")), fitted, rows, group.get("family", ""))


@dataclass(frozen=True)
class _Term:
    """One linear term of a joint law: which of the law's own, and the family it belongs to (None: all)."""

    index: int
    family: str | None


def lend(law: Law, text: pd.DataFrame, group: dict[str, str]) -> tuple[Law, pd.DataFrame]:
    """The law to fit for `group` and the rows to fit it to, out of all rows on one text; columns are added to them."""
    rows = lent_rows(law, text, group)
    joint = joint_law(law, rows)
    return joint, marked(joint, rows)


def lent_rows(law: Law, text: pd.DataFrame, group: dict[str, str]) -> pd.DataFrame:
    """The rows of all rows on one text that `law` is fitted to for `group`."""
    rows = text
    for column in ("family", "method") if not law.pool else (law.within,):
        if column in group:
            mine = (rows[column] == group[column]).to_numpy()
            rows = rows if mine.all() else rows[mine]
    few = law.pool and not (len(rows) and len(np.unique(curve_numbers(rows))) >= LEAST_RUNS)
    return text if few else rows


def joint_law(law: Law, rows: pd.DataFrame) -> Law:
    """`law`, with its own terms once a family where several families lend `rows`."""
    families = sorted(map(str, rows["family"].unique())) if "family" in rows and law.own else []
    return joined(law, families) if len(families) > 1 else law


def joined(law: Law, families: list[str]) -> Law:
    """`law` with its own linear terms once a family, shared ones and exponents as they are."""
    terms = _terms(law, families)
    index = [t.index for t in terms]

    def basis(theta: Array, x: Inputs) -> Array:
        return law.basis(theta, x)[index] * _marks(terms, x, theta.ndim - 1)

    def jacobian(theta: Array, x: Inputs) -> Array:
        return law.jacobian(theta, x)[:, index] * _marks(terms, x, theta.ndim - 1)

    linear = [
        law.linear[t.index] if t.family is None else replace(law.linear[t.index], name=_name(law.linear[t.index], t))
        for t in terms
    ]
    inputs = (*law.inputs, *(MARK + f for f in families))
    return replace(law, inputs=inputs, linear=tuple(linear), basis=basis, jacobian=jacobian)


def marked(law: Law, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the columns of a joint law; a family that lent no row is taken as the mean of those that did."""
    families = [c.removeprefix(MARK) for c in law.inputs if c.startswith(MARK)]
    if not families:
        return frame
    known = frame["family"].isin(families).to_numpy()
    marks = {MARK + f: np.where(known, (frame["family"] == f).to_numpy(), 1 / len(families)) for f in families}
    return frame.assign(**marks)


def of_family(fitted: Fit, law: Law, family: str) -> Fit:
    """The fit of a joint law as a fit of `law` for one family: it predicts from the law's input columns alone."""
    if fitted.law.inputs == law.inputs:
        return fitted
    exponents = {q.name: fitted.params[q.name] for q in law.nonlinear}
    c = np.array([fitted.params[q.name] for q in fitted.law.linear])
    linear = dict(zip((q.name for q in law.linear), map(float, _pick(fitted.law, law, family) @ c), strict=True))
    pinned = {name: why for name, why in fitted.pinned.items() if name in exponents | linear}
    return replace(fitted, law=law, params=exponents | linear, pinned=pinned)


def draws_of_family(spread: Resamples, law: Law, family: str) -> Resamples:
    """The same for resamples."""
    if spread.fit.law.inputs == law.inputs:
        return spread
    p = len(law.nonlinear)
    linear = spread.drawn[:, p:] @ _pick(spread.fit.law, law, family).T
    return replace(
        spread, fit=of_family(spread.fit, law, family), drawn=np.concatenate([spread.drawn[:, :p], linear], axis=1)
    )


def _terms(law: Law, families: list[str]) -> list[_Term]:
    own = [[*families] if q.name in law.own else [None] for q in law.linear]
    return [_Term(i, family) for i, names in enumerate(own) for family in names]


def _name(q: Linear, term: _Term) -> str:
    return f"{q.name}[{term.family}]"


def _marks(terms: list[_Term], x: Inputs, batch: int) -> Array:
    """Marks of the terms, shape (k, *batch of 1s, n)."""
    rows = [np.ones(x.size) if t.family is None else x[MARK + t.family] for t in terms]
    return np.stack(rows).reshape(len(terms), *(1,) * (batch - 1), x.size)


def _pick(joint: Law, law: Law, family: str) -> Array:
    """Weights (k, joint k) that make the law's linear parameters of the joint law's."""
    families = [c.removeprefix(MARK) for c in joint.inputs if c.startswith(MARK)]
    weight = np.zeros((len(law.linear), len(joint.linear)))
    for j, term in enumerate(_terms(law, families)):
        mean = 1 / len(families) if family not in families else float(term.family == family)
        weight[term.index, j] = 1.0 if term.family is None else mean
    return weight
