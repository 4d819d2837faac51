"""What the stations of a run share: the job as it was asked for, and the inputs that its first station reads."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from zoo.distributed import Team
from zoo.estimate.dry_run import Estimate
from zoo.inputs.base_model import Source
from zoo.inputs.gather import Materials
from zoo.preemption import Stop
from zoo.progress import stage
from zoo.pruning.plan import Plan
from zoo.pruning.ready import Ready
from zoo.recipe.spec import Recipe
from zoo.run.folder import RunFolder

_PROBE_ROWS = 2  # blocks that a saved model and the loaded one must agree on


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run under way in this process; `saved` hears of each complete checkpoint.

    `keep`: the last one stays when the run is finished, so that an extension goes on with its optimiser. A `pilot`
    stops after that many tokens, with a checkpoint.
    """

    recipe: Recipe
    estimate: Estimate
    folder: RunFolder
    team: Team
    stop: Stop
    console: Console
    saved: Callable[[], None]
    keep: bool = False
    pilot: int | None = None

    def say(self, message: str) -> None:
        """Tell the person who watches."""
        self.console.print(message, highlight=False, soft_wrap=True)

    def stage(self, words: str) -> AbstractContextManager[None]:
        """Tell what is under way; nothing is said inside it."""
        return stage(words, quiet=self.console.quiet)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The base model with its files here, how it is pruned, and everything to read; `ready`: pruned elsewhere."""

    source: Source
    ready: Source | None = None
    examined: Ready | None = None
    plan: Plan
    tokenizer: Any
    materials: Materials

    @property
    def probe(self) -> torch.Tensor:
        """Token ids, (rows, seq_len), on which a model that was saved must give the logits it gave before."""
        return torch.from_numpy(self.materials.heldout.ids[:_PROBE_ROWS].astype("int64"))
