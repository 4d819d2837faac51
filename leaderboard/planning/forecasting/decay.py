"""What a decaying learning rate does to a curve: it learns less of each token, and it comes to rest.

With the learning rate as a share s(D) of its peak, a curve that would be f(D) at a constant rate becomes

    f(E) - C (1 - s),     E(D) = integral of s from 0 to D

after arXiv:2408.11029 (its S1 and S2, momentum left out). Of a warm-up, in which s rises from 0, half the tokens count:
E is told in tokens of a run at a constant rate after the same warm-up, `warm` more than that integral. C, in nats, is
0.08 on the runs fitted there (peak 2e-4) and 0.2 to 0.3 on the base models behind the bundled logs (peak 3e-3, decayed
to 0): about (peak)^0.35.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.laws.law import Array

REST = 0.08  # nats won by coming to rest from a peak of REST_PEAK
REST_PEAK = 2e-4
REST_POWER = 0.35
REST_UNKNOWN = 0.15  # the same where the peak is not known: 0.12 to 0.22 in published pretraining runs of 355 M
REST_SPREAD = 0.6  # of C, as a share of it
UNKNOWN_SPREAD = 0.06  # nats; where nobody knows whether the run will come to rest
POINTS = 2001
FALLEN = 0.99  # a share of the peak below which a learning rate counts as falling
Known = Callable[[str], Any]  # a run-level value by its column, None where it is not known
PEAK = 0.9999  # the same from which it counts as at its peak
LEAST_RATES = 3  # falling rates that tell where a schedule will end
FOREVER = 1e16  # tokens
STABLE = 0.8  # of a trapezoid: how much of it stands still is rarely told; a fifth to decay is usual
SHAPES: dict[str, Callable[[Array], Array]] = {  # share of the peak by progress, 0 to 1
    "cosine": lambda x: (1 + np.cos(np.pi * x)) / 2,
    "cosine-to-10%": lambda x: 0.1 + 0.9 * (1 + np.cos(np.pi * x)) / 2,
    "linear": lambda x: 1 - x,
    "wsd": lambda x: np.minimum(1, (1 - x) / (1 - STABLE)),
}
NAMES = {"warmup_stable_decay": "wsd", "trapezoid": "wsd"}  # as others call them


@dataclass(frozen=True)
class Points:
    """Token counts (n,), the tokens at full rate that teach as much, and how far the rate has come to rest, 0 to 1."""

    tokens: Array
    effective: Array
    rest: Array


@dataclass(frozen=True)
class Decay:
    """A schedule on a grid of tokens, and what coming to rest wins in nats: `gain`, give or take `spread`.

    `end` is where the learning stops, None for a rate that does not fall; `words` say what was taken for true, `warm`
    is what a warm-up did not teach, in tokens, where a run may be from scratch.
    """

    tokens: Array
    effective: Array
    rest: Array
    gain: float
    spread: float
    end: float | None
    words: str
    warm: float = 0.0

    def at(self, tokens: Array) -> Points:
        """What the schedule makes of token counts (n,)."""
        effective = np.interp(tokens, self.tokens, self.effective)
        return Points(tokens, effective, np.interp(tokens, self.tokens, self.rest))


def decay_of(own: pd.DataFrame, known: Known) -> Decay:
    """The schedule of a run from its columns: `known(name)` gives a run-level value or None, `lr` may stand in rows."""
    scratch = known("method") is None  # perhaps; what was cut begins at l_pruned, and not as a power of what was taught
    return replace(_decay_of(own, known), warm=(number(known("warmup_tokens")) or 0.0) / 2 if scratch else 0.0)


def _decay_of(own: pd.DataFrame, known: Known) -> Decay:
    name, planned = known("schedule"), known("tokens_planned")
    peak, warm = number(known("lr_peak")), number(known("warmup_tokens")) or 0.0
    rates = own[["tokens", "lr"]].dropna().to_numpy(dtype=float) if "lr" in own else np.empty((0, 2))
    rates = rates[rates[:, 0] > warm]
    peak = peak or (float(rates[:, 1].max()) if len(rates) else None)
    shape = _shape(str(name).lower())
    if str(name).startswith("constant"):
        return _constant("")
    if name is None and len(rates) >= LEAST_RATES and not _falls(rates):
        return _constant(" so far; should it decay, the run would end lower")
    if shape and number(planned):
        return _falling(shape, warm, float(number(planned) or 0), peak, "")
    if len(rates) and _falls(rates):
        shape, start, end = _read_off(rates, warm, [shape] if shape else ["linear", "cosine"])
        return _falling(shape, start, end, peak, ", read off the learning rates so far")
    return _unknown(float(own["tokens"].max()))


def _constant(how: str) -> Decay:
    ends = np.array([0.0, FOREVER])
    return Decay(ends, ends, np.zeros(2), 0.0, 0.0, None, f"a constant learning rate{how}")


def _unknown(last: float) -> Decay:
    grid = np.concatenate([[0.0], last * np.geomspace(1, 1e4, POINTS)])
    rest = np.concatenate([[0.0], 1 - last / grid[1:]])
    words = "the learning-rate schedule is not known, so the band is wider"
    return Decay(grid, grid, rest, 0.0, UNKNOWN_SPREAD, None, words)


def _falling(shape: str, start: float, end: float, peak: float | None, how: str) -> Decay:
    grid = np.concatenate([[0.0], np.linspace(start, max(end, start + 1), POINTS)])
    share = np.concatenate([[1.0], SHAPES[shape](np.linspace(0, 1, POINTS))])
    effective = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (share[1:] + share[:-1]) / 2)])
    gain = REST * (peak / REST_PEAK) ** REST_POWER if peak else REST_UNKNOWN
    words = f"a learning rate that falls by {shape} until {end:,.0f} tokens{how}"
    return Decay(grid, effective, 1 - share, gain, REST_SPREAD * gain, end, words)


def _falls(rates: Array) -> bool:
    return bool((rates[:, 1] < FALLEN * rates[:, 1].max()).sum() >= LEAST_RATES)


def _read_off(rates: Array, warm: float, shapes: list[str]) -> tuple[str, float, float]:
    """The shape, start and end by least squares, peak free, over ends up to 100 times the last row.

    A rate that stood at its peak for more than the first row starts to fall after that, else after the warm-up.
    """
    tokens, rate = rates[:, 0], rates[:, 1]
    still = int(np.flatnonzero(rate > PEAK * rate.max())[-1])
    start = float(tokens[still]) if still else warm
    tokens, rate = tokens[still:], rate[still:]
    best = (np.inf, shapes[0], start, float(tokens[-1]))
    for shape in shapes:
        for end in float(tokens[-1]) * np.geomspace(1.0, 100, 1000):
            fall = SHAPES[shape]((tokens - start) / (end - start))
            error = fall * (fall @ rate) / (fall @ fall) - rate
            best = min(best, (float(error @ error), shape, start, float(end)))
    return best[1:]


def _shape(name: str) -> str | None:
    """The shape that a schedule's name begins with."""
    names = {shape: shape for shape in SHAPES} | NAMES
    return next((names[n] for n in sorted(names, key=len, reverse=True) if name.startswith(n)), None)


def number(value: object) -> float | None:
    """A finite number as it stands, None for anything else."""
    return float(value) if isinstance(value, int | float | np.number) and np.isfinite(float(value)) else None
