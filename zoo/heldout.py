"""Held-out loss: the one function behind l0, l_pruned and every later loss of a run.

Same blocks, same arithmetic (the dtype of the weights, no autocast, sdpa attention, nothing compiled), nats
per predicted token: the sum over all of them divided by their number.
"""

from typing import Any

import torch

from zoo.execution import plain
from zoo.lm_loss import IGNORE, as_inputs, next_token_nll
from zoo.packing import Blocks
from zoo.team import Team

_TOKENS = 8_192  # in one forward pass


def heldout_loss(model: Any, blocks: Blocks, team: Team | None = None) -> float:
    """Mean next-token loss of `model` over `blocks`, in nats per token. Leaves the model as it was.

    `team`: the processes that hold a shard of the model each; each measures its share of the blocks, all get the sum.
    """
    was_training = model.training
    model.eval()
    total, count = torch.zeros((), dtype=torch.float64, device=model.device), 0
    rows = max(1, _TOKENS // blocks.ids.shape[1])
    if team is not None and team.launched:
        rows = min(rows, -(-len(blocks) // team.size))
        return _sharded(model, blocks, team, rows, was_training)
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False), plain(model):
        for start in range(0, len(blocks), rows):
            inputs: dict[str, Any] = as_inputs(blocks, slice(start, start + rows))
            count += int((inputs["labels"][:, 1:] != IGNORE).sum())
            total += next_token_nll(model, **{k: v.to(model.device) for k, v in inputs.items()})
    model.train(was_training)
    return float(total) / count


def _sharded(model: Any, blocks: Blocks, team: Team, rows: int, was_training: bool) -> float:
    """The same by several processes. All pass through the model equally often; those without blocks count nothing."""
    total, count = torch.zeros((), dtype=torch.float64, device=model.device), 0
    with torch.no_grad(), plain(model):
        for start in range(0, len(blocks), rows * team.size):
            own = slice(start + rows * team.rank, start + rows * (team.rank + 1))
            counted = own.start < len(blocks)
            inputs: dict[str, Any] = as_inputs(blocks, own if counted else slice(0, 1))
            nll = model(**{k: v.to(model.device) for k, v in inputs.items()}, exact=True)["loss"]
            if counted:
                total += nll
                count += int((inputs["labels"][:, 1:] != IGNORE).sum())
    model.train(was_training)
    summed, tokens = team.total(float(total), count)
    return summed / tokens
