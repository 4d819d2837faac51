"""Losses of a question that are none: perplexities, what no model of a vocabulary can be so bad at, and a model that
pruning made better."""

import math
from typing import TYPE_CHECKING

import pandas as pd

from leaderboard.errors import P2Error

if TYPE_CHECKING:
    from leaderboard.planning.budget import Question

USUAL = 5.0  # nats per token: a model worth pruning errs less, a perplexity is often more
FACTOR = 1.5  # times the largest loss before pruning that the logs hold


def check_losses(question: "Question", rows: pd.DataFrame, where: str = "budget") -> None:
    """Refuse an l0, l_pruned or target_loss in nats per token that is no loss beside run logs `rows`.

    Raises P2Error on an l0 or a target above `USUAL` and well above every l0 of the logs (a perplexity?), and on any
    loss above 1.5 ln(vocabulary), where pruned models are worse than chance; on an l_pruned below l0 and an excess
    below 0: what gets below the loss before pruning is training on the text, which a control shows.
    """
    if question.l_pruned is not None and question.l_pruned < question.l0:
        raise P2Error(
            f"{where}: l_pruned is {question.l_pruned:g}, below l0, {question.l0:g}; pruning does not improve a model. "
            "Measure both on the same text."
        )
    if question.excess is not None and question.excess < 0:
        raise P2Error(
            f"{where}: excess is {question.excess:g}; it must be 0 or more nats above l0. For a loss below that of the "
            "unpruned model give it as target_loss."
        )
    vocabulary = float(rows["vocab_size"].max()) if "vocab_size" in rows else math.nan
    largest = float(rows["l0"].max()) if "l0" in rows else math.nan
    known = FACTOR * largest if largest == largest else 0.0
    for name in ("l0", "target_loss", "l_pruned"):
        value = getattr(question, name)
        if value is None:
            continue
        if name != "l_pruned" and value > max(USUAL, known):
            raise P2Error(
                f"{where}: {name} is {value:g} nats per token; the largest l0 of these runs is {largest:.3g}. Is that "
                f"a perplexity? Its natural logarithm, {math.log(value):.2f}, is the loss."
            )
        if value > FACTOR * math.log(vocabulary):
            raise P2Error(
                f"{where}: {name} is {value:g} nats per token; to guess among {vocabulary:,.0f} tokens costs "
                f"{math.log(vocabulary):.2f}. Is that a perplexity? Its natural logarithm is {math.log(value):.2f}."
            )
