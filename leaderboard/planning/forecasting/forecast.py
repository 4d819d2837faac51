"""Where a run is going: its own rows so far, and what the laws say of such a run, as one curve with its band.

    ahead = forecast(load_logs().frame, own)        # own: the run's rows so far, in the columns of a run log
    ahead.predict(1e7), ahead.interval(1e7, 0.8)    # nats per token; arrays in, arrays out
    ahead.tokens(target_loss=2.9)

`own` needs `tokens` and `loss`; what else it has (l0, l_pruned, rate, n0, schedule, ...) makes the band narrower. How
it is done is in conditioning.py, what laws add in prior.py, schedules in decay.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from leaderboard.errors import P2Error
from leaderboard.laws.law import Array
from leaderboard.logs.contract import require
from leaderboard.planning.forecasting.conditioning import (
    ALONE_SHARE,
    KNOWN_WANDER,
    WANDER,
    Alone,
    Ground,
    Laws,
    Posterior,
    Rows,
    condition,
    quantile,
)
from leaderboard.planning.forecasting.decay import Decay, Known, decay_of, number
from leaderboard.planning.forecasting.prior import Prior, prior_of, without
from leaderboard.planning.recipe import Recipe, recipe_of

LEAST_ROWS = 2
MOST_ROWS = 48  # more are averaged in bins of ln tokens
WANDER_STEPS = 150
WANDER_SHARE = 0.1  # of the tokens so far, where the step is not known
EARLY = 0.1  # of the tokens so far: earlier rows say little, and may be warm-up where that is not known
ENOUGH_ROWS = 4
INSIDE, FAR = 10.0, 100.0  # times the tokens so far
NARROW, WIDE = 0.1, 0.3  # nats between the ends of the 80 % band
LEVEL = 0.8
RUN = ("run_id", "family", "method", "rate", "n0", "l0", "l_pruned", "schedule", "lr_peak", "batch_tokens", "precision")
NO_LAW = "the curve alone"
GRID = 400
FAR_BASE = 1.1  # times outside the sizes measured from which it is said
MOST_LOSS = 30.0  # nats per token


class State(StrEnum):
    """How far a forecast is from what was measured."""

    INSIDE = "inside"
    BEYOND = "beyond"
    TOO_FAR = "too_far"


@dataclass(frozen=True)
class Forecast:
    """A run's curve ahead. `last` and `loss_now` are its last row, `planned` its budget where known.

    `weights` say how much each law, and the curve alone, has to say after the rows; `why` is for people.
    """

    posterior: Posterior
    last: float
    loss_now: float
    rows: int
    planned: float | None
    weights: dict[str, float]
    why: tuple[str, ...]
    run: dict[str, Any]  # what is known of it, by column
    recipe: Recipe  # how it is trained

    def predict(self, tokens: ArrayLike) -> float | Array:
        """Expected held-out loss at token counts, nats per token; the shape of `tokens`."""
        at = _counts(tokens)
        weight, mean, _ = self.posterior.moments(at.ravel())
        return _as(tokens, weight @ mean)

    def interval(self, tokens: ArrayLike, level: float = LEVEL) -> tuple[float | Array, float | Array]:
        """Where one evaluation of this run falls with probability `level`: (low, high) in the shape of `tokens`."""
        if not 0 < level < 1:
            raise P2Error(f"forecast: level is {level!r}; it must lie between 0 and 1, 0.8 for 80 %.")
        moments = self.posterior.moments(_counts(tokens).ravel())
        low, high = (quantile(*moments, (1 + sign * level) / 2) for sign in (-1, 1))
        return _as(tokens, low), _as(tokens, high)

    @property
    def state(self) -> State:
        """The state at the planned budget, else at ten times the tokens so far."""
        return self.state_at(max(self.planned or INSIDE * self.last, self.last))

    def state_at(self, tokens: float) -> State:
        """Beyond ten times the tokens so far or a band of 0.1 nats; too far beyond a hundred, 0.3, or a loss of 0."""
        low, high = self.interval(float(tokens), LEVEL)
        width, factor = float(high) - float(low), float(tokens) / self.last
        if factor > FAR * (1 + 1e-9) or width > WIDE or low <= 0:
            return State.TOO_FAR
        return State.INSIDE if factor <= INSIDE * (1 + 1e-9) and width <= NARROW else State.BEYOND

    def tokens(self, target_loss: ArrayLike | None = None, *, gain: ArrayLike | None = None) -> float | Array:
        """Fewest tokens at which the expected loss is `target_loss`, or from which a doubling wins less than `gain`.

        NaN where that is not met before it is too far to say.
        """
        grid = self._grid()
        if _goal(target_loss, gain) == "gain":
            weight, falls, _ = self.posterior.falls(grid, 2 * grid)
            return _met(grid, weight @ falls, gain)
        return _met(grid, np.asarray(self.predict(grid)), target_loss)

    def tokens_interval(
        self, level: float = LEVEL, target_loss: ArrayLike | None = None, *, gain: ArrayLike | None = None
    ) -> tuple[float | Array, float | Array]:
        """The tokens between which the goal is met with probability `level`: where the band's edges meet it."""
        grid = self._grid()
        if _goal(target_loss, gain) == "gain":
            moments = self.posterior.falls(grid, 2 * grid)
            low, high = (_met(grid, quantile(*moments, (1 + sign * level) / 2), gain) for sign in (-1, 1))
        else:
            low, high = (_met(grid, np.asarray(edge), target_loss) for edge in self.interval(grid, level))
        return low, high

    def fall(self, tokens: float, level: float = LEVEL) -> tuple[float, float, float]:
        """What a doubling of `tokens` wins, in nats: expected, and the ends of its interval."""
        at = _counts(tokens).ravel()
        weight, mean, sd = self.posterior.falls(at, 2 * at)
        low, high = (float(quantile(weight, mean, sd, (1 + sign * level) / 2)[0]) for sign in (-1, 1))
        return float((weight @ mean)[0]), low, high

    def _grid(self) -> Array:
        """Token counts from the first row on, up to where it becomes too far to say."""
        first = float(self.posterior.parts[0].rows.tokens[0])
        grid = np.geomspace(first, FAR * self.last, GRID)
        low, high = (np.asarray(end) for end in self.interval(grid, LEVEL))
        wide = np.flatnonzero((high - low > WIDE) & (grid > self.last))
        return np.asarray(grid[: wide[0]] if len(wide) else grid)


def forecast(frame: pd.DataFrame, own: pd.DataFrame) -> Forecast:
    """Forecast one run from its rows so far. `frame` holds run logs; the run itself is taken out of it.

    `own` has the run-log columns that are known, `tokens` rising and `loss` in nats per token. Rows of 0 tokens and of
    the warm-up are not used. Raises P2Error where rows are too few, out of order or not numbers.
    """
    own = _checked(own)
    known = _known(own)
    decay = decay_of(own, known)
    use, unused = _used(own, known)
    rows = _rows(own[use], decay)
    spoken = prior_of(without(frame, own), known)
    prior = spoken if isinstance(spoken, Prior) else None
    step = number(known("batch_tokens"))
    length = WANDER_STEPS * step if step else WANDER_SHARE * float(rows.points.tokens[-1])
    ground = Ground(decay, length, KNOWN_WANDER if prior is not None and prior.same_batches else WANDER)
    alone, alone_prior = Alone.grid(
        float(rows.points.effective[-1]), float(rows.loss[-1] + decay.gain * rows.points.rest[-1]), decay.warm
    )
    kinds: list[tuple[Laws | Alone, Array]] = [(alone, alone_prior)]
    if prior is not None:
        laws, laws_prior = Laws.grid(prior.curves, prior.middle, np.ones(len(prior.laws)), prior.far)
        kinds = [(laws, laws_prior + np.log(1 - ALONE_SHARE)), (alone, alone_prior + np.log(ALONE_SHARE))]
    posterior = condition(rows, ground, kinds)
    names = prior.laws if prior is not None else ()
    return Forecast(
        posterior=posterior,
        last=float(own["tokens"].iloc[-1]),
        loss_now=float(own["loss"].iloc[-1]),
        rows=int(rows.count.sum()),
        planned=number(known("tokens_planned")) or None,
        weights=_weights(posterior, names),
        why=(f"Taken for true: {decay.words}.", *_prior_words(spoken), *unused),
        run={name: value for name in RUN if (value := known(name)) is not None},
        recipe=recipe_of(known),
    )


def _checked(own: pd.DataFrame) -> pd.DataFrame:
    """The rows of one run, in order; raises P2Error on what is not."""
    require(own, ("tokens", "loss"), "forecast")
    for name in ("run_id", "curve"):
        if name in own and own[name].nunique(dropna=True) > 1:
            raise P2Error(f"forecast: these are {own[name].nunique()} runs; give the rows of one.")
    if own.empty:
        raise P2Error(f"forecast: 0 usable rows of 0; {LEAST_ROWS} evaluations after the warm-up are the least.")
    tokens = pd.to_numeric(own["tokens"], errors="coerce").to_numpy(dtype=float)
    loss = pd.to_numeric(own["loss"], errors="coerce").to_numpy(dtype=float)
    for name, values in (("tokens", tokens), ("loss", loss)):
        if len(bad := np.flatnonzero(~np.isfinite(values) | (values < 0))):
            got = own[name].iloc[bad[0]]
            raise P2Error(f"forecast: row {bad[0] + 1} has the {name} {got}; leave rows out that measured nothing.")
    if len(high := np.flatnonzero(loss > MOST_LOSS)):
        got = loss[high[0]]
        raise P2Error(
            f"forecast: row {high[0] + 1} has the loss {got:g}; nats per token lie below {MOST_LOSS:g}. Is that a "
            f"perplexity? Its logarithm, {np.log(got):.3f}, would be the loss."
        )
    if len(back := np.flatnonzero(np.diff(tokens) <= 0)):
        row = int(back[0])
        raise P2Error(
            f"forecast: row {row + 2} has {tokens[row + 1]:,.0f} tokens after {tokens[row]:,.0f}; they must rise from "
            "row to row. Of a run that was resumed keep the rows that were trained last."
        )
    return own.assign(tokens=tokens, loss=loss)


def _known(own: pd.DataFrame) -> Known:
    """Run-level values: the first one that a column holds, else None. The row at 0 tokens tells l_pruned."""
    values: dict[str, Any] = {}
    for name in own:
        held = own[name].dropna()
        values[str(name)] = held.iloc[0] if len(held) else None
    start = own.loc[own["tokens"] == 0, "loss"]
    if values.get("l_pruned") is None and len(start):
        values["l_pruned"] = float(start.iloc[0])
    return values.get


def _used(own: pd.DataFrame, known: Known) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which rows to condition on, shape (n,): after the warm-up, not the earliest; in words which others there are."""
    tokens = own["tokens"].to_numpy()
    warm = number(known("warmup_tokens"))
    use = tokens > (warm or 0.0)
    late = use & (tokens >= EARLY * tokens[-1])
    early = warm is None and late.sum() >= ENOUGH_ROWS
    use = late if early else use
    if use.sum() < LEAST_ROWS:
        raise P2Error(
            f"forecast: {int(use.sum())} usable rows of {len(own)}; {LEAST_ROWS} evaluations after the warm-up "
            f"({warm or 0:,.0f} tokens) are the least. Let the run go on until there are."
        )
    zero = int((tokens == 0).sum())
    reasons = [
        (zero, "at 0 tokens, the loss after pruning"),
        (
            int((~use).sum()) - zero,
            f"of the warm-up, {warm:,.0f} tokens" if warm else "of the first tenth, perhaps warm-up",
        ),
    ]
    said = " and ".join(f"{n} {why}" for n, why in reasons if n)
    return use, (f"Of {len(own)} rows {int(use.sum())} are used; not used: {said}.",) if said else ()


def _rows(own: pd.DataFrame, decay: Decay) -> Rows:
    """Rows to condition on, averaged in bins where they are many."""
    tokens, loss = own["tokens"].to_numpy(), own["loss"].to_numpy()
    bins = np.arange(len(tokens))
    if len(bins) > MOST_ROWS:
        x = np.log(tokens)
        bins = np.minimum(((x - x[0]) / (x[-1] - x[0]) * MOST_ROWS).astype(np.int64), MOST_ROWS - 1)
        bins = np.unique(bins, return_inverse=True)[1]
    count = np.bincount(bins).astype(float)
    means = [np.bincount(bins, values) / count for values in (tokens, loss)]
    return Rows(decay.at(means[0]), means[1], count)


def _goal(target_loss: ArrayLike | None, gain: ArrayLike | None) -> str:
    if (target_loss is None) == (gain is None):
        raise P2Error("forecast: give one goal, a target_loss or a gain.")
    return "gain" if target_loss is None else "target_loss"


def _met(grid: Array, curve: Array, goals: ArrayLike | None) -> float | Array:
    """The tokens at which a curve on the grid first comes down to each goal; NaN where it does not."""
    wanted = np.asarray(goals, dtype=float)
    met = np.full(wanted.size, np.nan)
    for i, goal in enumerate(wanted.ravel()):
        below = np.flatnonzero(curve <= goal)
        if len(below) and (j := int(below[0])):
            share = (curve[j - 1] - goal) / (curve[j - 1] - curve[j])
            met[i] = grid[j - 1] * (grid[j] / grid[j - 1]) ** share
        elif len(below):
            met[i] = grid[0]
    return _as(goals, met)


def _counts(tokens: ArrayLike) -> Array:
    at = np.asarray(tokens, dtype=float)
    if not (np.isfinite(at) & (at > 0)).all():
        raise P2Error("forecast: tokens must be counts above 0, 1e9 for a billion.")
    return at


def _as(like: ArrayLike | None, values: Array) -> float | Array:
    """Values in the shape of what was asked: a number for a number."""
    shape = np.asarray(like).shape
    return np.asarray(values).reshape(shape) if shape else float(np.asarray(values).ravel()[0])


def _weights(posterior: Posterior, names: tuple[str, ...]) -> dict[str, float]:
    weights = dict.fromkeys((*names, NO_LAW), 0.0)
    for part in posterior.parts:
        for i, weight in enumerate(part.weight):
            weights[names[part.kind.law[i]] if isinstance(part.kind, Laws) else NO_LAW] += float(weight)
    return weights


def _prior_words(spoken: Prior | str) -> tuple[str, ...]:
    """Why laws do not speak, or for how much they count."""
    if isinstance(spoken, str):
        return (f"No law speaks about this run, so its own rows alone do: {spoken}.",)
    far = f"The base is {spoken.far:.3g} times outside the sizes measured, so laws count for less."
    return (*([far] if spoken.far > FAR_BASE else []), *spoken.doubts)
