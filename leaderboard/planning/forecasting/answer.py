"""A forecast as plain data, the same for the command line, REST and MCP: losses, tokens, and whether going on pays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from leaderboard.errors import P2Error
from leaderboard.planning.forecasting.forecast import Forecast, State
from leaderboard.planning.gpus import check_offer, gpu_hours

LEVELS = (0.8, 0.95)
NEEDED = ("n0", "rate", "method")  # for GPU-hours


def answer(
    ahead: Forecast,
    at: Sequence[float] = (),
    target_loss: float | None = None,
    excess: float | None = None,
    gain: float | None = None,
    gpu: str | None = None,
    price: float | None = None,
) -> dict[str, Any]:
    """Losses at token counts, the tokens to at most one goal, and what a doubling of the tokens so far wins and costs.

    `state` is the worst over `at`, by default the planned budget or twice and ten times the tokens so far. Too far, the
    numbers are None. Raises P2Error on two goals, and on an excess where the run's l0 is not known.
    """
    check_offer(gpu, price)
    goal = _goal(ahead, target_loss, excess, gain)
    places = [_place(ahead, tokens) for tokens in at or _usual(ahead)]
    states = [place["state"] for place in places]
    return {
        "state": next((s for s in (State.TOO_FAR, State.BEYOND) if s in states), State.INSIDE).value,
        "now": {"tokens": ahead.last, "loss": ahead.loss_now, "rows": ahead.rows},
        "at": [place | {"state": place["state"].value} for place in places],
        "goal": _tokens(ahead, goal, gpu, price) if goal else None,
        "doubling": _doubling(ahead, gpu, price),
        "weights": ahead.weights,
        "run": ahead.run,
        "recipe": ahead.recipe,
        "why": list(ahead.why),
    }


def _goal(ahead: Forecast, target: float | None, excess: float | None, gain: float | None) -> dict[str, float]:
    given = {name: v for name, v in (("target_loss", target), ("excess", excess), ("gain", gain)) if v is not None}
    if len(given) > 1:
        raise P2Error("forecast: give one goal: a target loss, an excess over l0, or a marginal gain.")
    if bad := [name for name, value in given.items() if not np.isfinite(value) or (value <= 0 and name != "excess")]:
        raise P2Error(f"forecast: {bad[0]} is {given[bad[0]]}; give nats per token above 0.")
    if "excess" in given:
        if "l0" not in ahead.run:
            raise P2Error("forecast: an excess is one over l0, which this log does not hold; give a target loss.")
        return {"target_loss": float(ahead.run["l0"]) + given["excess"]}
    return given


def _usual(ahead: Forecast) -> tuple[float, ...]:
    """Where a forecast is looked at when nothing is asked."""
    if ahead.planned and ahead.planned > ahead.last:
        return (ahead.planned,)
    return (2 * ahead.last, 10 * ahead.last)


def _place(ahead: Forecast, tokens: float) -> dict[str, Any]:
    state = ahead.state_at(tokens)
    far = state is State.TOO_FAR
    place: dict[str, Any] = {"tokens": tokens, "loss": None if far else ahead.predict(tokens)}
    for level in LEVELS:
        low, high = (None, None) if far else ahead.interval(tokens, level)
        place |= {f"low_{level * 100:.0f}": low, f"high_{level * 100:.0f}": high}
    return place | {"state": state}


def _tokens(ahead: Forecast, goal: dict[str, float], gpu: str | None, price: float | None) -> dict[str, Any]:
    """Tokens to the goal; None where it is not met before it is too far to say, as is an end of an interval."""
    tokens = _number(ahead.tokens(**goal))
    ends = {f"tokens_{p * 100:.0f}": [_number(end) for end in ahead.tokens_interval(p, **goal)] for p in LEVELS}
    more = None if tokens is None else max(0.0, tokens - ahead.last)
    return dict(goal) | {"tokens": tokens, "more_tokens": more} | ends | _cost(ahead, more, gpu, price)


def _doubling(ahead: Forecast, gpu: str | None, price: float | None) -> dict[str, Any]:
    """What training as long again wins, in nats, and what it costs."""
    gain, low, high = ahead.fall(ahead.last)
    return {"tokens": ahead.last, "gain": gain, "low_80": low, "high_80": high} | _cost(ahead, ahead.last, gpu, price)


def _cost(ahead: Forecast, tokens: float | None, gpu: str | None, price: float | None) -> dict[str, float | None]:
    """GPU-hours and US dollars; None without a GPU, or where the run's size is not known."""
    if gpu is None or tokens is None or not set(NEEDED) <= set(ahead.run):
        return {"gpu_hours": None, "cost": None}
    hours, cost = gpu_hours(tokens, ahead.run["n0"], ahead.run["rate"], ahead.run["method"], gpu, price)
    return {"gpu_hours": hours, "cost": cost}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
