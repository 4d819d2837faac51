"""The first station: find the base model and the text, pin them, plan the pruning, tokenize.

All that can be refused is refused here, before weights are loaded. A resumed run goes on with its first commits.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import offline
from leaderboard.shapes import parameters
from zoo.distributed import Team
from zoo.estimate.disk import check_room, disk_bytes
from zoo.estimate.dry_run import Estimate
from zoo.estimate.memory import check_fits, this_machine
from zoo.inputs import base_model, text
from zoo.inputs.base_model import Source
from zoo.inputs.gather import Trained, gather
from zoo.inputs.scratch import initial_model
from zoo.inputs.teacher import check_kept, check_teacher, facts
from zoo.inputs.tokenizer import check_ids
from zoo.models.families import check_targets
from zoo.pruning.plan import Plan, plan
from zoo.pruning.ready import Ready, check_shapes, examine
from zoo.recipe.spec import ModelSpec, Recipe, TextSpec
from zoo.run.extension import extension_of
from zoo.run.folder import RunFolder
from zoo.run.job import Inputs, Job

Spec = TypeVar("Spec", ModelSpec, TextSpec)


def read_inputs(job: Job) -> Inputs:
    """Everything that a run reads. Raises P2Error for what cannot be had, or changed since the run began."""
    recipe, folder = job.recipe, job.folder
    source, commits, planned, ready = _sources(job)
    if offline() and not all(_local(recipe).values()):
        pins = {"model": source.revision, **commits}
        pinned = ", ".join(f"{part} at {str(pins[part])[:12]}" for part, local in _local(recipe).items() if not local)
        job.say(f"offline, as asked: from the cache of this machine come {pinned}")
    check_room(folder.path, disk_bytes(planned.target, recipe.train))
    job.say(f"{recipe.name}: {planned.summary}")
    _pin(folder, {"model": source.revision, **({"from": ready[0].revision} if ready else {}), **commits})
    assert source.folder is not None
    tokenizer = base_model.load_tokenizer(source.folder)
    sample = text.documents(
        replace(recipe.data.heldout, noise=None), recipe.folder, "data.heldout", None, commits["heldout"]
    )
    check_ids(tokenizer, source.folder, sample, source.shape.vocab)
    job.stop.kept = True  # tokens are kept as they are made
    with job.stage("tokenizing the text"):
        extension = extension_of(folder.state)
        trained = None if extension is None else Trained(extension.stages, extension.text_sha256)
        materials = gather(recipe, tokenizer, commits, folder.work / "train", trained)
    _pin(folder, {"heldout_sha256": materials.heldout_sha256})
    if (spec := recipe.train.distill) and spec.logits is not None:  # refused before anything is trained
        about = facts(recipe, source, commits["train"]) | {"tokens_sha256": materials.train.sha256}
        check_kept(recipe.path(spec.logits), about)
    train = materials.train
    job.say(
        f"text: {train.tokens:,} training tokens ({recipe.train.packing} keeps {train.kept:.1%} of the text, "
        f"{train.padding:.1%} padding), {materials.heldout.tokens:,} held-out tokens"
    )
    for part, rows in zip(("train", "heldout"), materials.without_text, strict=True):
        if rows:
            job.say(f"text: data.{part}: {rows:,} rows without text were passed over")
    if materials.heldout_in_train:
        job.say(
            f"text: {materials.heldout_in_train:,} held-out documents stand in the training text too: the held-out "
            "loss will be too low by what they teach; the log says so"
        )
    where, examined = ready or (None, None)
    return Inputs(source=source, ready=where, examined=examined, plan=planned, tokenizer=tokenizer, materials=materials)


def check_memory(recipe: Recipe, planned: Plan, team: Team) -> None:
    """Refuse, before any weights are fetched, a training that this machine has no memory for."""
    check_fits(planned.target, recipe.train, planned.n0, this_machine(), team.size)


def _sources(job: Job) -> tuple[Source, dict[str, str], Plan, tuple[Source, Ready] | None]:
    """The base model, what pins the texts, the plan, and what was pruned elsewhere, where that is taken.

    Of the Hub a model comes once its config is accepted.
    """
    recipe = job.recipe
    pinned = job.folder.state.get("inputs", {})
    plans: list[Plan] = []

    ready: tuple[Source, Ready] | None = None

    def accept(source: Source) -> None:
        if recipe.ready is not None:  # the pruned one tells
            return
        plans.append(_plan(job.estimate, source))
        check_memory(recipe, plans[0], job.team)
        check_teacher(recipe, source)
        if recipe.train.lora is not None:
            check_targets(recipe.train.lora.targets, source.config["model_type"])

    with job.stage("finding the model and the text, downloading what is not here"):
        if recipe.model.scratch is None:
            spec = _at(recipe.model, pinned.get("model"))
            source = base_model.resolve(spec, recipe.folder, accept, job.estimate.source)
            if recipe.ready is not None:
                ready = _ready(job, source, pinned.get("from"))
                plans.append(ready[1].plan)
        commits = {
            part: text.fingerprint(_at(spec, pinned.get(part)), recipe.folder, f"data.{part}")
            for part, spec in (("train", recipe.data.train), ("heldout", recipe.data.heldout))
        }
    if recipe.model.scratch is not None:
        source = initial_model(recipe, commits["train"], job.folder.work / "initial")
        plans.append(_plan(job.estimate, source))
    return source, commits, plans[0], ready


def _ready(job: Job, source: Source, commit: str | None) -> tuple[Source, Ready]:
    """The model that was pruned elsewhere, and what it is; read again only where the estimate did not have both."""
    recipe, estimate = job.recipe, job.estimate

    def accept(ready: Source) -> None:
        check_shapes(source.shape, ready.shape, recipe.prune)
        check_fits(ready.shape, recipe.train, parameters(source.shape), this_machine(), job.team.size)

    ready = base_model.resolve_ready(recipe, commit, accept, estimate.ready)
    assert source.folder is not None and ready.folder is not None  # noqa: PT018
    return ready, estimate.examined or examine(source.folder, source.shape, ready.folder, ready.shape, recipe.prune)


def _plan(estimate: Estimate, source: Source) -> Plan:
    """The plan that the estimate made, unless the model turned out to be another than its bundled config says."""
    known = estimate.plan
    return known if known is not None and known.shape == source.shape else plan(source.shape, estimate.recipe.prune)


def _at(spec: Spec, commit: str | None) -> Spec:
    """A model or text of the Hub at a commit, each text of a blend at its own; what lies on this machine has none."""
    if spec.local or commit is None:
        return spec
    blend: tuple[TextSpec, ...] | None = getattr(spec, "blend", None)
    if blend is not None:
        pins = zip(blend, commit.split(","), strict=True)
        return replace(spec, blend=tuple(_at(part, pin) for part, pin in pins))  # type: ignore[call-arg]
    return replace(spec, revision=commit)


def _local(recipe: Recipe) -> dict[str, bool]:
    """Which inputs lie on this machine; the others are the Hub's."""
    return {"model": recipe.model.local, "train": recipe.data.train.local, "heldout": recipe.data.heldout.local}


def _pin(folder: RunFolder, inputs: Mapping[str, Any]) -> None:
    """Note the exact inputs of a new run; a resumed one must find them unchanged."""
    before = folder.state.get("inputs", {})
    changed = [name for name, value in inputs.items() if before.get(name, value) != value]
    if changed:
        raise P2Error(
            f"{folder.path}: cannot go on: {', '.join(changed)} changed since the run began; choose another --out."
        )
    if inputs.keys() - before.keys():
        folder.update(inputs=before | dict(inputs))
