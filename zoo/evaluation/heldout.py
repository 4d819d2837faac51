"""Held-out loss: the one function behind l0, l_pruned and every later loss of a run.

Same blocks, same arithmetic (the dtype of the weights, no autocast, sdpa attention, nothing compiled), nats
per predicted token: the sum over all of them divided by their number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from zoo.distributed import Team
from zoo.evaluation.next_token import IGNORE, as_inputs, bend_of, next_token_nll, nll_sum
from zoo.inputs.gather import Sources
from zoo.inputs.packing import Blocks
from zoo.models.attention import plain

_TOKENS = 8_192  # in one forward pass


def heldout_loss(model: Any, blocks: Blocks, team: Team | None = None) -> float:
    """Mean next-token loss of `model` over `blocks`, in nats per token. Leaves the model as it was.

    `team`: the processes that hold a shard of the model each; each measures its share of the blocks, all get the sum.
    """
    if team is not None and team.launched:
        return _sharded(model, blocks, team)
    total, count = torch.zeros((), dtype=torch.float64, device=model.device), 0
    with measuring(model), torch.autocast(model.device.type, enabled=False):
        for part in passes(blocks):
            inputs: dict[str, Any] = as_inputs(blocks, part)
            count += int((inputs["labels"][:, 1:] != IGNORE).sum())
            total += next_token_nll(model, **{k: v.to(model.device) for k, v in inputs.items()})
    return float(total) / count


@contextmanager
def measuring(model: Any) -> Iterator[None]:
    """The model as losses are measured with it; afterwards it is as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), plain(model):
            yield
    finally:
        model.train(was_training)


def passes(blocks: Blocks) -> list[slice]:
    """The blocks of each forward pass."""
    rows = _rows(blocks)
    return [slice(start, start + rows) for start in range(0, len(blocks), rows)]


def _rows(blocks: Blocks) -> int:
    return max(1, _TOKENS // blocks.ids.shape[1])


def _sharded(model: Any, blocks: Blocks, team: Team) -> float:
    """The same by several processes. All pass through the model equally often; those without blocks count nothing."""
    rows = min(_rows(blocks), -(-len(blocks) // team.size))
    total, count = torch.zeros((), dtype=torch.float64, device=model.device), 0
    with measuring(model):
        for start in range(0, len(blocks), rows * team.size):
            own = slice(start + rows * team.rank, start + rows * (team.rank + 1))
            counted = own.start < len(blocks)
            inputs: dict[str, Any] = as_inputs(blocks, own if counted else slice(0, 1))
            nll = model(**{k: v.to(model.device) for k, v in inputs.items()}, exact=True)["loss"]
            if counted:
                total += nll
                count += int((inputs["labels"][:, 1:] != IGNORE).sum())
    summed, tokens = team.total(float(total), count)
    return summed / tokens


def loss_by_source(model: Any, blocks: Blocks, sources: Sources) -> dict[str, dict[str, float]]:
    """For each source its `loss`, nats per token, and `tokens`, those predicted; a source without any is left out.

    Weighted by their tokens they give the held-out loss again; nothing of it enters the log.
    """
    sums, counts = np.zeros(len(sources.names)), np.zeros(len(sources.names), int)
    weight, bend = model.get_output_embeddings().weight, bend_of(model)
    with measuring(model), torch.autocast(model.device.type, enabled=False):
        for part in passes(blocks):
            inputs = {name: tensor.to(model.device) for name, tensor in as_inputs(blocks, part).items()}
            labels = inputs.pop("labels")[:, 1:].flatten()
            hidden = model.get_decoder()(use_cache=False, **inputs).last_hidden_state[:, :-1].flatten(0, 1)
            source = torch.from_numpy(sources.ids[part, 1:].astype("int64")).to(model.device).flatten()
            for i in range(len(sources.names)):
                mine = (source == i) & (labels != IGNORE)
                counts[i] += int(mine.sum())
                sums[i] += float(nll_sum(hidden[mine], weight, labels[mine], bend=bend))
    sums_by_name = zip(sources.names, sums, counts, strict=True)
    return {name: {"loss": float(total / n), "tokens": int(n)} for name, total, n in sums_by_name if n}
