"""Held-out loss by the source of the text: where a model lost and won, beside the one number of heldout.py.

A held-out parquet file, or a data set on the Hub, may have a column `source`. Every predicted token counts for the
source of its document, so the losses here, weighted by their tokens, give the held-out loss again; nothing of it enters
the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoo.evaluation.heldout import measuring, passes
from zoo.evaluation.next_token import IGNORE, as_inputs, nll_sum
from zoo.inputs.packing import Blocks, pack
from zoo.recipe.spec import Recipe

MOST = 20  # sources; more of them are no table
UNTOLD = "not told"
_EVERYTHING = 2**62


@dataclass(frozen=True)
class Sources:
    """`ids`, (blocks, seq_len), say which of `names` the token in the same place of the held-out blocks is from."""

    names: tuple[str, ...]
    ids: np.ndarray


def heldout_sources(recipe: Recipe, told: Sequence[str | None], lengths: Sequence[int]) -> Sources | None:
    """Sources of a recipe's held-out blocks, whose documents `told` these and have such `lengths` in tokens.

    None where the text does not tell them, or tells too many.
    """
    labels = [str(source or UNTOLD) for source in told]
    names = sorted(set(labels))
    if len(names) > MOST or names in ([], [UNTOLD]):
        return None
    like = ([names.index(label)] * length for label, length in zip(labels, lengths, strict=True))
    train = recipe.train
    blocks = pack(like, train.seq_len, train.packing, _EVERYTHING)  # packing looks at lengths only
    return Sources(tuple(names), blocks.spread(max(1, recipe.evaluate.tokens // train.seq_len)).ids)


def loss_by_source(model: Any, blocks: Blocks, told: Sources) -> dict[str, dict[str, float]]:
    """For each source its `loss`, nats per token, and `tokens`, those predicted; a source without any is left out."""
    sums, counts = np.zeros(len(told.names)), np.zeros(len(told.names), int)
    weight = model.get_output_embeddings().weight
    with measuring(model), torch.autocast(model.device.type, enabled=False):
        for part in passes(blocks):
            inputs = {name: tensor.to(model.device) for name, tensor in as_inputs(blocks, part).items()}
            labels = inputs.pop("labels")[:, 1:].flatten()
            hidden = model.get_decoder()(use_cache=False, **inputs).last_hidden_state[:, :-1].flatten(0, 1)
            source = torch.from_numpy(told.ids[part, 1:].astype("int64")).to(model.device).flatten()
            for i in range(len(told.names)):
                mine = (source == i) & (labels != IGNORE)
                counts[i] += int(mine.sum())
                sums[i] += float(nll_sum(hidden[mine], weight, labels[mine]))
    found = zip(told.names, sums, counts, strict=True)
    return {name: {"loss": float(total / n), "tokens": int(n)} for name, total, n in found if n}
