"""The recipe behind an answer: how the runs that it comes from were trained, and in what they differ.

Schedules and peak rates part no groups, so that every answer says which ones it rests on. Of a learning rate that
decays only the end of a finished run enters a fit (`usable`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from leaderboard.logs.contract import STEADY, is_steady
from leaderboard.logs.methods import CONTROL

Recipe = dict[str, Any]  # RECIPE keys; None where the logs do not say
RECIPE = {
    "schedule": "schedule", "peak_rate": "lr_peak", "batch": "batch_tokens", "precision": "precision",
    "text": "eval_data", "objective": "objective", "vocabulary": "vocab_size",
}  # fmt: skip
APART = {"schedule": "schedule", "lr_peak": "peak rate", "batch_tokens": "batch", "precision": "precision"}


def usual_recipe(rows: pd.DataFrame) -> Recipe:
    """How most of the pruned runs were trained."""
    heads = _heads(rows)
    names = {key: c for key, c in RECIPE.items() if c in heads and heads[c].notna().any()}
    usual = {key: heads[c].dropna().astype(object).value_counts().index[0] for key, c in names.items()}
    return dict.fromkeys(RECIPE) | {key: _plain(value) for key, value in usual.items()}


def recipe_of(known: Callable[[str], Any]) -> Recipe:
    """How one run is trained; `known` gives a value by its column, or None."""
    return {key: _plain(known(column)) for key, column in RECIPE.items()}


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """A recipe in words; what is not known is not said."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in recipe.items() if value is not None)


def recipe_differences(rows: pd.DataFrame) -> list[str]:
    """What to say of runs that were not all trained alike, a sentence each."""
    heads, said = _heads(rows), []
    for column, name in APART.items():
        counts = heads[column].dropna().astype(object).value_counts() if column in heads else pd.Series(dtype=int)
        if len(counts) > 1:
            ways = ", ".join(f"{_plain(value)} ({runs})" for value, runs in counts.items())
            said.append(f"The runs behind this differ in {name}: {ways}. They share a fit; read it with that in mind.")
    moving = int((~is_steady(heads["schedule"])).sum()) if "schedule" in heads else 0
    if moving:
        said.append(
            f"Of {moving} of {len(heads)} runs the learning rate is not {STEADY}: only the end of their whole budget "
            "counts, as rows on the way are not where a shorter run would end."
        )
    return said


def _heads(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a pruned run; of controls where there is no other."""
    heads = rows.drop_duplicates("run_id")
    pruned = heads[heads["method"].astype(str) != CONTROL] if "method" in heads else heads
    return pruned if len(pruned) else heads


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
