"""A pilot: just the beginning of a recipe, to forecast from; `--resume` goes on with it.

It is the recipe's own run, with its schedule and text, that stops early: nothing of it is lost. It is measured more
often than the recipe says, and those rows stay in the log.
"""

import math

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.planning.forecasting.forecast import LEAST_ROWS
from zoo.recipe.grid import log_spaced
from zoo.recipe.spec import Recipe, TrainSpec

ROWS = 10  # evaluations of a pilot after the warm-up, where it has as many steps
ENOUGH = LEAST_ROWS + 1


def pilot_tokens(recipe: Recipe, wanted: float, text: str) -> int:
    """Tokens of a pilot of about `wanted`, written as `text`: whole steps, and enough of them to forecast from.

    Raises P2Error for the whole recipe or more, and for one that is too short for a pilot.
    """
    train = recipe.train
    if not 0 < wanted < float("inf"):
        raise P2Error(f"--pilot: got {text}, allowed is a share of the budget or a count of tokens, e.g. 2% or 10M.")
    least = _warm(train) + ENOUGH
    steps = max(math.ceil(wanted / train.batch_tokens), least)
    if wanted >= train.planned_tokens:
        raise P2Error(f"--pilot: {text} is the whole recipe ({train.planned_tokens:,} tokens); leave it out.")
    if steps >= train.steps:
        raise P2Error(
            f"--pilot: this recipe has {train.steps:,} steps, {_warm(train):,} of them warm-up, too few to forecast "
            f"from a part: {least + 1:,} are the least. Leave it out."
        )
    return steps * train.batch_tokens


def pilot_steps(recipe: Recipe, tokens: int) -> list[int]:
    """Steps after which a pilot of so many tokens is measured, besides the recipe's."""
    first = _warm(recipe.train) + 1
    return log_spaced(first, max(first, tokens // recipe.train.batch_tokens), ROWS)


def pilot_line(recipe: Recipe, tokens: int) -> str:
    """What a pilot does, for people."""
    train = recipe.train
    steps, least = tokens // train.batch_tokens, _warm(train) + ENOUGH
    few = f", as few as a forecast takes after {_warm(train):,} of warm-up" if steps == least else ""
    return (
        f"stops after {tokens:,} of {train.planned_tokens:,} tokens ({words.share(tokens / train.planned_tokens)}; "
        f"{steps:,} steps{few}) and forecasts; --resume goes on"
    )


def _warm(train: TrainSpec) -> int:
    """Steps of the warm-up, whose rows enter no forecast."""
    return -(-train.warmup_tokens // train.batch_tokens)
