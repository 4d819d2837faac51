"""The second station: measure the base model, prune it, load it back in a fresh process, measure it again."""

import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from leaderboard.logs.methods import CONTROL
from zoo.evaluation.heldout import heldout_loss, loss_by_source
from zoo.evaluation.yardstick import Yardstick
from zoo.files import new_folder
from zoo.front_matter import metadata_of
from zoo.inputs import base_model
from zoo.inputs.gather import Materials
from zoo.pruning.prune import prune, take_ready
from zoo.pruning.ready import FEW_ZEROS
from zoo.pruning.zeros import count_zeros, sparse_linears
from zoo.run.earlier import doubt, what_defines_l0
from zoo.run.folder import read_state
from zoo.run.gate import gate
from zoo.run.job import Inputs, Job

NEAR, WORSE = 0.85, 1.1  # times ln(vocabulary): doubtful, and refused


def prune_base(job: Job, inputs: Inputs) -> Any:
    """The pruned model, saved; l0, l_pruned and what was removed go to run.json."""
    recipe, source, heldout = job.recipe, inputs.source, inputs.materials.heldout
    pruning = recipe.prune.method != CONTROL
    assert source.folder is not None
    with job.stage("loading the model and measuring its held-out loss"):
        model = base_model.load_model(source.folder, recipe.train.precision)
        l0 = heldout_loss(model, heldout)
        _check_l0(job, inputs, l0)
        l0_by_source = by_source(model, inputs.materials)
        yardstick = Yardstick.of(inputs.tokenizer)
        yardstick_l0 = yardstick.loss(model)
    _tell_of_base(job, inputs, model)
    job.say(f"before {'pruning  ' if pruning else 'training '} held-out {l0:.4f}")
    words = "loading the pruned model" if inputs.ready else "pruning" if pruning else "checking its parameters"
    with job.stage(words):
        key = f"{source.label}@{source.revision}"
        if inputs.ready is None:
            pruned = prune(model, inputs.plan, inputs.materials.calibration, cache_folder(), key)
        else:
            del model
            assert inputs.ready.folder is not None and inputs.examined is not None  # noqa: PT018
            model = base_model.load_model(inputs.ready.folder, recipe.train.precision)
            pruned = take_ready(model, inputs.plan, inputs.examined.removed)
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


def _check_l0(job: Job, inputs: Inputs, l0: float) -> None:
    """A base that predicts worse than a guess among all tokens is broken, or its tokenizer is another model's."""
    guess, label = math.log(inputs.source.shape.vocab), inputs.source.label
    if job.recipe.model.scratch is not None:
        return
    if not l0 < WORSE * guess:
        raise P2Error(
            f"model.name: {label} has a held-out loss of {l0:.3f} nats per token, where guessing among its "
            f"{inputs.source.shape.vocab:,} tokens has {guess:.3f}: its weights are broken, or its tokenizer is "
            "another model's."
        )
    if l0 > NEAR * guess:
        near = f"l0 {l0:.3f} is near that of a guess, ln(vocabulary) = {guess:.3f}: is {label} trained, on such text?"
        _doubt(job, near)
    if (other := doubt(job.folder.path, what_defines_l0(job, inputs), l0)) is not None:
        _doubt(job, other)


def _doubt(job: Job, words: str) -> None:
    """Tell the person who watches, and whoever reads run.json."""
    job.folder.update(notes=[*job.folder.state.get("notes", []), words])
    job.say(f"doubtful: {words}")


def _tell_of_base(job: Job, inputs: Inputs, model: Any) -> None:
    """What was done to the base before: the run that pruned it, and zeros that this method would fill."""
    assert inputs.source.folder is not None
    if (origin := origin_of(inputs.source.folder)) is not None:
        job.folder.update(origin=origin)
        job.say(f"staged: the base was made by run {origin['run_id']} from {origin['base_model']} ({origin['method']})")
    weights = [linear.weight for _, _, linear in sparse_linears(model)]
    share = count_zeros(weights) / sum(weight.numel() for weight in weights)
    if share > FEW_ZEROS and job.recipe.prune.sparse is None:
        note = (
            f"{share:.1%} of the base's attention and MLP matrices are zero, and training fills them: "
            f"{job.recipe.prune.method} keeps no mask. A ready sparse model is taken by prune.from, with its zeros."
        )
        job.folder.update(notes=[*job.folder.state.get("notes", []), note])
        job.say(note)


def origin_of(folder: Path) -> dict[str, Any] | None:
    """The run that pruned the model in `folder`, by its run.json, or by the card of a model that was pulled."""
    if folder.name == "model" and (folder.parent / "run.json").is_file():
        state = read_state(folder.parent)
        about = {**state, "base_model": state.get("base_model") or state.get("name")}
    else:
        about = _card(folder / "README.md")
    known = {name: about.get(name) for name in ("run_id", "base_model", "method", "rate")}
    pruned = known["run_id"] and known["rate"]
    return known if pruned else None


def _card(path: Path) -> dict[str, Any]:
    """What the card of a model published by p2zoo says of its run; empty for any other."""
    card = metadata_of(path)
    about = card.get("p2zoo")
    return {**about, "base_model": card.get("base_model")} if isinstance(about, dict) else {}


def load_pruned(job: Job) -> Any:
    """The pruned model, as `prune_base` saved it."""
    return base_model.load_model(job.folder.pruned, job.recipe.train.precision)


def by_source(model: Any, materials: Materials) -> dict[str, Any] | None:
    """Held-out loss by source of the text; None where the text does not tell its sources."""
    return None if materials.sources is None else loss_by_source(model, materials.heldout, materials.sources)


def cache_folder() -> Path:
    """Where importance scores are kept between runs; P2ZOO_CACHE moves it."""
    return Path(os.environ.get("P2ZOO_CACHE") or Path.home() / ".cache" / "p2zoo")
