"""`fit(law, frame)`: a law with numbers, and how far they can be trusted.

Pins what the data cannot tell apart, solves, and names the outcome. Objectives are sums over rows, residuals in nats
(`ls`, `huber`) or in log nats (`log-ls`, `log-huber`). Parameters are for parameters and tokens in billions.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from leaderboard.errors import FitError, P2Error, unknown_name
from leaderboard.fitting.compressed import Curves, compress, plain
from leaderboard.fitting.identifiability import enters, fitted_rows
from leaderboard.fitting.levenberg_marquardt import Solution
from leaderboard.fitting.problem import LOSSES, TINY, Problem
from leaderboard.fitting.result import Fit, Status, require_inputs
from leaderboard.fitting.solve import solve
from leaderboard.laws.law import Law
from leaderboard.logs.contract import GROUP, usable
from leaderboard.logs.origin import origins, protocol

SAME = 1e-6  # relative: objectives this near are one optimum
FLAT = 1e7  # condition of the scaled Jacobian from which a direction is called flat


def fit(law: Law, frame: pd.DataFrame, loss: str = "ls", delta: float = 1e-3, *, curves: Curves | None = None) -> Fit:
    """Fit `law` to the usable rows of `frame` (run-log columns, counts and nats).

    `loss`: `ls` 0.5 sum r^2, `huber` sum Huber_delta(r), or the same of log residuals (`log-ls`, `log-huber`).
    A column `weight` weighs whole runs (robust.py sets it); without one every row counts alike.
    `curves`, where many laws are fitted to one frame, is `compress(usable(frame)).designs()`, made once.
    Raises FitError when nothing can be fitted and P2Error on a column that is missing.
    """
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES, "fit")
    if not 0 < delta < np.inf:
        raise P2Error(f"fit: delta is {delta}; it must be the width of the Huber loss, above 0.")
    require_inputs(law, frame, ("loss",))
    _one_text(frame)
    smooth = "huber" not in loss
    if not smooth or curves is None or not set(law.inputs) <= set(curves.frame):
        curves = None
    rows, held, pinned = fitted_rows(law, frame if curves is None else curves.frame)
    if curves is not None and len(rows) < len(curves.frame):  # the law leaves out some
        curves = curves.where(enters(law, curves.frame))
        rows, held, pinned = (rows, held, pinned) if curves is not None else fitted_rows(law, frame)
    if curves is None:
        curves = compress(rows, law.inputs) if smooth else plain(rows)
    problem = Problem(law, curves.merged(law.inputs), loss.startswith("log-"), None if smooth else delta, held)
    if curves.evaluations < len(problem.free):
        raise FitError(
            "too_few_rows", f"{law.name}: {curves.evaluations} rows cannot fix {len(problem.free)} free parameters."
        )
    solutions = solve(problem)
    if not solutions:
        raise FitError("no_finite_start", f"{law.name}: no start of its grid gives finite losses on these rows.")
    return replace(_result(problem, solutions, frame, loss, delta, pinned), n_runs=curves.measured)


def _result(
    problem: Problem, solutions: list[Solution], frame: pd.DataFrame, loss: str, delta: float, pinned: dict[str, str]
) -> Fit:
    best, law = solutions[0], problem.law
    params = {q.name: float(v) for q, v in zip(law.parameters, best.z, strict=True)}
    n = problem.curves.evaluations
    rmse = np.sqrt(2 * best.objective / problem.curves.weight)
    if loss != "ls":
        rows = fitted_rows(law, frame)[0]
        error = law.value(params, law.read(rows)) - rows["loss"].to_numpy(dtype=float)
        rmse = np.sqrt(np.mean(error**2))
    other = [s.objective for s in solutions[1:] if s.objective > best.objective * (1 + SAME) + TINY]
    notes = [f"pinned:{name}" for name in pinned]
    notes += ["families_or_methods_pooled"] if not law.pool and _pools(frame) else []
    return Fit(
        law=law,
        params=params,
        objective=best.objective,
        status=_status(problem, best),
        loss=loss,
        delta=delta,
        rmse=float(rmse),
        gradient=best.gradient,
        condition=best.condition,
        n_rows=n,
        n_runs=problem.curves.runs,
        pinned=pinned,
        notes=tuple(notes),
        second=other[0] if other else None,
    )


def _status(problem: Problem, best: Solution) -> Status:
    low, high = problem.bounds
    nonlinear = problem.free[problem.free < len(problem.law.nonlinear)]
    if not best.converged:
        return Status.NOT_CONVERGED
    if ((best.z <= low) | (best.z >= high))[nonlinear].any():
        return Status.AT_BOUND
    return Status.FLAT if best.condition > FLAT else Status.OK


def _mixed(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    present = [c for c in columns if c in frame and len(frame)]
    return [c for c in present if (frame[c] != frame[c].iloc[0]).any() and frame[c].nunique() > 1]


def _pools(frame: pd.DataFrame) -> bool:
    """Whether the usable rows are of several families or methods."""
    mixed = _mixed(frame, GROUP[:2])
    return bool(mixed) and bool(_mixed(usable(frame), tuple(mixed)))


def _one_text(frame: pd.DataFrame) -> None:
    """Losses on different text, or under another objective, share no fit."""
    if len(apart := origins(frame)) > 1:
        names = " and ".join(name or "p2zoo's own" for name in apart)
        raise FitError("mixed_groups", f"fit: the frame mixes runs that are {names}; fit one at a time.")
    if len(ways := set(protocol(frame))) > 1:
        raise FitError(
            "mixed_groups",
            f"fit: the frame mixes runs measured with {' and with '.join(sorted(ways))}; fit one at a time.",
        )
    if mixed := _mixed(frame, GROUP[2:]):
        raise FitError(
            "mixed_groups",
            f"fit: the frame mixes {' and '.join(f'{frame[c].nunique()} values of {c}' for c in mixed)}; "
            "fit one at a time, e.g. frame[frame.eval_data == ...].",
        )
