"""Tokens to a share of the base's score in a task, from published tables that have both.

Between two published budgets nothing is interpolated: a score of a task jumps, and the answer is the pair of budgets
between which the goal was first reached. A score is no function of the loss, so no law of losses enters here.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from leaderboard.errors import P2Error, unknown_name
from leaderboard.evidence.figures import load_evidence, load_sources

WARNING = (
    "The loss does not determine it: models of one loss differ by points in a task, and these are other models, texts "
    "and recipes than yours. Measure the task on your own model (p2zoo publish --tasks) before you decide."
)
TASKS = ("mmlu",)  # scores in % by tokens


@dataclass(frozen=True)
class Retained:
    """A published model and where it reached the goal: with at most `tokens`, and not with `short`, a row before.

    `tokens` is None where no row reached it; `goal` and the scores are in %; 0 `short` tokens are the pruned model.
    """

    model: str
    n0: float
    rate: float
    method: str
    score0: float
    score_pruned: float
    goal: float
    short: float | None
    tokens: float | None
    score: float
    where: str


def retained(task: str, share: float, scores: Any = None) -> list[Retained]:
    """For each published model with scores of `task` by tokens, nearest to the goal `share` of its base's score.

    `scores` is a table as `load_evidence` gives, by default that. Raises P2Error for an unknown task or no share.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS, "--task")
    if not (math.isfinite(share) and 0 < share <= 1):
        raise P2Error(f"--retain: got {share:g}, allowed is a share of the base's score in (0, 1], e.g. 0.95.")
    rows = load_evidence() if scores is None else scores
    rows = rows[(rows["unit"] == task) & rows["score0"].notna() & rows["score"].notna() & rows["tokens"].notna()]
    found = []
    for (source, model, _), curve in rows.groupby(["source", "model", "n_pruned"], sort=False):
        curve = curve.sort_values("tokens")
        first, goal = curve.iloc[0], share * float(curve["score0"].iloc[0])
        points = [(0.0, float(first["score_pruned"])), *zip(curve["tokens"], curve["score"], strict=True)]
        at = next((i for i, (_, score) in enumerate(points) if score >= goal), None)
        told = points[-1 if at is None else at]
        before = points[-1] if at is None else points[max(at - 1, 0)]
        found.append(
            Retained(
                model=str(model), n0=float(first["n0"]), rate=float(first["rate"]), method=str(first["method"]),
                score0=float(first["score0"]), score_pruned=points[0][1], goal=goal, short=float(before[0]),
                tokens=None if at is None else float(told[0]), score=float(told[1]),
                where=load_sources()[str(source)].where,
            )
        )  # fmt: skip
    return found


def as_dict(task: str, share: float, found: list[Retained]) -> dict[str, Any]:
    """JSON form, with the warning."""
    return {"task": task, "share": share, "published": [asdict(one) for one in found], "warning": WARNING}
