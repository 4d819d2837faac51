"""Where training leaves a pruned model of a real size, from recoveries published for others: a loss and its interval.

Losses are nats a token, tokens counts, rate the share of all parameters removed or zeroed. The law and its fit are in
recovery_law.py. An interval holds the scatter between models left out, what is not known of an input that was not
measured, and judged allowances where nothing was published: they are the constants below. No run log enters.
"""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.special import stdtrit

from leaderboard.errors import P2Error, unknown_name
from leaderboard.evidence.recovery_law import D0, RecoveryLaw, Table, fitted

METHODS = ("depth", "width", "2:4")
LARGEST_LOSS = 30.0  # nats a token; a uniform guess over a vocabulary of 250,000 has 12.4

# Judged, not measured: no two published recoveries differ in this alone. Standard deviations of ln excess.
DECAY_SD = 0.15  # of k, for each e-fold of tokens away from the table that an answer stands on
EARLY_SD = 0.15  # and as much again for each e-fold below D0
OUTSIDE_SD = 0.15  # for each e-fold of size, damage or odds outside the published ones
STANDS_IN = "No loss is published for width: depth stands in."
WIDTH_SD = 0.3  # for width, where no loss is published and depth stands in
WIDTH_DAMAGE_SD = 0.5  # of ln damage, for a width cut whose loss was not measured

NEIGHBOURS = 10  # published cuts that are asked whether a cut like this heals
STEPS = (2.0, 2.0, 4.0)  # a factor in damage, odds and size that counts as one step away from it


@dataclass(frozen=True)
class Question:
    """A pruned model and its training, as `recovery` takes them. P2Error for numbers that no pruned model has."""

    method: str
    rate: float
    n0: float
    l0: float
    tokens: float
    l_pruned: float | None = None
    l0_control: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("pruning method", self.method, METHODS, "recovery")
        if not _between(self.rate, 0, 1):
            raise P2Error(
                f"recovery: rate is {self.rate}; it must be between 0 and 1, e.g. 0.25 for a quarter removed."
            )
        for name, value in (("n0", self.n0), ("tokens", self.tokens)):
            if not _between(value, 0, math.inf):
                raise P2Error(f"recovery: {name} is {value}; it must be a count above 0, e.g. 1e9.")
        for name, loss in (("l0", self.l0), ("l_pruned", self.l_pruned), ("l0_control", self.l0_control)):
            if (loss is not None or name == "l0") and not _between(loss, 0, LARGEST_LOSS):
                raise P2Error(f"recovery: {name} is {loss}; it must be a loss in nats per token, e.g. 2.31.")
        if self.l_pruned is not None and self.l_pruned <= self.l0:
            raise P2Error(
                f"recovery: l_pruned is {self.l_pruned} and l0 {self.l0}; a pruned model starts above its base. "
                "Measure both on one text before any training."
            )
        if self.l_pruned is not None and self.l0_control is not None and self.l0_control >= self.l_pruned:
            raise P2Error(
                f"recovery: l0_control is {self.l0_control} and l_pruned {self.l_pruned}; the unpruned model trained "
                "the same way ends below the pruned one before training. Leave it out if it was not measured."
            )

    @property
    def odds(self) -> float:
        """Parameters removed for each one kept."""
        return self.rate / (1 - self.rate)


def _between(value: object, low: float, high: float) -> bool:
    return isinstance(value, Real) and low < float(value) < high


@dataclass(frozen=True)
class Recovery:
    """The expected loss of a recovery like the published ones. `source` says from what, `note` what to beware of.

    Losses and `excess` (over `l0_control`) in nats; `l0_control` and `l_pruned` are expected values where they were not
    given. Of the `similar` published cuts nearest in damage, rate and size, `failed` did not heal.
    """

    loss: float
    excess: float
    l0_control: float
    l_pruned: float
    sd: float  # of ln excess
    control_sd: float  # of l0_control, nats
    ceiling: float  # l_pruned where it was measured: training that heals ends below
    degrees: int  # of freedom: models behind the answer, less one
    failed: int
    similar: int
    source: str
    note: str

    def interval(self, level: float = 0.8) -> tuple[float, float]:
        """(low, high) of the loss of one such recovery, for a level between 0 and 1.

        Where more of the similar cuts failed than the level leaves above, the upper end is at least l_pruned.
        """
        if not 0 < level < 1:
            raise P2Error(f"recovery: level is {level}; it must be between 0 and 1, e.g. 0.8.")
        beside = (1 - level) / 2
        reach = float(stdtrit(self.degrees, 1 - beside))
        drift = reach * self.control_sd
        down = math.hypot(self.excess * -math.expm1(-reach * self.sd), drift)
        up = math.hypot(self.excess * math.expm1(min(reach * self.sd, 50.0)), drift)
        high = min(self.loss + up, max(self.ceiling, self.loss) + drift)
        failing = self.failed > round(self.similar * beside, 6)
        return max(self.loss - down, 0.0), max(high, self.l_pruned) if failing else high


def recovery(
    *,
    method: str,
    rate: float,
    n0: float,
    l0: float,
    tokens: float,
    l_pruned: float | None = None,
    l0_control: float | None = None,
) -> Recovery:
    """The loss of a pruned model after training on `tokens`, if it recovers like the published ones.

    `l0` and `l_pruned` are the base's and the pruned model's loss on one text, `l0_control` that of the unpruned model
    trained the same way. Without `l_pruned` the damage comes from the rate; without `l0_control` it is l0 with the
    drift of the published controls. Both make the interval wider. Raises P2Error for numbers no pruned model has.
    """
    return predict(fitted(), Question(method, rate, n0, l0, tokens, l_pruned, l0_control))


def predict(law: RecoveryLaw, question: Question) -> Recovery:
    """`recovery` by a law that was fitted to chosen rows."""
    table = _table(law, question.method)
    damage, damage_sd = _damage(table, question)
    control = question.l0 * math.exp(law.drift) if question.l0_control is None else question.l0_control
    excess, low, high = law.excess(
        damage * np.exp([0.0, -damage_sd, damage_sd]), np.full(3, question.odds), np.full(3, question.tokens)
    ).tolist()
    outside = {
        name: folds
        for name, value in {"n0": question.n0, "damage": damage, "odds": question.odds}.items()
        if (folds := _folds_outside(value, table.ranges[name])) > 0
    }
    parts = (
        table.sd,
        DECAY_SD * abs(math.log(question.tokens / table.tokens)) + EARLY_SD * max(math.log(D0 / question.tokens), 0.0),
        OUTSIDE_SD * sum(outside.values()),
        WIDTH_SD * (question.method == "width"),
        math.log(high / low) / 2,
    )
    failed, similar = _failures(table, damage, question)
    return Recovery(
        loss=control + excess,
        excess=excess,
        l0_control=control,
        l_pruned=question.l0 + damage,
        sd=math.hypot(*parts),
        control_sd=law.drift_sd * question.l0 if question.l0_control is None else 0.0,
        ceiling=question.l0 + damage if question.l_pruned is not None else math.inf,
        degrees=table.models - 1,
        failed=failed,
        similar=similar,
        source=_source(table, question),
        note=_note(table, question, list(outside), failed, similar),
    )


def _table(law: RecoveryLaw, method: str) -> Table:
    (table,) = [table for table in law.tables if table.name == ("2:4" if method == "2:4" else "depth")]
    return table


def _damage(table: Table, question: Question) -> tuple[float, float]:
    """Damage in nats, and the standard deviation of its ln."""
    if question.l_pruned is not None:
        return question.l_pruned - question.l0, 0.0
    damage = math.exp(table.damage_level + table.damage_slope * math.log(question.odds))
    return damage, math.hypot(table.damage_sd, WIDTH_DAMAGE_SD * (question.method == "width"))


def _folds_outside(value: float, limits: tuple[float, float]) -> float:
    """e-folds by which a value lies outside of limits; 0 inside."""
    return max(math.log(limits[0] / value), math.log(value / limits[1]), 0.0)


def _failures(table: Table, damage: float, question: Question) -> tuple[int, int]:
    """How many of the table's cuts nearest to this one did not heal, and of how many."""
    cuts = np.array(table.cuts, float)
    given = np.array([damage, question.odds, question.n0])
    steps = np.square(np.log(cuts[:, :3] / given) / np.log(STEPS)).sum(axis=1)
    near = np.argsort(steps, kind="stable")[:NEIGHBOURS]
    return int((cuts[near, 3] == 0).sum()), len(near)


def _source(table: Table, question: Question) -> str:
    """What the answer stands on, in one sentence."""
    what = f"{table.models} published models pruned {'to 2:4' if table.name == '2:4' else 'by depth'}"
    parts = [f"From {what} and trained on {table.tokens / 1e6:,.4g} M tokens"]
    if question.l_pruned is None:
        parts.append("with the damage taken from the rate")
    if question.l0_control is None:
        parts.append("with the control predicted from l0")
    return ", ".join(parts) + "."


def _note(table: Table, question: Question, outside: list[str], failed: int, similar: int) -> str:
    """What to beware of, in sentences; empty where nothing stands out."""
    notes = []
    if failed:
        notes.append(f"{failed} of the {similar} most similar published cuts did not heal.")
    if question.method == "width":
        notes.append(STANDS_IN)
    if not 0.5 <= question.tokens / table.tokens <= 2:
        notes.append(
            f"Tokens are {question.tokens / table.tokens:,.3g} times those of the table; the decay between is a guess."
        )
    names = {"n0": "size", "damage": "damage", "odds": "rate"}
    if outside:
        notes.append(f"Outside the published range: {', '.join(names[name] for name in outside)}.")
    return " ".join(notes)
