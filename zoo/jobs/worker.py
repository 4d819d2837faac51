"""What `p2zoo run --state ME/REPO` does, in a Hugging Face Job or on any machine that may be taken away.

Restore, run, publish, clean up. Each complete checkpoint goes to the state repository; started again there, or anywhere
else, the same command goes on from the last one. Publishing is left to `zoo.publish.publish`, which does nothing twice.
All GPUs of the machine are put to work by torchrun, as FSDP2.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from zoo.distributed import launched, relaunch
from zoo.endpoint import hub
from zoo.inputs.base_model import describe
from zoo.jobs.backup import Backup
from zoo.publish.licences import licence_of
from zoo.publish.publish import plan, publish
from zoo.recipe.spec import Recipe
from zoo.run.pipeline import run


def work(
    recipe: Recipe,
    out: Path,
    state: str,
    to: str | None = None,
    logs: str | None = None,
    licence: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run a recipe in `out` with its checkpoints in the repository `state`; published to the namespace `to`, if any.

    Returns run_id, loss and what was published, in the first of several processes; else nothing. Raises as `run` and
    `publish` do; what could not be published is refused before the training.
    """
    console = console or Console()
    if to:
        source = describe(recipe.model, recipe.folder)
        licence_of(recipe.model.label, source.revision if source else recipe.model.revision, licence)
    api, say = hub(None), partial(console.print, highlight=False, soft_wrap=True, markup=False)
    backup = Backup(api, state, say)
    first = os.environ.get("RANK", "0") == "0"
    published = backup.restore(out) if first else None
    if published is not None:
        say(f"job: {state}: this run is over; nothing to do.")
        return published
    if not launched() and (gpus := torch.cuda.device_count()) > 1:
        relaunch(gpus, ["-m", "zoo", *sys.argv[1:]])
    try:
        finished = run(recipe, out, resume=True, console=console, saved=lambda: backup.save(out))
    finally:
        backup.wait()
    if not first:
        return {}
    done: dict[str, Any] = {"run_id": finished["run_id"], "loss": finished["loss"]}
    if to:
        done |= publish(api, plan(out, to, logs, licence=licence)).as_dict()
    backup.finish(out, done)
    return done
