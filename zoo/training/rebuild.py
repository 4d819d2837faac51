"""Rebuilding an optimiser's moments for a run that goes on without them.

Adam divides the mean of past gradients by the root of their mean square. Both forget: with a beta of 0.95 what lies 60
steps back weighs 5 %. So the gradients of the last steps' text, at the weights as they are, give nearly the moments
that were there. The learning rate is 0 meanwhile: no weight moves, and no fresh text is used.
"""

import time
from typing import Any

from transformers import TrainerCallback

from zoo.evaluation.next_token import IGNORE, as_inputs
from zoo.inputs.packing import Blocks


class Rebuild(TrainerCallback):
    """Fills a new optimiser from `blocks`, whole steps of text, before the first step is trained."""

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, begun = self.trainer, time.perf_counter()
        groups = trainer.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = 0.0
        rows = trainer.spec.batch_tokens // trainer.spec.seq_len
        for first in range(0, len(self.blocks), rows):
            self._step(first, rows)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        trainer.losses.clear()
        trainer.aside_s += time.perf_counter() - begun

    def _step(self, first: int, rows: int) -> None:
        """The gradients of one step go into the moments."""
        trainer, team = self.trainer, self.trainer.team
        labels = as_inputs(self.blocks, slice(first, first + rows))["labels"]
        items = (labels[:, 1:] != IGNORE).sum().to(trainer.args.device)
        share = rows // team.size
        own = slice(first + share * team.rank, first + share * (team.rank + 1))
        trainer.training_step(trainer.model_wrapped, as_inputs(self.blocks, own), items)
        trainer.accelerator.clip_grad_norm_(trainer.model_wrapped.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.model_wrapped.zero_grad(set_to_none=True)
