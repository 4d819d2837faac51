"""What the runs at hand can tell about a law, before it is fitted: its rows, its pins, the rank of its design.

A parameter is held where its rule (law.py, Pin) asks for more levels than there are, and where the Jacobian says that
no loss measured on these runs could tell it from others.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from leaderboard.errors import FitError
from leaderboard.fitting.compressed import compress
from leaderboard.fitting.problem import TINY, Problem
from leaderboard.laws.law import Array, Inputs, Law, Mask
from leaderboard.logs.contract import usable

WITHIN_BASE = ("rate", "damage")  # across base models these move together with the size
SMALL = 1e-9  # of the largest singular value: what counts as zero
PART = 1e-4  # of a unit null vector: what counts as a part in it
NODES = 16
MOST_RUNS = 60


def fitted_rows(law: Law, frame: pd.DataFrame) -> tuple[pd.DataFrame, Array, dict[str, str]]:
    """The rows of `frame` that a fit of `law` uses, the parameters it holds (NaN = free) and why it holds them."""
    rows = usable(frame)
    if "loss" not in rows:
        rows = rows.assign(loss=1.0)  # nodes have none of their own
    x, keep = law.read(rows), enters(law, rows)
    if not keep.any():
        raise FitError("no_rows", f"{law.name}: no usable row (tokens > warmup_tokens, finite, pruned) to fit.")
    rows, x = rows[keep], x.take(keep)
    held, reasons = pins(law, x, rows)
    some = _some_runs(law, rows)
    for _ in law.parameters:
        design = _examine(law, some, held)
        names = [q.name for q in law.parameters]
        lost = [i for i, q in enumerate(law.parameters) if q.name in design.confounded and q.pin and np.isnan(held[i])]
        if not lost:
            break
        others = ", ".join(name for name in design.confounded if name != names[lost[0]])
        pin = law.parameters[lost[0]].pin
        held[lost[0]] = pin.value if pin else np.nan
        reasons[names[lost[0]]] = f"held at {held[lost[0]]:g}: these runs cannot tell it from {others or 'zero'}"
    return rows, held, reasons


def enters(law: Law, rows: pd.DataFrame) -> Mask:
    """Rows (or nodes, without a loss) that a fit of `law` uses: finite, and inside its domain."""
    x, y = law.read(rows), rows["loss"].to_numpy(dtype=float) if "loss" in rows else np.ones(len(rows))
    with np.errstate(all="ignore"):
        keep: Mask = np.isfinite(y) & (y > 0) & np.isfinite(np.stack(list(x.values()))).all(axis=0) & law.domain(x)
    return keep


def _some_runs(law: Law, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs enough to judge a design: one for every combination of inputs, 60 combinations at most."""
    fixed = [c for c in law.inputs if c != "tokens"]
    if "run_id" not in rows or not fixed or rows["run_id"].nunique() <= MOST_RUNS:
        return rows
    designs = rows.drop_duplicates(fixed)
    picked = designs.iloc[np.unique(np.linspace(0, len(designs) - 1, MOST_RUNS).round().astype(int))]
    return rows[rows["run_id"].isin(picked["run_id"])]


def pins(law: Law, x: Inputs, rows: pd.DataFrame) -> tuple[Array, dict[str, str]]:
    """Pinned values by parameter (NaN = free), and the reason for each that the data forced."""
    held, reasons = np.full(len(law.parameters), np.nan), {}
    for i, q in enumerate(law.parameters):
        if q.pin is None:
            continue
        levels = _levels(q.pin.of, x, rows) if q.pin.of else -1
        if levels < q.pin.levels:
            held[i] = q.pin.value
            if q.pin.of:
                within = " in any base model" if q.pin.of in WITHIN_BASE else ""
                reasons[q.name] = (
                    f"held at {q.pin.value:g}: needs {q.pin.levels} values of {q.pin.of}{within}, has {levels}"
                )
    return held, reasons


def _levels(name: str, x: Inputs, rows: pd.DataFrame) -> int:
    """How many different values an input takes; for rate and damage, within the base model that has most."""
    values = pd.Series(x[name].round(9))
    if name not in WITHIN_BASE:
        return values.nunique()
    base = rows["base_model"] if "base_model" in rows else rows["n0"] if "n0" in rows else pd.Series(0, rows.index)
    return int(values.groupby(base.to_numpy(), observed=True).nunique().max())


@dataclass(frozen=True)
class Design:
    """Rank of a law's design over `parameters` of them, their condition number, and who is confounded with whom.

    `confounded` names parameters that no data of this kind can tell apart; `pinned` those a fit holds, with reasons.
    """

    rank: int
    parameters: int
    condition: float
    confounded: tuple[str, ...]
    pinned: dict[str, str]


def identify(law: Law, frame: pd.DataFrame) -> Design:
    """Examine all parameters of `law` on the usable rows of `frame`, and say what a fit would hold.

    Raises FitError when there are no rows. `condition` is that of the parameters a fit leaves free.
    """
    rows, held, pinned = fitted_rows(law, frame)
    always = np.array([q.pin is not None and not q.pin.of for q in law.parameters])
    some = _some_runs(law, rows)
    whole = _examine(law, some, np.where(always, held, np.nan))
    left = _examine(law, some, held)
    return Design(whole.rank, whole.parameters, left.condition, whole.confounded, pinned)


def _examine(law: Law, rows: pd.DataFrame, held: Array) -> Design:
    """The design over the parameters that `held` leaves free, at the generic point where most can be told."""
    problem = Problem(law, compress(rows, law.inputs, NODES), False, None, held)
    names = [law.parameters[i].name for i in problem.free]
    with np.errstate(all="ignore"):
        points = [_scaled(problem.residuals(z)[1][:, problem.free]) for z in _inside(law, held)]
    finite = [j for j in points if np.isfinite(j).all()]
    if not finite or not names:
        return Design(0, len(names), 1.0 if not names else float("inf"), (), {})
    best = max(finite, key=lambda j: (_rank(j), -_condition(j)))
    null = np.linalg.svd(best)[2][_rank(best) :]
    part = np.sqrt((null**2).sum(axis=0)) if len(null) else np.zeros(len(names))
    confounded = tuple(name for name, size in zip(names, part, strict=True) if size > PART)
    return Design(_rank(best), len(names), _condition(best), confounded, {})


def _inside(law: Law, held: Array) -> list[Array]:
    """Generic points: exponents between their start values, linear parameters of different sizes."""
    points = []
    for share in (0.3, 0.8):
        theta = [min(q.start) + share * (max(q.start) - min(q.start)) for q in law.nonlinear]
        linear = [(1 + 0.37 * i) * (-1 if c.sign < 0 else 1) for i, c in enumerate(law.linear)]
        points.append(np.where(np.isnan(held), np.array([*theta, *linear]), held))
    return points


def _scaled(jacobian: Array) -> Array:
    """Columns of length one, reduced to their triangular factor."""
    if not np.isfinite(jacobian).all():
        return jacobian
    r = np.linalg.qr(jacobian)[1]
    return np.asarray(r / np.maximum(np.linalg.norm(r, axis=0), TINY))


def _rank(j: Array) -> int:
    s = np.linalg.svd(j, compute_uv=False)
    return int((s > SMALL * s[0]).sum())


def _condition(j: Array) -> float:
    if not j.shape[1]:
        return 1.0
    s = np.linalg.svd(j, compute_uv=False)
    return float(s[0] / max(s[-1], TINY))
