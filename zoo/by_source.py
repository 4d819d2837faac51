"""Held-out loss by the source of the text: where a model lost and won, beside the one number of heldout.py.

A held-out parquet file may have a column `source`. Every predicted token counts for the source of its document, so
the losses here, weighted by their tokens, give the held-out loss again; nothing of it enters the log.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoo.lm_loss import IGNORE, as_inputs, nll_sum
from zoo.packing import Blocks, pack
from zoo.recipe import Recipe
from zoo.text import documents, sources, tokenize

MOST = 20  # sources; more of them are no table
_TOKENS = 8_192  # in one forward pass
_EVERYTHING = 2**62


@dataclass(frozen=True)
class Sources:
    """`ids`, (blocks, seq_len), say which of `names` the token in the same place of the held-out blocks is from."""

    names: tuple[str, ...]
    ids: np.ndarray


def heldout_sources(recipe: Recipe, tokenizer: Any) -> Sources | None:
    """Sources of a recipe's held-out blocks; None where the text does not tell them, or tells too many."""
    labels = sources(recipe.data.heldout, recipe.folder)
    names = sorted(set(labels or ()))
    if labels is None or not 0 < len(names) <= MOST:
        return None
    texts = documents(recipe.data.heldout, recipe.folder, "data.heldout")
    lengths = (len(ids) for ids in tokenize(texts, tokenizer))
    like = ([names.index(label)] * length for label, length in zip(labels, lengths, strict=True))
    train = recipe.train
    blocks = pack(like, train.seq_len, train.packing, _EVERYTHING)  # packing looks at lengths only
    return Sources(tuple(names), blocks.spread(max(1, recipe.evaluate.tokens // train.seq_len)).ids)


def loss_by_source(model: Any, blocks: Blocks, told: Sources) -> dict[str, dict[str, float]]:
    """For each source its `loss`, nats per token, and `tokens`, those predicted; a source without any is left out."""
    was_training = model.training
    model.eval()
    sums, counts = np.zeros(len(told.names)), np.zeros(len(told.names), int)
    rows = max(1, _TOKENS // blocks.ids.shape[1])
    weight = model.get_output_embeddings().weight
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        for start in range(0, len(blocks), rows):
            part = slice(start, start + rows)
            inputs = {name: tensor.to(model.device) for name, tensor in as_inputs(blocks, part).items()}
            labels = inputs.pop("labels")[:, 1:].flatten()
            hidden = model.get_decoder()(use_cache=False, **inputs).last_hidden_state[:, :-1].flatten(0, 1)
            source = torch.from_numpy(told.ids[part, 1:].astype("int64")).to(model.device).flatten()
            for i in range(len(told.names)):
                mine = (source == i) & (labels != IGNORE)
                counts[i] += int(mine.sum())
                sums[i] += float(nll_sum(hidden[mine], weight, labels[mine]))
    model.train(was_training)
    found = zip(told.names, sums, counts, strict=True)
    return {name: {"loss": float(total / n), "tokens": int(n)} for name, total, n in found if n}
