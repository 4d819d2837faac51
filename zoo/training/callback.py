"""What happens between training steps: measure on the token grid, save on the token interval, stop on NaN.

Losses stay on the device until somebody must know them: an evaluation, a save, or LOOK_S seconds gone by. So a loss
that became NaN is seen a moment later, but always before anything is written, and told with its own step and data.

Resuming takes the latest checkpoint that is complete and sound (checkpoints.py) and drops log rows after it.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from leaderboard.errors import RunFailed
from zoo.distributed import ALONE, Team, local
from zoo.training.checkpoints import complete, make_room
from zoo.training.masks import MaskKeeper

LOOK_S = 1.0  # between two looks at the losses of the steps; each waits for the device


class Curve(TrainerCallback):
    """Writes the loss curve of one post-training and keeps its checkpoints.

    `tokens[step]` are tokens trained, `measure` gives the held-out loss, `beside` more columns of a step's row, `write`
    takes a finished row and `tick` the progress of a step. `masks` makes the keeper of a 2:4 model once the trainer has
    put it in place; `saved` hears of each complete checkpoint. After `stop` says so, or `until` tokens are `reached`,
    the step is saved and training ends; `stopped` then.
    """

    def __init__(
        self,
        *,
        tokens: np.ndarray,
        grid: list[int],
        checkpoint_tokens: int,
        measure: Callable[[], float],
        write: Callable[[dict[str, Any]], None],
        tick: Callable[[int, float, float], None],
        masks: Callable[[], MaskKeeper] | None,
        start: Mapping[str, Any],
        beside: Callable[[int], dict[str, Any]] = lambda step: {},
        saved: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        until: int | None = None,
        team: Team = ALONE,
    ):
        self.tokens, self.grid, self.every = tokens, set(grid), checkpoint_tokens
        self.measure, self.write, self.tick, self.make_masks = measure, write, tick, masks
        self.masks: MaskKeeper | None = None
        self.stop, self.team, self.stopped = stop, team, False
        self.until, self.reached = until, False
        self.beside = beside
        self.loss_sum, self.loss_steps = start["loss_sum"], start["loss_steps"]
        self.saved, self.train_s = start["tokens"], start["train_s"]
        self.tell = saved
        self.trainer: Any = None
        self.clock = self.looked = 0.0
        self.seen = math.nan  # loss of the last step that was looked at
        self.lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.make_masks is not None:
            self.masks = self.make_masks()
        self.clock = self.looked = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.lr = float(self.trainer.optimizer.param_groups[0]["lr"])

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.masks is not None:
            self.masks.reapply()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, tokens = state.global_step, int(self.tokens[state.global_step])
        last = step == len(self.tokens) - 1
        self.reached = self.until is not None and tokens >= self.until
        self.stopped = not last and (self.team.any(self.stop()) or self.reached)
        measure, save = (
            step in self.grid or last or self.reached,
            last or self.stopped or tokens - self.saved >= self.every,
        )
        if measure or save or time.perf_counter() - self.looked >= LOOK_S:
            self._look()
        if measure or save:
            self.loss_sum = self.team.total(self.loss_sum)[0] / self.team.size
        self._stop_clock()
        self.tick(tokens, self.seen, self.train_s)
        if measure:
            self._measure(step, tokens)
        if save:
            self._check_weights(step)
            if self.team.rank == 0:
                make_room(Path(args.output_dir))
            self.saved, control.should_save, control.should_training_stop = tokens, True, last or self.stopped
        self.clock = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        marker = {
            "step": state.global_step,
            "tokens": int(self.tokens[state.global_step]),
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "train_s": self.train_s,
            "processes": self.team.size if self.team.launched else None,
        }
        self.team.wait()  # until every process has written its part
        if self.team.rank == 0:
            complete(folder, marker)
            self.tell()
        self.clock = time.perf_counter()

    def _look(self) -> None:
        """Fetch the losses of the steps since the last look, and stop at the first that is no number."""
        for done in self.trainer.losses:
            parts = done.parts.tolist()
            bad = next((number for number, part in enumerate(parts) if not math.isfinite(part)), None)
            if bad is not None:
                turn = done.step * self.team.size + self.team.rank
                first = turn * self.trainer.args.per_device_train_batch_size + bad * done.micro_batch
                raise self._diverged("training loss", parts[bad], done.step, (first, first + done.micro_batch - 1))
            self.seen = sum(parts)
            self.loss_sum += self.seen
            self.loss_steps += 1
        self.trainer.losses.clear()
        self.looked = time.perf_counter()

    def _measure(self, step: int, tokens: int) -> None:
        loss = self.measure()
        if not math.isfinite(loss):
            raise self._diverged("held-out loss", loss, step)
        self.write(
            {
                "tokens": tokens,
                "loss": loss,
                "train_loss": self.loss_sum / self.loss_steps,
                "lr": self.lr,
                "wall_s": round(self.train_s, 3),
                **self.beside(step),
            }
        )
        self.loss_sum, self.loss_steps = 0.0, 0

    def _check_weights(self, step: int) -> None:
        """Nothing broken is ever saved: finite weights, and the 2:4 pattern where there is one."""
        if self.masks is not None:
            self.masks.check()
        with torch.no_grad():
            if not all(bool(torch.isfinite(local(p)).all()) for p in self.trainer.model.parameters()):
                raise self._diverged("a weight", math.nan, step)

    def _stop_clock(self) -> None:
        """Add training time; evaluations and saves are not in it."""
        now = time.perf_counter()
        self.train_s += now - self.clock - self.trainer.aside_s
        self.clock, self.trainer.aside_s = now, 0.0

    def _diverged(self, what: str, value: float, step: int, rows: tuple[int, int] | None = None) -> RunFailed:
        kept = (
            f"the last good checkpoint, at {self.saved:,} tokens, is kept"
            if self.saved
            else "no checkpoint was due yet"
        )
        data = f", on blocks {rows[0]:,} to {rows[1]:,} of the training data" if rows else ""
        return RunFailed(
            f"post-training: {what} became {value} at step {step:,} ({int(self.tokens[step]):,} tokens){data}; {kept}. "
            "Lower train.lr_peak or lengthen train.warmup_tokens."
        )
