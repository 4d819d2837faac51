"""How many tokens? Inverts the predicted curve of one planned run, and says how far that is from what was measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.laws.law import Array, Columns, Law
from leaderboard.logs.contract import GROUP, require
from leaderboard.logs.methods import CONTROL, METHODS, takes_rate
from leaderboard.planning.distance import WIDEST, State, within_reach
from leaderboard.planning.gpus import check_offer, gpu_hours
from leaderboard.planning.losses import check_losses
from leaderboard.planning.mixture import RUNS_FOR_AN_INTERVAL, Band, Mixture
from leaderboard.planning.recommend import predictor
from leaderboard.planning.too_far import missing_words, nearest_recoveries

MOST_TOKENS = 1e13
MET = 1e-7  # nats: what counts as reaching a goal
GRID = np.geomspace(1e3, MOST_TOKENS, 2001)
COARSE = 25  # every 25th point carries the spread, which is smooth in ln tokens
NEEDED = ("run_id", *GROUP, "n0", "rate", "tokens", "loss")
GAIN = 0.01  # nats that the next doubling must win to be worth it
LEVELS = (0.8, 0.95)
Interval = tuple[float, float] | None


class Predicts(Protocol):
    """What a budget needs of a fit: losses, shape (n,), from columns."""

    def predict(self, frame: Columns) -> Array:
        """Losses in nats per token."""
        ...


class BudgetStatus(StrEnum):
    """Whether the goal can be met."""

    REACHED = "reached"
    ALREADY_MET = "already_met"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Budget:
    """The answer. `loss` is predicted at `tokens`, or the floor when unreachable; under the state `too_far` tokens,
    intervals, loss, status and costs are None. `at_most`: the goal is met at the fewest tokens that any run measured.
    `weights` are the laws' shares, `extrapolation` factors beyond the measured range (1 = inside) for size, rate and
    tokens, and whether the family is new. `recipe` is how the runs behind it were trained, `evidence` the published
    recoveries shown beside it. `warning` says in a sentence how the question lies outside the runs, None inside. `why`
    is for people."""

    tokens: int | None
    loss: float | None
    status: BudgetStatus | None
    state: State
    law: str
    weights: dict[str, float]
    group: dict[str, str]
    extrapolation: dict[str, float | bool]
    recipe: dict[str, object]
    why: tuple[str, ...]
    goal: str
    tokens_80: Interval = None
    tokens_95: Interval = None
    at_most: bool = False
    gpu_hours: float | None = None
    cost: float | None = None
    evidence: tuple[dict[str, Any], ...] = ()
    warning: str | None = None

    def sentence(self) -> tuple[str, str]:
        """The answer in words: how many tokens, and what they do."""
        if self.state is State.TOO_FAR and self.status is None:
            return "Too far to say:", "the measured runs cannot answer this."
        if self.status is BudgetStatus.ALREADY_MET:
            return "No tokens", f"are needed: right after pruning it has {words.loss(self.loss)} nats per token."
        if self.tokens is None:
            return "No number of tokens", f"reaches the goal: {self.goal}."
        most = "At most " if self.at_most else ""
        return f"{most}{words.count(self.tokens, long=True)} tokens", f"reach the goal: {self.goal}."

    @property
    def intervals(self) -> list[tuple[tuple[float, float], int]]:
        """The intervals there are, each with its percentage."""
        return [(ends, level) for ends, level in ((self.tokens_80, 80), (self.tokens_95, 95)) if ends is not None]

    def interval_words(self, ends: tuple[float, float]) -> str:
        """An interval in words: an end that only bounds the answer is told as a bound."""
        low, high = ends
        if high >= MOST_TOKENS:
            return f"{words.count(low)} tokens or more"
        return f"{words.span(low, high)} tokens" if low < high else f"at most {words.count(high)} tokens"

    def as_dict(self) -> dict[str, object]:
        """JSON form, in the contract's keys."""
        keys = (
            "tokens", "tokens_80", "tokens_95", "at_most", "loss", "state", "law", "weights", "group", "extrapolation",
            "recipe", "gpu_hours", "cost",
        )  # fmt: skip
        status = None if self.status is None else str(self.status)
        said = {"status": status, "state": str(self.state), "why": list(self.why), "evidence": list(self.evidence)}
        said |= {"sentence": " ".join(self.sentence()), "warning": self.warning}
        return {key: getattr(self, key) for key in keys} | said


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
            ("n0", 1e4 <= self.n0 <= 1e14, "a number of parameters, 8e9 for 8B"),
            ("l0", 0 < self.l0 < 30, "the held-out loss before pruning, in nats per token"),
            ("l_pruned", self.l_pruned is None or 0 < self.l_pruned < 100, "a loss in nats per token"),
            ("excess", self.excess is None or math.isfinite(self.excess), "nats above l0"),
            ("target_loss", self.target_loss is None or 0 < self.target_loss < math.inf, "a loss in nats per token"),
            ("gain", self.gain is None or 0 < self.gain < 30, "nats won by the next doubling, above 0"),
        ]
        for name, fine, allowed in checks:
            if not fine:
                raise P2Error(f"budget: {name} is {getattr(self, name)!r}; it must be {allowed}.")
        if self.method == CONTROL:
            raise P2Error("budget: method is none; what is not pruned needs no tokens to recover. Name a method.")
        if not takes_rate(self.method) and self.rate > (most := METHODS[self.method].zeros or 1.0):
            raise P2Error(f"budget: rate is {self.rate}; {self.method} takes at most {most:g} of all parameters.")
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
    target are losses on that text. `law` defaults to a mixture of those that predict unseen sizes and rates best; laws
    driven by the damage need `l_pruned`. Raises P2Error on impossible values and on a family or method without data.
    """
    require(frame, NEEDED, "budget")
    question = Question(
        family=family, method=method, rate=rate, n0=n0, l0=l0, l_pruned=l_pruned,
        target_loss=target_loss, excess=excess, gain=gain,
    )  # fmt: skip
    gpu = check_offer(gpu, None)
    check_losses(question, frame)
    fitted = predictor(
        frame, family=family, method=method, eval_data=eval_data, objective=objective, law=law,
        l_pruned_known=l_pruned is not None,
    )  # fmt: skip
    return answer(fitted, question, gpu)


def answer(
    fitted: Mixture,
    question: Question,
    gpu: str | None = None,
    price: float | None = None,
) -> Budget:
    """The budget that fitted laws give for `question`; `price` in US dollars a GPU-hour, by default a typical one.

    Cheap enough for a server: resamples are made once. What published recoveries say comes in where these cannot.
    """
    check_offer(gpu, price)
    check_losses(question, fitted.rows)
    fewest = fitted.range.tokens[0]
    tokens, loss, status = invert(fitted, question, grid(fewest))
    open_question = status is not BudgetStatus.ALREADY_MET
    sure: list[Interval] = [None, None]
    if fitted.has_interval and open_question:
        sure = intervals(fitted, question)
    least = too_little(fitted.curves, question)
    contradicted = tokens is not None and open_question and tokens <= least
    if contradicted:
        tokens = math.floor(least) + 1
        loss = float(fitted.predict(question.columns(np.array([tokens], dtype=float)))[0])
        sure = [ends and (ends[0], max(ends[1], float(tokens))) for ends in sure]
    at_most = status is BudgetStatus.REACHED and tokens is not None and tokens <= fewest
    at = question.columns(np.array([tokens or fitted.range.tokens[1]], dtype=float))
    budget = Budget(
        tokens=tokens,
        loss=loss,
        status=status,
        state=state_of(fitted, question, tokens, sure[0]) if open_question else _axes(fitted, question, None),
        law=fitted.law,
        weights=fitted.named_weights(at),
        group=fitted.group,
        extrapolation=_extrapolation(fitted, question, tokens),
        recipe=fitted.recipe,
        why=fitted.why,
        goal=question.goal,
        tokens_80=sure[0],
        tokens_95=sure[1],
        at_most=at_most,
    )
    evidence = tuple(nearest_recoveries(question))
    if budget.state is State.TOO_FAR:
        missing = missing_words(fitted, question, evidence, gpu)
        why = (*sense_words(question), *missing)
        return _without_numbers(replace(budget, evidence=evidence, warning=missing[0]), why)
    budget = replace(budget, evidence=evidence, warning=_warning(budget, fitted, question))
    return _priced(replace(budget, why=(*budget.why, *_notes(budget, fitted, question))), question, gpu, price)


def _without_numbers(budget: Budget, why: tuple[str, ...]) -> Budget:
    """The same without any number: the data cannot answer."""
    return replace(
        budget,
        tokens=None,
        loss=None,
        status=None,
        tokens_80=None,
        tokens_95=None,
        at_most=False,
        why=why,
    )


def _warning(budget: Budget, fitted: Mixture, question: Question) -> str | None:
    """How an answer lies outside what was measured; None where it does not."""
    tokens = MOST_TOKENS if budget.tokens is None else budget.tokens
    ways = fitted.range.ways(question.n0, question.rate, tokens)
    said = [f"No run of the family {question.family} was measured."] * bool(budget.extrapolation["family"])
    said += [way.sentence() for way in ways if budget.tokens is not None or way.what != "tokens"]
    return " ".join(said) or None


def sense_words(question: Question) -> list[str]:
    """What is odd about a question, for whoever took losses on two texts."""
    if question.target is None or question.target >= question.l0:
        return []
    return [
        "The goal lies below the loss before pruning: what reaches it is training on this text, which a control, the "
        "unpruned base trained alike, would show."
    ]


def too_little(curves: pd.DataFrame, question: Question) -> float:
    """The most tokens after which a run like the planned one was measured above the target loss; 0 where none was.

    Such a run is of the question's family, within 1 % of its size, .005 of its rate and .01 nats of its losses.
    """
    if question.target is None or not len(curves):
        return 0.0
    alike = (curves["family"].astype(str) == question.family) & (abs(curves["n0"] / question.n0 - 1) <= 0.01)
    alike &= abs(curves["rate"] - question.rate) <= 0.005
    for name, value in (("l0", question.l0), ("l_pruned", question.l_pruned)):
        if name in curves and value is not None:
            alike &= abs(curves[name] - value) <= 0.01
    above = curves.loc[alike & (curves["loss"] > question.target), "tokens"]
    return float(above.max()) if len(above) else 0.0


def _notes(budget: Budget, fitted: Mixture, question: Question) -> list[str]:
    """What the figures alone do not say."""
    notes = [*sense_words(question), *_drift_words(budget, fitted, question)]
    if budget.tokens and budget.tokens - 1 == math.floor(too_little(fitted.curves, question)):
        notes.append(
            f"A run like this one was still above the goal after {budget.tokens - 1:,} tokens, where the laws "
            "expect it to be met earlier: so many are too few. `--pilot` answers from your own curve."
        )
    if budget.status is BudgetStatus.UNREACHABLE and budget.loss is not None:
        notes.append(_floor_words(question, budget.loss))
    if budget.at_most:
        notes.append(
            f"The goal is met at {budget.tokens:,} tokens, the fewest that any run measured: read it as at most."
        )
    if not fitted.has_interval:
        notes.append(f"{fitted.n_runs} runs are too few for an interval; {RUNS_FOR_AN_INTERVAL} are needed.")
    return notes


def _drift_words(budget: Budget, fitted: Mixture, question: Question) -> list[str]:
    """Said of a goal over l0 that only the bases' own progress meets, no number of tokens without it."""
    if budget.status is not BudgetStatus.REACHED or budget.tokens is None or (question.target or 0.0) < question.l0:
        return []
    still = fitted.resting()
    if (question.miss(still.predict, grid(fitted.range.tokens[0])) <= 0).any():
        return []
    at = question.columns(np.array([budget.tokens], dtype=float))
    won = float(still.predict(at)[0] - fitted.predict(at)[0])
    return [
        f"The goal lies below what pruning leaves at any number of tokens: it is met because the bases of these runs "
        f"were still improving, by {won:.3f} nats in {words.count(budget.tokens)} tokens. A base trained to its end "
        "needs more, or never meets it; a control, the unpruned base trained alike, shows what yours gains."
    ]


def _priced(budget: Budget, question: Question, gpu: str | None, price: float | None) -> Budget:
    if gpu is None or budget.tokens is None:
        return budget
    hours, cost = gpu_hours(
        budget.tokens, question.n0, question.rate, question.method, gpu, price, objective=budget.group["objective"]
    )
    return replace(budget, gpu_hours=hours, cost=cost)


def grid(fewest: float) -> Array:
    """Token counts that laws are asked about, from the fewest measured to `MOST_TOKENS`."""
    return np.geomspace(fewest, MOST_TOKENS, len(GRID))


def invert(
    fitted: Predicts, question: Question, at: Array = GRID, where: str = "budget"
) -> tuple[int | None, float, BudgetStatus]:
    """Tokens, loss there and status for fitted laws; without an answer below 1e13 tokens, the lowest loss.

    `at` are rising token counts, the first of them the least that is answered; `where` begins the errors.
    """
    if question.target is not None and question.l_pruned is not None and question.l_pruned <= question.target:
        return 0, question.l_pruned, BudgetStatus.ALREADY_MET
    met = np.flatnonzero(question.miss(fitted.predict, at) <= 0)
    if not len(met):
        losses = fitted.predict(question.columns(at))
        if np.isnan(losses).all():
            raise P2Error(f"{where}: the law gives no finite loss so far from these runs; try another.")
        return None, float(np.nanmin(losses)), BudgetStatus.UNREACHABLE
    i = int(met[0])
    tokens = float(at[i])
    if i and question.miss(fitted.predict, at[i : i + 1])[0] < 0:
        root = brentq(lambda d: float(question.miss(fitted.predict, np.array([d]))[0]), at[i - 1], tokens, rtol=1e-10)
        if (
            question.miss(fitted.predict, np.array([root]))[0] <= MET
        ):  # else so steep that only the grid's point meets it
            tokens = root
    return math.ceil(tokens), float(fitted.predict(question.columns(np.array([tokens])))[0]), BudgetStatus.REACHED


def intervals(fitted: Mixture, question: Question) -> list[Interval]:
    """The 80 and 95 % intervals of the tokens that one new run needs: where its band of losses meets the goal.

    The lower end is at least the fewest tokens measured, the upper end 1e13 where the band does not meet the goal
    below; None where no end does. A marginal gain is a difference within the run, so the run's own level does not
    widen it.
    """
    at = grid(fitted.range.tokens[0])
    coarse = at[::COARSE]
    band, center = miss_band(fitted, question, coarse), question.miss(fitted.predict, at)
    below, above = (np.interp(np.log(at), np.log(coarse), sd) for sd in (band.below, band.above))
    return [_crossed(at, *Band(center, below, above, band.freedom).ends(level)) for level in LEVELS]


def miss_band(fitted: Mixture, question: Question, tokens: Array) -> Band:
    """How far one new run is above the goal at token counts (n,)."""
    columns = question.columns(tokens)
    if question.target is not None:
        band = fitted.band(columns)
        return replace(band, center=band.center - question.target)
    band = fitted.gain_band(columns)
    return replace(band, center=band.center - (question.gain or GAIN))


def _crossed(at: Array, low: Array, high: Array) -> Interval:
    """Where the lower and the upper end of a band first meet zero."""
    first, last = np.flatnonzero(low <= 0), np.flatnonzero(high <= 0)
    if not len(first):
        return None
    return float(at[max(first[0] - 1, 0)]), float(at[last[0]]) if len(last) else MOST_TOKENS


def state_of(fitted: Mixture, question: Question, tokens: int | None, tokens_80: Interval) -> State:
    """Whether a question lies inside the data, beyond, or too far to be answered (distance.py has the rule)."""
    near = fitted.range.in_reach(question.n0, question.rate)
    if near and within_reach(fitted.range.tokens[1], tokens, tokens_80):
        return _axes(fitted, question, MOST_TOKENS if tokens is None else tokens)
    if tokens is None:
        return State.TOO_FAR
    (span,) = fitted.span(question.columns(np.array([tokens], dtype=float)))
    return State.BEYOND if span <= math.log(WIDEST) else State.TOO_FAR


def _axes(fitted: Mixture, question: Question, tokens: float | None) -> State:
    new = question.family not in fitted.range.families
    return State.BEYOND if new or fitted.range.ways(question.n0, question.rate, tokens) else State.INSIDE


def _floor_words(question: Question, floor: float) -> str:
    if question.target is None:
        return "Every doubling up to 1e13 tokens still wins more than that: the base model itself is still improving."
    return f"The floor is {floor:.4f} nats per token at 1e13 tokens, above the goal of {question.target:.4f}."


def _extrapolation(fitted: Mixture, question: Question, tokens: int | None) -> dict[str, float | bool]:
    """Factors beyond the measured range, 1 inside; an unreachable goal was looked for up to 1e13 tokens."""
    factors = fitted.range.factors(question.n0, question.rate, MOST_TOKENS if tokens is None else tokens)
    return factors | {"family": question.family not in fitted.range.families}
