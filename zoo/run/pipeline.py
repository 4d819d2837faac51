"""One run, left to right: inputs, pruned, trained, record.

    inputs   find the base model and the text, pin them, plan, tokenize        inputs.py
    pruned   l0, prune, load back in a fresh process, l_pruned                 pruned.py
    trained  post-train, the curve, checkpoints                                trained.py
    record   the final model, loaded back; the log, the picture, run.json      record.py

Each station writes what it found to the run folder before the next begins, so a killed run goes on from
the last one. Everything that can be refused is refused before the second.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from zoo import fresh
from zoo.distributed import Team, join, kind_of_gpu
from zoo.estimate.dry_run import Estimate, estimate
from zoo.estimate.memory import check_shared
from zoo.files import write_atomic
from zoo.preemption import heed_sigterm
from zoo.progress import quiet
from zoo.recipe.files import to_yaml
from zoo.recipe.spec import Recipe
from zoo.run.extension import branch, extend
from zoo.run.folder import RunFolder
from zoo.run.inputs import check_memory, read_inputs
from zoo.run.job import Job
from zoo.run.pruned import load_pruned, prune_base
from zoo.run.record import finish, note_columns, save_final
from zoo.run.trained import train_on
from zoo.run.watch import check_installed


def run(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    console: Console | None = None,
    saved: Callable[[], None] = lambda: None,
    keep: bool = False,
    pilot: int | None = None,
) -> dict[str, Any]:
    """Run a recipe into folder `out` and return its run.json; `saved` hears of each complete checkpoint.

    `keep` leaves the last checkpoint there. A `pilot` stops after that many tokens, unfinished. A finished run is
    returned as it is, or extended, where `resume` is given and the recipe asks for more tokens (extension.py). Raises
    P2Error for what cannot be done as asked and RunFailed for a step that failed; what was complete by then is kept
    for `resume`.
    """
    console = console or Console()
    quiet()
    planned = estimate(recipe)  # refuses offline what it can
    check_installed(recipe)
    with heed_sigterm() as stop:
        team = join(recipe.hardware.gpus if recipe.hardware else None)
        _check_team(planned, out, team)
        console = console if team.rank == 0 else Console(quiet=True)
        if team.rank == 0:
            fresh.prepare()  # imports for the gates while this process works
        resume = bool(team.first(lambda: branch(out, recipe))) or resume
        team.first(lambda: extend(out, recipe, resume))
        identity = {"name": recipe.name, "recipe_sha256": recipe.sha256}
        with RunFolder.of_team(out, identity, resume, team) as folder:
            if team.rank == 0 and not (out / "recipe.yaml").is_file():
                write_atomic(out / "recipe.yaml", to_yaml(recipe, out))  # tells what a folder that is taken is for
            job = Job(
                recipe=recipe,
                estimate=planned,
                folder=folder,
                team=team,
                stop=stop,
                console=console,
                saved=saved,
                keep=keep,
                pilot=pilot,
            )
            state = _stations(job)
        team.leave()
        return state


def _check_team(planned: Estimate, out: Path, team: Team) -> None:
    """Refuse processes that were not started alike, or cannot share or hold this training."""
    recipe = planned.recipe
    team.agree({"recipe": recipe.sha256, "run folder": str(out.resolve()), "GPU": kind_of_gpu()})
    if team.launched:
        check_shared(recipe.train, team.size)
    if planned.plan is not None:
        check_memory(recipe, planned.plan, team)


def _stations(job: Job) -> dict[str, Any]:
    """The way through a run. Of several processes the first prunes and records; all of them train."""
    folder, stop = job.folder, job.stop
    if folder.finished:
        job.say(f"{folder.path}: this run is finished; nothing to do.")
        return folder.state
    stop.kept = "l_pruned" in folder.state
    inputs = folder.station("inputs", lambda: read_inputs(job))
    model = folder.station("l_pruned", lambda: prune_base(job, inputs), lambda: load_pruned(job))
    stop.kept = True
    note_columns(job, inputs)
    model = train_on(job, inputs, model)
    if model is None:
        job.say(f"the pilot is over; without --pilot, --resume goes on to {job.recipe.train.planned_tokens:,} tokens")
        return folder.state

    def record() -> dict[str, Any]:
        save_final(job, inputs, model)
        return finish(job, inputs)

    return folder.station("run_id", record, lambda: folder.state)
