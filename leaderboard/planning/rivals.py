"""Other ways to the deployed size of a planned run: which are worth a look, and what each costs."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.planning.bases import Base
from leaderboard.planning.budget import Question
from leaderboard.planning.gpus import gpu_hours
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.outlook import losses_at
from leaderboard.planning.plan import LEVEL, UNPRUNED

LEAST = 0.25  # of the deployed size: what is smaller is no rival
OWN = "your model"
SAME = 1e-3  # nats: a loss this near another is that loss, rounded
MOST = 8  # times the deployed size: what is larger is not pruned to that


def deployed_size(question: Question) -> float:
    """Parameters that are left, zeroed ones not counted."""
    return question.n0 * (1 - question.rate)


def near_bases(bases: Iterable[Base], question: Question, name: str = "") -> list[Base]:
    """Bases of the question's family with a known loss, from a quarter to eight times the deployed size.

    The base called `name` is the question's own: its loss is the one that the question gives.
    """
    size = deployed_size(question)
    own = [_asked(base, question) if base.name == name else base for base in bases]
    return [b for b in own if b.family == question.family and b.l0 is not None and LEAST <= b.n0 / size <= MOST]


def _asked(base: Base, question: Question) -> Base:
    """The base with the question's loss; a loss that only repeats the one read off stays read off."""
    same = base.l0 is not None and abs(base.l0 - question.l0) < SAME
    return base if same else replace(base, l0=question.l0, interpolated=False)


def with_own(rows: pd.DataFrame, question: Question, fitted: Mixture, tokens: float, own: Base | None) -> pd.DataFrame:
    """The rows of a plan (plan.py) with the question's own way as `fitted` answers it: the number of the budget."""
    name = OWN if own is None else own.name
    (said,) = losses_at(fitted, question, [tokens], LEVEL).to_dict("records")
    factors = fitted.range.factors(question.n0, question.rate, tokens)
    far = {f"beyond_{axis}": factor for axis, factor in factors.items()}
    off = own is not None and own.interpolated and own.l0 is not None and abs(own.l0 - question.l0) < SAME
    row: dict[str, Any] = {
        "base_model": name, "family": question.family, "method": question.method, "rate": question.rate,
        "parameters": round(deployed_size(question)), "tokens": int(tokens), "loss": said["loss"],
        "loss_low": said["low"], "loss_high": said["high"], "state": str(said["state"]), "beyond": max(far.values()),
        **far, "l0": question.l0, "l0_from": "power law" if off else "measured", "law": fitted.law,
        "runs": fitted.n_runs, "note": "",
    }  # fmt: skip
    others = rows[(rows["base_model"] != name) | (rows["method"] != question.method)]
    every: pd.DataFrame = pd.DataFrame([row, *others.to_dict("records")], columns=rows.columns)
    return every.sort_values(["loss", "base_model", "method"], ignore_index=True)


def priced(rows: pd.DataFrame, question: Question, gpu: str | None = None, price: float | None = None) -> pd.DataFrame:
    """The rows of a plan (plan.py) that have a predicted loss and a quarter of the deployed size or more, with columns
    `gpu_hours` and `cost` in US dollars: NaN where nothing is trained or no GPU is named.
    """
    rows = rows[rows["loss"].notna() & (rows["parameters"] >= LEAST * deployed_size(question))]
    spent = [_spent(row, gpu, price) for _, row in rows.iterrows()]
    return rows.assign(gpu_hours=[hours for hours, _ in spent], cost=[cost for _, cost in spent])


def _spent(row: "pd.Series", gpu: str | None, price: float | None) -> tuple[float, float]:
    if gpu is None or row["method"] == UNPRUNED:
        return np.nan, np.nan
    n0 = row["parameters"] / (1 - row["rate"])
    return gpu_hours(row["tokens"], n0, row["rate"], row["method"], gpu, price)
