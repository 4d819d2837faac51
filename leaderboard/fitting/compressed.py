"""The rows of a fit, kept as a few numbers a run where the runs are long.

A law is a smooth function of log tokens, so on one run it is fixed by its values f at m Chebyshev nodes: its values at
the n evaluations are A f, with A (n, m) the barycentric interpolation. With A = Q R the sum of squares over the run is

    |A f - y|^2 = |R f - Q'y|^2 + (|y|^2 - |Q'y|^2),

so R and Q'y (m numbers) stand for the run, whatever the law and however many checkpoints: the cost of a fit grows
with runs. m follows the run's token range so that exponents up to 3 are met to about 1e-12.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.laws.law import Array, Inputs, Law
from leaderboard.logs.contract import curve_numbers

LAW_INPUTS = ("n0", "n0_nonembedding", "n_pruned", "rate", "l0", "l_pruned", "tokens")  # what bundled laws may read
WEIGHT = "weight"  # column of a run's weight in a fit, the same in all its rows; absent: 1
STEEPEST = 3.0  # exponent of tokens that the nodes resolve
LOST = 1e-6  # of the largest singular value: a node that too few evaluations fix
LEAST_LOSS = 1e-9  # nats: the interpolant may dip below
NARROW = 1e-9  # half the range of ln tokens of a run of one evaluation
WORTH = 2  # compress when there are this many times more evaluations than nodes


@dataclass(frozen=True)
class Members:
    """The runs behind merged ones, shape (measured,) each: the merged run, the frame's `curve`, and how far its targets
    (measured, m) are from the mean of those merged with it."""

    lot: NDArray[np.int64]
    curve: NDArray[np.int64]
    apart: Array

    def pick(self, lots: NDArray[np.int64]) -> "Members":
        """Those behind some of the merged runs."""
        kept = np.isin(self.lot, lots)
        return Members(np.searchsorted(lots, self.lot[kept]), self.curve[kept], self.apart[kept])


@dataclass(frozen=True)
class Curves:
    """Rows (or nodes) of `runs` runs, run after run, and what they are compared with.

    Predicted losses f of shape (..., rows) are first mapped by `operator` (grids, m, m) where there is one, each run by
    the grid that `grid[run]` names; then they stand beside `loss` or `log_loss`, shape (rows,). `rest` and `log_rest`
    are the parts of the sums of squares that no law can change. `run` (rows,) numbers the runs from 0. `scale` (runs,),
    the root of each run's weight where they are weighed (a column `weight`), is in all of these already.
    """

    frame: pd.DataFrame
    run: NDArray[np.int64]
    loss: Array
    log_loss: Array
    lengths: NDArray[np.int64]  # (runs,) evaluations of each
    operator: Array | None = None
    grid: NDArray[np.int64] | None = None
    rest: Array | None = None  # (runs,)
    log_rest: Array | None = None
    members: Members | None = None  # where runs were merged
    scale: Array | None = None

    @cached_property
    def runs(self) -> int:
        """How many runs, merged ones counted once."""
        return len(self.lengths)

    @property
    def measured(self) -> int:
        """How many runs were measured."""
        return self.runs if self.members is None else len(self.members.lot)

    @cached_property
    def evaluations(self) -> int:
        """How many losses were measured."""
        return int(self.lengths.sum())

    @property
    def weight(self) -> float:
        """How much all evaluations weigh: their number, where runs are not weighed."""
        return float(self.evaluations if self.scale is None else self.lengths @ self.scale**2)

    @cached_property
    def losses(self) -> Array:
        """Losses at the rows; at nodes those of the least-squares interpolant, kept positive."""
        loss = self.loss if self.scale is None else self.loss / self.scale[self.run]
        if self.operator is None or self.grid is None:
            return loss
        m = self.operator.shape[1]
        inverse = np.linalg.pinv(self.operator, rcond=LOST)[self.grid]
        return np.maximum((inverse @ loss.reshape(-1, m, 1)).ravel(), LEAST_LOSS)

    def thin(self, most: int) -> "Curves":
        """At most `most` of the runs, evenly spread in their order."""
        if self.runs <= most:
            return self
        return self.pick(np.unique(np.linspace(0, self.runs - 1, most).round().astype(np.int64)))

    def where(self, keep: NDArray[np.bool_]) -> "Curves | None":
        """The runs whose rows `keep` (rows,) marks; None where it cuts a run apart."""
        kept = np.bincount(self.run, keep, self.runs)
        if ((kept > 0) & (kept < np.bincount(self.run, minlength=self.runs))).any():
            return None
        return self.pick(np.flatnonzero(kept > 0))

    def pick(self, runs: NDArray[np.int64]) -> "Curves":
        """Some of the runs, `runs` in rising order."""
        rows = np.isin(self.run, runs)
        grid = None if self.grid is None else self.grid[runs]
        rest, log_rest = (None if v is None else v[runs] for v in (self.rest, self.log_rest))
        return Curves(
            self.frame[rows], np.searchsorted(runs, self.run[rows]), self.loss[rows], self.log_loss[rows],
            self.lengths[runs], self.operator, grid, rest, log_rest, self.members and self.members.pick(runs),
            None if self.scale is None else self.scale[runs],
        )  # fmt: skip

    def designs(self) -> "Curves":
        """Runs in nodes that no law can tell apart as one, with its `members`: what many laws are fitted to."""
        return self.merged(tuple(str(c) for c in self.frame if c != "curve"), keep_members=True)

    def merged(self, inputs: tuple[str, ...], keep_members: bool = False) -> "Curves":
        """Runs in nodes that a law of these inputs cannot tell apart, as one run that weighs as much.

        With the same f, sum_g |R f - z_g|^2 = G |R f - mean z|^2 + sum_g |z_g - mean z|^2.
        """
        if self.operator is None or self.grid is None or self.rest is None or self.log_rest is None:
            return self
        m = self.operator.shape[1]
        first = self.frame.iloc[::m]
        keys = [self.grid, *(first[c].to_numpy() for c in inputs if c != "tokens")]
        keys += [] if self.scale is None else [self.scale]
        lot = pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys))), sort=False).ngroup().to_numpy()
        lots = int(lot.max()) + 1
        if lots > self.runs / 2:
            return self
        count = np.bincount(lot)
        opens = np.unique(lot, return_index=True)[1]
        targets: list[Array] = []
        rests: list[Array] = []
        departures: list[Array] = []
        for z, rest in ((self.loss, self.rest), (self.log_loss, self.log_rest)):
            shaped = z.reshape(-1, m)
            mean = np.stack([np.bincount(lot, column) for column in shaped.T], axis=1) / count[:, None]
            departures.append(shaped - mean[lot])
            targets.append((mean * np.sqrt(count)[:, None]).ravel())
            rests.append(np.bincount(lot, (departures[-1] ** 2).sum(axis=1) + rest).astype(float))
        members = (
            Members(np.asarray(lot, dtype=np.int64), first["curve"].to_numpy(), departures[0])
            if keep_members and "curve" in first
            else None
        )
        rows = (opens[:, None] * m + np.arange(m)).ravel()
        return Curves(
            self.frame.iloc[rows], np.repeat(np.arange(lots), m), targets[0], targets[1],
            np.bincount(lot, self.lengths).astype(np.int64),
            self.operator[self.grid[opens]] * np.sqrt(count)[:, None, None], np.arange(lots), rests[0], rests[1],
            members, None if self.scale is None else self.scale[opens],
        )  # fmt: skip

    def read(self, law: Law) -> Inputs:
        """The law's inputs at the rows or nodes."""
        return law.read(self.frame)

    def apply(self, values: Array) -> Array:
        """Map values (..., rows) at nodes to what is compared with the targets; the identity on plain rows."""
        if self.scale is not None:
            values = values * self.scale[self.run]
        if self.operator is None or self.grid is None:
            return values
        m = self.operator.shape[1]
        shaped = values.reshape(*values.shape[:-1], self.runs, m)
        if len(self.operator) == 1:
            mapped: Array = shaped @ self.operator[0].T
        else:  # all values of a run at once
            mapped = (self._operator_of_run @ shaped.reshape(-1, self.runs, m).transpose(1, 2, 0)).transpose(2, 0, 1)
        return mapped.reshape(values.shape)

    @cached_property
    def _operator_of_run(self) -> Array:
        """The operator of each run, shape (runs, m, m)."""
        if self.operator is None or self.grid is None:
            return np.empty((0, 0, 0))
        own = len(self.operator) == self.runs and bool((self.grid == np.arange(self.runs)).all())
        return self.operator if own else self.operator[self.grid]


def plain(rows: pd.DataFrame) -> Curves:
    """Rows as they are, by run and tokens (a column `run_id`; absent: one run); a column `weight` weighs whole runs."""
    code = curve_numbers(rows)
    order = np.lexsort((rows["tokens"].to_numpy(), code)) if "tokens" in rows else np.argsort(code, kind="stable")
    if (np.diff(order) != 1).any():
        rows, code = rows.iloc[order], code[order]
    loss = rows["loss"].to_numpy(dtype=float)
    log_loss, lengths, scale = np.log(loss), np.bincount(code), None
    if WEIGHT in rows:
        scale = np.sqrt(rows[WEIGHT].to_numpy(dtype=float)[np.flatnonzero(np.diff(code, prepend=-1))])
        loss, log_loss = loss * scale[code], log_loss * scale[code]
    return Curves(rows, code, loss, log_loss, lengths, scale=scale)


def compress(rows: pd.DataFrame, inputs: tuple[str, ...] = LAW_INPUTS, nodes: int | None = None) -> Curves:
    """The same, run by run in nodes where that is shorter; needs every input but tokens to be constant in a run.

    `nodes` a run; by default as many as make the interpolation exact to about 1e-12.
    """
    inputs = tuple(dict.fromkeys(inputs))
    needed = ("tokens", "loss", "run_id", "contributor", "base_model", "curve", WEIGHT, *inputs)
    curves = plain(rows[[c for c in dict.fromkeys(needed) if c in rows]])
    lengths = curves.lengths
    tokens = curves.frame["tokens"].to_numpy(dtype=float)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    beside = [c for c in ("base_model", "curve") if c in curves.frame and c not in inputs]
    fixed = curves.frame[[c for c in inputs if c != "tokens" and c in curves.frame]]
    if not _constant_in_runs(fixed, curves.run, starts) or not (tokens > 0).all():
        return curves
    fixed = curves.frame[[*fixed, *beside]]
    low, high = np.minimum.reduceat(tokens, starts), np.maximum.reduceat(tokens, starts)
    m = nodes or _nodes_for(float(np.log(high / low).max(initial=0)))
    if lengths.mean() < (WORTH * m if nodes is None else m):
        return curves
    return _compressed(curves, fixed.iloc[starts], tokens, starts, lengths, m)


def _compressed(
    curves: Curves, fixed: pd.DataFrame, tokens: Array, starts: NDArray[np.int64], lengths: NDArray[np.int64], m: int
) -> Curves:
    grids: dict[bytes, list[int]] = {}
    for i, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        grids.setdefault(tokens[start : start + n].tobytes(), []).append(i)
    operators: list[Array] = []
    nodes: list[Array] = []
    grid, targets = np.zeros(len(starts), dtype=np.int64), np.zeros((2, len(starts), m))
    rests = np.zeros((2, len(starts)))
    for g, runs in enumerate(grids.values()):
        rows = starts[runs][:, None] + np.arange(lengths[runs[0]])
        node, q, r = _nodes_and_qr(np.log(tokens[rows[0]]), m)
        nodes.append(np.exp(node))
        operators.append(r)
        grid[runs] = g
        for j, y in enumerate((curves.loss[rows], curves.log_loss[rows])):
            z = y @ q
            targets[j, runs, : q.shape[1]] = z
            rests[j, runs] = ((y - z @ q.T) ** 2).sum(axis=1)
    frame = fixed.iloc[np.repeat(np.arange(len(starts)), m)].assign(tokens=np.stack(nodes)[grid].ravel())
    return Curves(
        frame, np.repeat(np.arange(len(starts)), m), targets[0].ravel(), targets[1].ravel(), lengths,
        np.stack(operators), grid, rests[0], rests[1], scale=curves.scale,
    )  # fmt: skip


def _nodes_for(span: float) -> int:
    """Chebyshev nodes that resolve exp(3 t) over a range of `span` in log tokens to about 1e-12."""
    half = STEEPEST * span / 2
    return int(np.ceil(half + 10 * np.cbrt(half))) + 8


def _nodes_and_qr(t: Array, m: int) -> tuple[Array, Array, Array]:
    """Nodes (m,) over the range of t (n,), and Q (n, min(n, m)), R (m, m) of the interpolation to t."""
    angle = (np.arange(m) + 0.5) * np.pi / m
    middle, half = (t.max() + t.min()) / 2, max((t.max() - t.min()) / 2, NARROW)
    nodes = middle + half * np.cos(angle)
    weight = np.sin(angle) * (-1.0) ** np.arange(m)
    gap = t[:, None] - nodes
    exact = gap == 0
    share = weight / np.where(exact, 1, gap)
    share = np.where(exact.any(axis=1, keepdims=True), exact, share / share.sum(axis=1, keepdims=True))
    q, r = np.linalg.qr(share)
    return nodes, q, np.concatenate([r, np.zeros((m - len(r), m))])


def _constant_in_runs(frame: pd.DataFrame, run: NDArray[np.int64], starts: NDArray[np.int64]) -> bool:
    values = frame.to_numpy(dtype=float)
    return bool((values == values[starts][run]).all())
