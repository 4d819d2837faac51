"""How many tokens? Inverts a fitted law for one planned run, and says how far that is from what was measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.fitting.resample import Resamples
from leaderboard.fitting.result import Fit
from leaderboard.laws.law import Array, Columns, Law
from leaderboard.logs.contract import GROUP, require
from leaderboard.planning.gpus import check_offer, gpu_hours
from leaderboard.planning.recommend import RUNS_FOR_AN_INTERVAL, Predictor, predictor

MOST_TOKENS = 1e13
GRID = np.geomspace(1e3, MOST_TOKENS, 2001)
COARSE = 25  # every 25th point carries the spread of draws, which is smooth in ln tokens
NEEDED = ("run_id", *GROUP, "n0", "rate", "tokens", "loss")
GAIN = 0.01  # nats that the next doubling must win to be worth it


class BudgetStatus(StrEnum):
    """Whether the goal can be met."""

    REACHED = "reached"
    ALREADY_MET = "already_met"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Budget:
    """The answer. `loss` is predicted at `tokens`, or the floor when unreachable. `extrapolation` gives factors beyond
    the measured range (1 = inside) for size, rate and tokens, and whether the family is new. `why` is for people."""

    tokens: int | None
    loss: float
    status: BudgetStatus
    law: str
    group: dict[str, str]
    extrapolation: dict[str, float | bool]
    why: tuple[str, ...]
    goal: str
    tokens_80: tuple[float, float] | None = None
    tokens_95: tuple[float, float] | None = None
    gpu_hours: float | None = None
    cost: float | None = None

    def sentence(self) -> tuple[str, str]:
        """The answer in words: how many tokens, and what they do."""
        if self.status is BudgetStatus.ALREADY_MET:
            return "No tokens", f"are needed: right after pruning it has {words.loss(self.loss)} nats per token."
        if self.tokens is None:
            return "No number of tokens", f"reaches the goal: {self.goal}."
        return f"{words.count(self.tokens, long=True)} tokens", f"reach the goal: {self.goal}."

    def as_dict(self) -> dict[str, object]:
        """JSON form, in the contract's keys."""
        keys = [
            "tokens",
            "tokens_80",
            "tokens_95",
            "loss",
            "status",
            "law",
            "group",
            "extrapolation",
            "gpu_hours",
            "cost",
        ]
        return {k: getattr(self, k) for k in keys} | {"status": str(self.status), "why": list(self.why)}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One planned run: parameters as a count, losses in nats per token, rate as a share of all parameters."""

    family: str
    method: str
    rate: float
    n0: float
    l0: float
    l_pruned: float | None = None
    target_loss: float | None = None
    excess: float | None = None
    gain: float | None = None

    def __post_init__(self) -> None:
        checks = [
            ("rate", 0 < self.rate < 1, "a share of all parameters between 0 and 1, 0.25 for 25 %"),
            ("n0", 1e4 <= self.n0 < math.inf, "a number of parameters, 8e9 for 8B"),
            ("l0", 0 < self.l0 < 30, "the held-out loss before pruning, in nats per token"),
            ("l_pruned", self.l_pruned is None or 0 < self.l_pruned < 100, "a loss in nats per token"),
            ("excess", self.excess is None or math.isfinite(self.excess), "nats above l0"),
            ("target_loss", self.target_loss is None or 0 < self.target_loss < math.inf, "a loss in nats per token"),
            ("gain", self.gain is None or 0 < self.gain < math.inf, "nats won by the next doubling, above 0"),
        ]
        for name, fine, allowed in checks:
            if not fine:
                raise P2Error(f"budget: {name} is {getattr(self, name)!r}; it must be {allowed}.")
        if sum(v is not None for v in (self.target_loss, self.excess, self.gain)) > 1:
            raise P2Error("budget: give one goal: a target loss, an excess over l0, or a marginal gain.")

    @property
    def target(self) -> float | None:
        """The loss to reach; None when the goal is a marginal gain."""
        return self.l0 + self.excess if self.excess is not None else self.target_loss

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.target is None:
            return f"the next doubling of tokens wins less than {self.gain or GAIN:g} nats"
        above = f" ({self.excess:g} above the unpruned model)" if self.excess is not None else ""
        return f"a held-out loss of {self.target:.3f} nats per token{above}"

    def columns(self, tokens: Array) -> dict[str, Array]:
        """The run as law inputs at the given token counts."""
        l_pruned = math.nan if self.l_pruned is None else self.l_pruned
        known = {"n0": self.n0, "rate": self.rate, "l0": self.l0, "n_pruned": self.n0 * (1 - self.rate)}
        same = {name: np.full(len(tokens), value) for name, value in (known | {"l_pruned": l_pruned}).items()}
        return {"tokens": tokens, **same}

    def curve(self, tokens: Array) -> pd.DataFrame:
        """The same as a frame."""
        return pd.DataFrame(self.columns(tokens))

    def miss(self, predict: Callable[[Columns], Array], tokens: Array) -> Array:
        """How far predicted losses (..., n) are above the goal at token counts (n,); 0 or less meets it."""
        here = predict(self.columns(tokens))
        if self.target is not None:
            return here - self.target
        return here - predict(self.columns(2 * tokens)) - (self.gain or GAIN)


def recommend_tokens(
    frame: pd.DataFrame,
    *,
    family: str,
    method: str,
    rate: float,
    n0: float,
    l0: float,
    l_pruned: float | None = None,
    target_loss: float | None = None,
    excess: float | None = None,
    gain: float | None = None,
    eval_data: str | None = None,
    objective: str | None = None,
    law: str | Law | None = None,
    gpu: str | None = None,
) -> Budget:
    """Post-training tokens that reach a goal: a target loss, an excess over l0, or (default) a marginal gain of 0.01.

    `frame` holds run logs; `eval_data` and `objective` default to the group with most runs, and l0, l_pruned and the
    target are losses on that text. `law` defaults to the one that predicts unseen sizes and rates best; laws driven by
    the damage need `l_pruned`. Raises P2Error on impossible values and on a family or method without data.
    """
    require(frame, NEEDED, "budget")
    asked = Question(
        family=family, method=method, rate=rate, n0=n0, l0=l0, l_pruned=l_pruned,
        target_loss=target_loss, excess=excess, gain=gain,
    )  # fmt: skip
    check_offer(gpu, None)
    found = predictor(
        frame, family=family, method=method, eval_data=eval_data, objective=objective, law=law,
        l_pruned_known=l_pruned is not None,
    )  # fmt: skip
    return answer(found, asked, gpu)


def answer(found: Predictor, asked: Question, gpu: str | None = None, price: float | None = None) -> Budget:
    """The budget that a fitted predictor gives for `asked`; `price` in US dollars a GPU-hour, by default a typical one.

    Cheap enough for a server: a predictor's resamples are made once.
    """
    check_offer(gpu, price)
    tokens, loss, status = invert(found.fit, asked)
    why = list(found.why)
    why += [] if tokens is not None else [_floor_words(asked, loss)]
    hours, cost = (None, None)
    if gpu is not None and tokens is not None:
        hours, cost = gpu_hours(
            tokens, asked.n0, asked.rate, asked.method, gpu, price, objective=found.group["objective"]
        )
    sure: list[tuple[float, float] | None] = [None, None]
    least = status is BudgetStatus.REACHED and tokens is not None and tokens <= GRID[0]
    if least:
        why.append(f"The law meets the goal at {tokens:,} tokens, the fewest it is asked about: read it as hardly any.")
    if found.spread is None:
        why.append(f"{found.fit.n_runs} runs are too few for an interval; {RUNS_FOR_AN_INTERVAL} are needed.")
    elif status is not BudgetStatus.ALREADY_MET and not least:
        sure = intervals(found.spread, asked)
    return Budget(
        tokens=tokens,
        loss=loss,
        status=status,
        law=found.fit.law.name,
        group=found.group,
        extrapolation=_extrapolation(found.rows, asked, tokens),
        why=tuple(why),
        goal=asked.goal,
        tokens_80=sure[0],
        tokens_95=sure[1],
        gpu_hours=hours,
        cost=cost,
    )


def invert(fitted: Fit, asked: Question, where: str = "budget") -> tuple[int | None, float, BudgetStatus]:
    """Tokens, loss there and status for a fitted law; without an answer below 1e13 tokens, the lowest loss."""
    if asked.target is not None and asked.l_pruned is not None and asked.l_pruned <= asked.target:
        return 0, asked.l_pruned, BudgetStatus.ALREADY_MET
    met = np.flatnonzero(asked.miss(fitted.predict, GRID) <= 0)
    if not len(met):
        losses = fitted.predict(asked.columns(GRID))
        if np.isnan(losses).all():
            raise P2Error(
                f"{where}: the law {fitted.law.name} gives no finite loss so far from these runs; try another."
            )
        return None, float(np.nanmin(losses)), BudgetStatus.UNREACHABLE
    i = int(met[0])
    tokens = float(GRID[i])
    if i and asked.miss(fitted.predict, GRID[i : i + 1])[0] < 0:
        tokens = brentq(lambda d: float(asked.miss(fitted.predict, np.array([d]))[0]), GRID[i - 1], tokens, rtol=1e-10)
    return math.ceil(tokens), float(fitted.predict(asked.columns(np.array([tokens])))[0]), BudgetStatus.REACHED


def intervals(spread: Resamples, asked: Question) -> list[tuple[float, float] | None]:
    """The 80 and 95 % intervals of the tokens that one new run needs: where its band of losses meets the goal.

    The upper end is 1e13 where the band does not meet it below. A marginal gain is a difference within the run, so the
    run's own level does not widen it.
    """
    center = asked.miss(spread.fit.predict, GRID)
    coarse = GRID[::COARSE]
    sd = np.interp(np.log(GRID), np.log(coarse), asked.miss(spread.predict, coarse).std(axis=0))
    if asked.target is not None:
        sd = np.sqrt(sd**2 + spread.run_sd**2)
    out: list[tuple[float, float] | None] = []
    for level in (0.8, 0.95):
        half = spread.quantile(level) * sd
        low, high = np.flatnonzero(center - half <= 0), np.flatnonzero(center + half <= 0)
        ends = (
            (float(GRID[max(low[0] - 1, 0)]), float(GRID[high[0]]) if len(high) else MOST_TOKENS) if len(low) else None
        )
        out.append(ends)
    return out


def _floor_words(asked: Question, floor: float) -> str:
    if asked.target is None:
        return "Every doubling up to 1e13 tokens still wins more than that: the base model itself is still improving."
    return f"The floor is {floor:.4f} nats per token at 1e13 tokens, above the goal of {asked.target:.4f}."


def _extrapolation(rows: pd.DataFrame, asked: Question, tokens: int | None) -> dict[str, float | bool]:
    """Factors beyond the range of the fitted rows, 1 inside; an unreachable goal was looked for up to 1e13 tokens."""
    most = MOST_TOKENS if tokens is None else tokens
    asks = {"size": ("n0", asked.n0), "rate": ("rate", asked.rate), "tokens": ("tokens", most)}
    out: dict[str, float | bool] = {}
    for name, (column, value) in asks.items():
        low, high = float(rows[column].min()), float(rows[column].max())
        out[name] = max(1.0, value / high, low / value) if value else 1.0
    return out | {"family": asked.family not in set(rows["family"])}
