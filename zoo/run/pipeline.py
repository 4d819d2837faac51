"""One run, left to right: find, tokenize, load, l0, prune, gate, l_pruned, post-train, gate, finish.

Each station writes what it found to the run folder before the next begins, so a killed run goes on from
the last one. Everything that can be refused is refused in the first two stations.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console

from leaderboard.errors import P2Error, RunFailed
from zoo.distributed import Team, join, kind_of_gpu
from zoo.estimate.dry_run import OPTIMIZER_BYTES, estimate, grid_steps
from zoo.estimate.memory import check_fits, check_shared, this_machine
from zoo.evaluation.heldout import heldout_loss, loss_by_source
from zoo.files import disk, new_folder
from zoo.inputs import base_model, text
from zoo.inputs.base_model import Source
from zoo.inputs.gather import Materials, gather
from zoo.inputs.scratch import initial_model
from zoo.preemption import Stop, heed_sigterm, preempted
from zoo.progress import TrainingBar, quiet, stage
from zoo.pruning.plan import Plan, plan
from zoo.pruning.prune import prune
from zoo.pruning.spec import NONE
from zoo.recipe.spec import ModelSpec, Recipe, TextSpec
from zoo.run.folder import RunFolder
from zoo.run.gate import gate
from zoo.run.record import finish
from zoo.training.callback import Curve, last_complete
from zoo.training.execution import Execution
from zoo.training.masks import MaskKeeper
from zoo.training.trainer import post_train, tokens_after

_PROBE_ROWS = 2
Spec = TypeVar("Spec", ModelSpec, TextSpec)


@dataclass(frozen=True)
class Job:
    """What the stations share."""

    recipe: Recipe
    source: Source
    plan: Plan
    folder: RunFolder
    console: Console
    tokenizer: Any
    materials: Materials
    saved: Callable[[], None]
    team: Team
    stop: Stop

    def say(self, message: str) -> None:
        """Tell the person who watches."""
        _say(self.console, message)

    def stage(self, words: str) -> AbstractContextManager[None]:
        """Tell what is under way; nothing is said inside it."""
        return stage(words, quiet=self.console.quiet)


def run(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    console: Console | None = None,
    saved: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run a recipe into folder `out` and return its run.json; `saved` hears of each complete checkpoint.

    A finished run is returned as it is. Raises P2Error for what cannot be done as asked and RunFailed for
    a step that failed; what was complete by then is kept for `resume`.
    """
    console = console or Console()
    quiet()
    found = estimate(recipe)  # refuses offline what it can
    with heed_sigterm() as stop:
        team = join(recipe.hardware.gpus if recipe.hardware else None)
        team.agree({"recipe": recipe.sha256, "run folder": str(out.resolve()), "GPU": kind_of_gpu()})
        if team.launched:
            check_shared(recipe.train, team.size)
        if found.source is not None:
            _check_fits(recipe, found.source, team)
        identity = {"name": recipe.name, "recipe_sha256": recipe.sha256}
        console = console if team.rank == 0 else Console(quiet=True)
        with team.first(lambda: RunFolder.open(out, identity, resume)) or RunFolder.follow(out) as folder:
            if folder.finished:
                _say(console, f"{out}: this run is finished; nothing to do.")
                state = folder.state
            else:
                state = _stations(recipe, folder, console, saved, team, stop)
        team.leave()
        return state


def _stations(
    recipe: Recipe, folder: RunFolder, console: Console, saved: Callable[[], None], team: Team, stop: Stop
) -> dict[str, Any]:
    """The way through a run. Of several processes the first prunes, saves and finishes; all of them train."""

    stop.kept = "l_pruned" in folder.state

    def prepare() -> Job:
        return _prepare(recipe, folder, console, saved, team, stop)

    job = team.first(prepare)
    if job is None:
        folder.refresh()
        job = prepare()
    if (model := team.first(lambda: _pruned_model(job))) is None:
        folder.refresh()
        model = _pruned_model(job)
    stop.kept = True
    model = _post_trained(job, model)

    def end() -> dict[str, Any]:
        _save_final(job, model)
        return finish(job.folder, recipe, job.source, job.plan, job.materials, max(team.size, 1))

    if (state := team.first(end)) is None:
        folder.refresh()
        return folder.state
    return state


def _say(console: Console, message: str) -> None:
    console.print(message, highlight=False, soft_wrap=True)


def _prepare(
    recipe: Recipe, folder: RunFolder, console: Console, saved: Callable[[], None], team: Team, stop: Stop
) -> Job:
    """Find the model and the text, pin them, plan the pruning, tokenize."""
    pinned = folder.state.get("inputs", {})  # a resumed run goes on with the commits it began with
    with stage("finding the model and the text, downloading what is not here", console.quiet):
        if recipe.model.scratch is None:
            source = base_model.resolve(
                _at(recipe.model, pinned.get("model")), recipe.folder, lambda found: _check_fits(recipe, found, team)
            )
        commits = {
            part: text.fingerprint(_at(spec, pinned.get(part)), recipe.folder, f"data.{part}")
            for part, spec in (("train", recipe.data.train), ("heldout", recipe.data.heldout))
        }
    if recipe.model.scratch is not None:
        source = initial_model(recipe, commits["train"], folder.work / "initial")
    planned = plan(source.shape, recipe.prune)
    _check_room(folder.path, planned)
    _say(console, f"{recipe.name}: {planned.summary}")
    _pin(folder, {"model": source.revision, **commits})
    assert source.folder is not None
    tokenizer = base_model.load_tokenizer(source.folder)
    with stage("tokenizing the text", console.quiet), disk(folder.work):
        materials = gather(recipe, tokenizer, commits, folder.work / "train")
    _pin(folder, {"heldout_sha256": materials.heldout_sha256})
    _say(
        console,
        f"text: {materials.train.tokens:,} training tokens ({recipe.train.packing} keeps {materials.train.kept:.1%} "
        f"of the text, {materials.train.padding:.1%} padding), {materials.heldout.tokens:,} held-out tokens",
    )
    return Job(recipe, source, planned, folder, console, tokenizer, materials, saved, team, stop)


def _check_fits(recipe: Recipe, source: Source, team: Team) -> None:
    """Refuse, before any weights are fetched, a training that this machine has no memory for."""
    planned = plan(source.shape, recipe.prune)
    check_fits(planned.target, recipe.train, planned.n0, this_machine(), team.size)


def _at(spec: Spec, commit: str | None) -> Spec:
    """A model or text of the Hub at a commit; what lies on this machine has none."""
    return spec if spec.local or commit is None else replace(spec, revision=commit)


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


def _check_room(path: Path, planned: Plan) -> None:
    """Two checkpoints, the pruned and the final model must fit before anything is trained."""
    needed = planned.n0 * (2 * OPTIMIZER_BYTES)
    free = shutil.disk_usage(path).free
    if free < needed:
        raise RunFailed(
            f"{path}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose another --out."
        )


def _pruned_model(job: Job) -> Any:
    """The pruned model with l0 and l_pruned measured; from disk if an earlier call came this far."""
    saved = job.folder.work / "pruned"
    if "l_pruned" in job.folder.state:
        return base_model.load_model(saved, job.recipe.train.precision)
    assert job.source.folder is not None
    with job.stage("loading the model and measuring its held-out loss"):
        model = base_model.load_model(job.source.folder, job.recipe.train.precision)
        l0 = heldout_loss(model, job.materials.heldout)
        l0_by_source = _by_source(job, model)
    pruning = job.recipe.prune.method != NONE
    job.say(f"before {'pruning  ' if pruning else 'training '} held-out {l0:.4f}")
    key = f"{job.source.label}@{job.source.revision}"
    with job.stage("pruning" if pruning else "checking its parameters"):
        pruned = prune(model, job.plan, job.materials.calibration, cache_folder(), key)
    if raised := pruned.removed.get("damping"):
        job.say(f"sparsegpt: {len(raised)} matrices took more damping than usual: `removed` in run.json names them")
    with job.stage("saving it, loading it back in a fresh process and measuring its loss"):
        with new_folder(saved) as folder:
            base_model.save_model(pruned.model, folder)
        report = gate(pruned.model, saved, _probe(job), job.recipe.prune.method, job.plan.zeros)
        l_pruned = heldout_loss(pruned.model, job.materials.heldout)
    if pruning:
        job.say(f"after pruning    held-out {l_pruned:.4f}   loads back in a fresh process")
    job.folder.update(
        l0=l0,
        l0_by_source=l0_by_source,
        l_pruned=l_pruned,
        removed=pruned.removed,
        calibration_sha256=pruned.calibration_sha256,
        gate_pruned=asdict(report),
    )
    return pruned.model


def _post_trained(job: Job, model: Any) -> Any:
    """Train on, from the last complete checkpoint if there is one."""
    folder, spec, team = job.folder, job.recipe.train, job.team
    checkpoints = folder.work / "checkpoints"
    at, start = team.first(lambda: last_complete(checkpoints)) or last_complete(checkpoints)
    if at is None:
        folder.keep_rows(-1)
        folder.append({"tokens": 0, "loss": folder.state["l_pruned"], "train_loss": None, "lr": None, "wall_s": 0.0})
    else:
        _check_same_launch(folder, start, team)
        folder.keep_rows(start["tokens"])
        job.say(f"resuming after {start['tokens']:,} tokens")
    tokens = tokens_after(job.materials.train, spec)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with TrainingBar(job.console, int(tokens[-1]), start["tokens"]) as bar:

        def write(row: dict[str, Any]) -> None:
            folder.append(row)
            bar.row(row)

        curve = Curve(
            tokens=tokens,
            grid=grid_steps(job.recipe, len(tokens) - 1),
            checkpoint_tokens=spec.checkpoint_tokens,
            measure=lambda: heldout_loss(model, job.materials.heldout, team),
            write=write,
            tick=bar.tick,
            masks=_masks(job, model),
            start=start,
            saved=job.saved,
            stop=lambda: job.stop.asked,
            team=team,
        )
        known = folder.state.get("execution")
        with job.stop.training():
            post_train(
                model,
                job.materials.train,
                spec,
                job.tokenizer,
                checkpoints,
                [curve],
                at,
                None if known is None else Execution(**known),
                lambda execution, why: _note(job, execution, why),
                team,
                _teacher(job),
            )
    if curve.stopped:
        raise preempted(f"after {curve.saved:,} tokens, which are saved")
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    folder.update(train_s=curve.train_s, train_tokens=int(tokens[-1]), peak_memory_bytes=peak)
    return _whole(job, model) if team.launched else model


def _whole(job: Job, model: Any) -> Any:
    """The model that several processes hold shards of, on the first of them; elsewhere the shards."""
    weights = job.team.whole(model)
    if job.team.rank:
        return model
    whole = base_model.load_model(job.folder.work / "pruned", job.recipe.train.precision)
    whole.load_state_dict(weights)
    return whole


def _teacher(job: Job) -> Any:
    """The model before pruning, whose next-token distribution a distilled one learns."""
    if job.recipe.train.objective != "distill":
        return None
    assert job.source.folder is not None
    return base_model.load_model(job.source.folder, job.recipe.train.precision).eval().requires_grad_(False)


def _check_same_launch(folder: RunFolder, start: Mapping[str, Any], team: Team) -> None:
    """A sharded checkpoint can be read by any number of launched processes, a plain one by a plain run."""
    was, now = start.get("processes"), team.size if team.launched else None
    if (was is None) != (now is None):
        ways = ("one process without a launcher", "a launch (torchrun, accelerate launch, p2zoo run --gpus)")
        raise P2Error(
            f"{folder.path}: its checkpoint was written by {ways[was is not None]}; go on that way, or choose another "
            "--out."
        )


def _masks(job: Job, model: Any) -> Callable[[], MaskKeeper] | None:
    """Makes what keeps the zeros of the sparse part, from the pruned checkpoint; None where there is none."""
    sparse = job.recipe.prune.sparse
    return (lambda: MaskKeeper(model, job.folder.work / "pruned", sparse)) if sparse else None


def _note(job: Job, execution: Execution, why: str) -> None:
    """Write down how steps are carried out from here on; a resumed run goes on that way."""
    notes = [*job.folder.state.get("notes", []), f"{why}: {execution}"]
    job.folder.update(execution=execution.as_dict(), notes=notes)
    job.say(f"post-training with {execution} ({why})")


def _save_final(job: Job, model: Any) -> None:
    """`model/` in the dtype of the checkpoint it came from; it takes its name only after the gate."""
    config = job.source.config
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    base_model.cast_weights(model.eval(), dtype)
    with job.stage("saving model/, loading it back in a fresh process and measuring its loss"):
        with new_folder(job.folder.path / "model") as folder:
            base_model.save_model(model, folder)
            job.tokenizer.save_pretrained(folder)
            base_model.copy_licences(job.source, folder)
            report = gate(model, folder, _probe(job), job.recipe.prune.method, job.plan.zeros)
        loss = heldout_loss(model.float(), job.materials.heldout)
    job.folder.update(loss_by_source=_by_source(job, model))
    job.folder.update(gate_final=asdict(report), loss_saved=loss, dtype=str(dtype).removeprefix("torch."))
    job.say(f"model/ loads back in a fresh process ({job.folder.state['dtype']}, held-out {loss:.4f})")


def _by_source(job: Job, model: Any) -> dict[str, Any] | None:
    told = job.materials.sources
    return None if told is None else loss_by_source(model, job.materials.heldout, told)


def _probe(job: Job) -> torch.Tensor:
    return torch.from_numpy(job.materials.heldout.ids[:_PROBE_ROWS].astype("int64"))


def cache_folder() -> Path:
    """Where importance scores are kept between runs; P2ZOO_CACHE moves it."""
    return Path(os.environ.get("P2ZOO_CACHE") or Path.home() / ".cache" / "p2zoo")
