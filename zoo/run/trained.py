"""The third station: post-train, measure on the token grid, keep checkpoints, go on from the last one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from leaderboard.errors import P2Error
from zoo.distributed import Team
from zoo.estimate.dry_run import grid_steps
from zoo.estimate.flops import forward_flops
from zoo.estimate.pilot import pilot_steps
from zoo.evaluation.heldout import heldout_loss
from zoo.evaluation.yardstick import Yardstick, landmarks
from zoo.inputs import base_model
from zoo.inputs.teacher import facts
from zoo.preemption import preempted
from zoo.progress import TrainingBar
from zoo.run.extension import KEPT, SAME_LOSS, Extension, extension_of, kept_marker
from zoo.run.folder import RunFolder
from zoo.run.job import Inputs, Job
from zoo.run.pruned import cache_folder, load_pruned
from zoo.run.watch import ticks, watched
from zoo.training.callback import Curve
from zoo.training.checkpoints import FRESH, damage, last_complete, newest
from zoo.training.execution import Execution
from zoo.training.lora import adapted, merged, trainable
from zoo.training.masks import MaskKeeper
from zoo.training.rebuild import Rebuild
from zoo.training.teacher import Kept, keep
from zoo.training.trainer import Training, post_train, tokens_after

Write = Callable[[dict[str, Any]], None]
Tick = Callable[[int, float, float], None]


def train_on(job: Job, inputs: Inputs, model: Any) -> Any:
    """The model post-trained, from the last complete checkpoint if there is one; None where a pilot ends before.

    Raises Preempted when stopped.
    """
    folder, spec, team = job.folder, job.recipe.train, job.team
    extension = extension_of(folder.state)
    if extension is not None and spec.lora is not None:
        raise P2Error(f"{folder.path}: a LoRA run cannot be extended, its adapters are merged; choose another --out.")
    if extension is not None:
        spec = replace(spec, warmup_tokens=0)  # it is over
    if spec.trunk is not None:
        spec = replace(spec, trunk=None, schedule="linear")  # from the trunk on, to 0
    checkpoints = folder.work / "checkpoints"
    at, start, others = _begin(job, inputs, checkpoints, extension, model)
    if job.pilot is not None and start["tokens"] >= job.pilot:
        return None
    if spec.lora is not None:
        model = adapted(model, spec.lora, spec.seed, job.recipe.prune.sparse)
        folder.update(trainable_params=trainable(model))
        job.say(f"LoRA: {folder.state['trainable_params']:,} parameters are trained")
    tokens = tokens_after(inputs.materials.train, spec) + (extension.tokens if extension else 0)
    steps_before = extension.steps if extension else 0
    steps = steps_before + len(tokens) - 1
    grid = [step - steps_before for step in _grid(job, steps) if step > steps_before]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with _watching(job, int(tokens[-1]), start["tokens"]) as (write, tick):
        curve = Curve(
            tokens=tokens,
            grid=grid,
            checkpoint_tokens=spec.checkpoint_tokens,
            measure=lambda: heldout_loss(model, inputs.materials.heldout, team),
            write=write,
            tick=tick,
            masks=_masks(job, model),
            start=start,
            beside=_yardstick(job, inputs, model, landmarks(grid, tokens)),
            saved=job.saved,
            stop=lambda: job.stop.asked,
            until=job.pilot,
            team=team,
        )
        known = folder.state.get("execution")
        kept = _kept(job, inputs)
        with job.stop.training():
            training = Training(
                model,
                inputs.materials.train,
                spec,
                inputs.tokenizer,
                checkpoints,
                execution=None if known is None else Execution(**known),
                note=lambda execution, why: _note(job, execution, why),
                team=team,
                teacher=_teacher(job, inputs) if spec.teacher_in_memory else None,
                kept=kept,
            )
            post_train(training, [curve, *others], at)
    if not _ended(job, curve, steps):
        return None
    if spec.lora is not None:
        return merged(model)
    return _whole(job, model) if team.launched else model


@contextmanager
def _watching(job: Job, tokens: int, done: int) -> Iterator[tuple[Write, Tick]]:
    """What takes a row and what takes a step: into the log, before people's eyes, into a plot where one is wanted."""
    folder = job.folder
    again = bool(folder.state.get("plotted")) or extension_of(folder.state) is not None
    with (
        TrainingBar(job.console, tokens, done) as bar,
        watched(job.recipe, folder.path, job.team.rank == 0, again) as report,
    ):
        plotted = ticks(report)
        if job.recipe.train.report_to is not None:
            folder.update(plotted=True)
            report(0, {"loss": folder.state["l_pruned"]})

        def write(row: dict[str, Any]) -> None:
            folder.append(row)
            bar.row(row)
            report(row["tokens"], {name: value for name, value in row.items() if name != "tokens"})

        def tick(tokens: int, loss: float, seconds: float) -> None:
            bar.tick(tokens, loss, seconds)
            plotted(tokens, loss, seconds)

        yield write, tick


def _begin(
    job: Job, inputs: Inputs, checkpoints: Path, extension: Extension | None, model: Any
) -> tuple[Path | None, Mapping[str, Any], list[TrainerCallback]]:
    """The checkpoint to go on from, None to begin; where that is; what else watches the training."""
    folder, team = job.folder, job.team
    at, start = team.first(lambda: last_complete(checkpoints, job.say)) or newest(checkpoints)
    if at is not None:
        _check_same_launch(folder, start, team)
        folder.keep_rows(start["tokens"])
        job.say(f"resuming after {start['tokens']:,} tokens")
    elif extension is not None:
        return _go_on(job, inputs, extension, model)
    else:
        folder.keep_rows(-1)
        folder.append(
            {"tokens": 0, "loss": folder.state["l_pruned"], "train_loss": None, "lr": None, "wall_s": 0.0}
            | {"yardstick_loss": folder.state.get("yardstick_l_pruned")}
        )
    return at, start, []


def _ended(job: Job, curve: Curve, steps: int) -> bool:
    """Whether the training came to its end, not only to that of a pilot. Raises Preempted where it was stopped."""
    if curve.stopped and curve.reached:
        job.folder.update(train_s=curve.train_s, train_tokens=curve.saved)
        return False
    if curve.stopped:
        raise preempted(f"after {curve.saved:,} tokens, which are saved")
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    tokens = int(curve.tokens[-1])
    job.folder.update(train_s=curve.train_s, train_tokens=tokens, train_steps=steps, peak_memory_bytes=peak)
    return True


def _grid(job: Job, steps: int) -> list[int]:
    """Steps to measure after; a pilot measures some more, so that there is something to forecast from."""
    more = [] if job.pilot is None else pilot_steps(job.recipe, job.pilot)
    return sorted({*grid_steps(job.recipe, steps), *more})


def _go_on(
    job: Job, inputs: Inputs, extension: Extension, model: Any
) -> tuple[Path | None, Mapping[str, Any], list[TrainerCallback]]:
    """Where an extension starts: the kept checkpoint, if any, its marker, and what else it takes."""
    folder, before = job.folder, inputs.materials.before
    folder.keep_rows(extension.tokens)
    start = {**FRESH, "tokens": extension.tokens, "train_s": folder.state["train_s"]}
    job.say(extension.words)
    if extension.optimizer == "kept":
        marker = kept_marker(folder.path) or FRESH
        _check_same_launch(folder, marker, job.team)
        if (what := damage(folder.path / KEPT, marker)) is not None:
            raise P2Error(
                f"{folder.path}/{KEPT}: is damaged ({what}); remove it and --resume, to rebuild the optimiser state."
            )
        return folder.path / KEPT, start, []
    loss = heldout_loss(model, inputs.materials.heldout)
    if not abs(loss - extension.loss_saved) <= SAME_LOSS:
        raise P2Error(
            f"{folder.path}/model: has a held-out loss of {loss:.4f}, the run that is to go on ended with "
            f"{extension.loss_saved:.4f}; put its weights back, or choose another --out and train anew."
        )
    if abs(loss - extension.loss) > SAME_LOSS:
        job.say(f"model/ is saved in {folder.state.get('dtype')}: it goes on from {loss:.4f}, not {extension.loss:.4f}")
    assert before is not None
    return None, start, [Rebuild(before)]


def _yardstick(job: Job, inputs: Inputs, model: Any, steps: set[int]) -> Callable[[int], dict[str, Any]]:
    """What the yardstick adds to the row of a step."""
    yardstick = Yardstick.of(inputs.tokenizer)
    return lambda step: {"yardstick_loss": yardstick.loss(model, job.team) if step in steps else None}


def _whole(job: Job, model: Any) -> Any:
    """The model that several processes hold shards of, on the first of them; elsewhere the shards."""
    weights = job.team.whole(model)
    if job.team.rank:
        return model
    whole = load_pruned(job)
    whole.load_state_dict(weights)
    return whole


def _teacher(job: Job, inputs: Inputs) -> Any:
    """The model before pruning, whose next-token distribution a distilled one learns."""
    assert inputs.source.folder is not None
    return base_model.load_model(inputs.source.folder, job.recipe.train.precision).eval().requires_grad_(False)


def _kept(job: Job, inputs: Inputs) -> Kept | None:
    """The teacher's likeliest next tokens on disk, where the recipe wants them there."""
    recipe, spec = job.recipe, job.recipe.train.distill
    if spec is None or spec.top_k is None:
        return None
    about = facts(recipe, inputs.source, job.folder.state["inputs"]["train"])
    folder = None if spec.logits is None else recipe.path(spec.logits)
    with job.stage("asking the teacher, once for this text"):
        kept, took = keep(lambda: _teacher(job, inputs), inputs.materials.train, about, folder, cache_folder())
    flops = forward_flops(inputs.source.shape, recipe.train.seq_len) * took["tokens"] if took["made"] else 0.0
    before = job.folder.state.get("teacher", {"made": False, "s": 0.0, "flops": 0.0})
    if took["made"] or not before["made"]:
        job.folder.update(teacher={**took, "s": took["s"] + before["s"], "flops": flops})
    return kept


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
    sparse = job.recipe.prune.sparse if job.recipe.train.lora is None else None  # adapters keep them by themselves
    return (lambda: MaskKeeper(model, job.folder.pruned, sparse)) if sparse else None


def _note(job: Job, execution: Execution, why: str) -> None:
    """Write down how steps are carried out from here on; a resumed run goes on that way."""
    notes = [*job.folder.state.get("notes", []), f"{why}: {execution}"]
    job.folder.update(execution=execution.as_dict(), notes=notes)
    job.say(f"post-training with {execution} ({why})")
