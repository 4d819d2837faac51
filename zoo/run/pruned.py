"""The second station: measure the base model, prune it, load it back in a fresh process, measure it again."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leaderboard.logs.methods import CONTROL
from zoo.evaluation.heldout import heldout_loss, loss_by_source
from zoo.evaluation.yardstick import Yardstick
from zoo.files import new_folder
from zoo.inputs import base_model
from zoo.inputs.gather import Materials
from zoo.pruning.prune import prune
from zoo.run.gate import gate
from zoo.run.job import Inputs, Job


def prune_base(job: Job, inputs: Inputs) -> Any:
    """The pruned model, saved; l0, l_pruned and what was removed go to run.json."""
    recipe, source, heldout = job.recipe, inputs.source, inputs.materials.heldout
    pruning = recipe.prune.method != CONTROL
    assert source.folder is not None
    with job.stage("loading the model and measuring its held-out loss"):
        model = base_model.load_model(source.folder, recipe.train.precision)
        l0 = heldout_loss(model, heldout)
        l0_by_source = by_source(model, inputs.materials)
        yardstick = Yardstick.of(inputs.tokenizer)
        yardstick_l0 = yardstick.loss(model)
    job.say(f"before {'pruning  ' if pruning else 'training '} held-out {l0:.4f}")
    with job.stage("pruning" if pruning else "checking its parameters"):
        key = f"{source.label}@{source.revision}"
        pruned = prune(model, inputs.plan, inputs.materials.calibration, cache_folder(), key)
    if raised := pruned.removed.get("damping"):
        job.say(f"sparsegpt: {len(raised)} matrices took more damping than usual: `removed` in run.json names them")
    with job.stage("saving it, loading it back in a fresh process and measuring its loss"):
        with new_folder(job.folder.pruned) as folder:
            base_model.save_model(pruned.model, folder)
        report = gate(pruned.model, job.folder.pruned, inputs.probe, recipe.prune.method, inputs.plan.zeros)
        l_pruned = heldout_loss(pruned.model, heldout)
    if pruning:
        job.say(f"after pruning    held-out {l_pruned:.4f}   loads back in a fresh process")
    job.folder.update(
        l0=l0,
        l0_by_source=l0_by_source,
        l_pruned=l_pruned,
        tokenizer_sha256=yardstick.tokenizer_sha256,
        yardstick_l0=yardstick_l0,
        yardstick_l_pruned=yardstick.loss(pruned.model),
        removed=pruned.removed,
        calibration_sha256=pruned.calibration_sha256,
        gate_pruned=asdict(report),
    )
    return pruned.model


def load_pruned(job: Job) -> Any:
    """The pruned model, as `prune_base` saved it."""
    return base_model.load_model(job.folder.pruned, job.recipe.train.precision)


def by_source(model: Any, materials: Materials) -> dict[str, Any] | None:
    """Held-out loss by source of the text; None where the text does not tell its sources."""
    return None if materials.sources is None else loss_by_source(model, materials.heldout, materials.sources)


def cache_folder() -> Path:
    """Where importance scores are kept between runs; P2ZOO_CACHE moves it."""
    return Path(os.environ.get("P2ZOO_CACHE") or Path.home() / ".cache" / "p2zoo")
