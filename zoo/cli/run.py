"""`p2zoo run` and `p2zoo recipes`: prune, post-train and log as a recipe says."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard.errors import P2Error
from zoo.cli.options import (
    Corpus,
    DryRun,
    Gpus,
    KeepOptimizer,
    OnJobs,
    Out,
    Pilot,
    ResultJson,
    Resume,
    Sets,
    Wheel,
    count,
    share,
)

if TYPE_CHECKING:
    from zoo.recipe.spec import Recipe
    from zoo.run.extension import Extension

recipes = typer.Typer(help="The recipes that ship with p2zoo.", no_args_is_help=True)


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file, or a bundled name (p2zoo recipes list).")
    ],
    out: Out = None,
    set_: Sets = None,
    corpus: Corpus = None,
    resume: Resume = False,
    keep_optimizer: KeepOptimizer = False,
    pilot: Pilot = None,
    gpus: Gpus = None,
    on: OnJobs = None,
    wheel: Wheel = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="ME/REPO", help="Keep checkpoints in a private repository; started again, go on from it."),
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="With --on or --state: publish there at the end.")
    ] = None,
    logs: Annotated[
        str | None, typer.Option(metavar="DATASET", help="With --to: log data set for the pull request.")
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="With --to: licence of a model unknown to p2zoo.")
    ] = None,
    dry_run: DryRun = False,
    as_json: ResultJson = False,
) -> None:
    """Prune a model, post-train it and log its held-out loss, as RECIPE says.

    Examples:

    - `p2zoo run quickstart/depth`

    - `p2zoo run my.yaml --set prune.rate=0.25 --set train.tokens=1_000_000 --dry-run`

    - `p2zoo run my.yaml --out runs/first --resume`

    - `p2zoo run my.yaml --pilot 2%`, then `p2zoo run my.yaml --resume`

    - `p2zoo run my.yaml --set train.tokens=2_000_000 --resume`, once it is finished with fewer

    - `p2zoo run llama-3.2-1b/depth-0.25 --gpus 8`, or `torchrun --nproc-per-node 8 -m zoo run llama-3.2-1b/depth-0.25`

    - `p2zoo run qwen-2.5-0.5b/depth-0.25 --on hf-jobs:h200 --wheel dist/p2zoo-0.1.0-py3-none-any.whl --to me --dry-run`

    - `p2zoo run qwen-2.5-0.5b/depth-0.25 --state me/p2zoo-state --to me --logs org/p2-logs`, on a machine that may be
    taken away
    """
    from zoo.recipe.catalog import find_recipe
    from zoo.recipe.files import load_recipe

    send = {"to": to, "logs": logs, "licence": license_}
    _check_where(on, state, gpus, corpus, send)
    if pilot is not None and (on is not None or state is not None):
        raise P2Error("p2zoo run: --pilot runs here, to forecast at once; drop --on and --state.")
    path = find_recipe(recipe)
    experiment = load_recipe(path, with_gpus(set_, gpus), corpus)
    if experiment.model.scratch is not None and state is None:  # `p2zoo pretrain` keeps no state elsewhere
        raise P2Error(f"p2zoo run: {recipe} trains a model from scratch; use `p2zoo pretrain {recipe}`.")
    folder = out or Path("runs") / experiment.name
    if on is None and state is not None and not dry_run:
        _keep_state(experiment, folder, state, send, as_json)
    elif on is None:
        stop = None if pilot is None else _pilot_tokens(experiment, pilot)
        carry_out(experiment, folder, resume, dry_run, as_json, summary, keep_optimizer, stop)
    else:
        _on_jobs(experiment, path, set_ or [], on, folder, send | {"wheel": wheel}, dry_run, as_json)


def _check_where(
    on: str | None, state: str | None, gpus: int | None, corpus: Path | None, send: dict[str, str | None]
) -> None:
    """Some options are for runs made here, some for those on Hugging Face Jobs."""
    if on is None and state is None and any(send.values()):
        raise P2Error(
            "p2zoo run: --to, --logs and --license go with --on or --state; `p2zoo publish` publishes a run made here."
        )
    if on is not None and state is not None:
        raise P2Error("p2zoo run: --state: a job with --on has a repository of its own for its checkpoints; drop it.")
    if on is not None and gpus is not None:
        raise P2Error("p2zoo run: --gpus: with --on the flavor says how many GPUs there are; drop it.")
    if on is not None and corpus is not None:
        raise P2Error("p2zoo run: --corpus names a file of this machine, which a job with --on does not see; drop it.")


def with_gpus(sets: list[str] | None, gpus: int | None) -> list[str]:
    """The overrides of a command line, `--gpus` among them."""
    return [*(sets or []), *([f"hardware.gpus={gpus}"] if gpus else [])]


def carry_out(
    recipe: "Recipe",
    folder: Path,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    last_words: Callable[[dict[str, Any], Path], str],
    keep: bool = False,
    pilot: int | None = None,
) -> None:
    """Run a recipe here, in as many processes as it asks for, or say what that costs; `keep` the last checkpoint.

    A `pilot` of so many tokens ends with a forecast in place of the last words.
    """
    from rich.console import Console

    from zoo.estimate.dry_run import estimate, report
    from zoo.estimate.pilot import pilot_line
    from zoo.progress import stage

    first = os.environ.get("RANK", "0") == "0"
    if dry_run:
        planned, extension = estimate(recipe), _extension(folder, recipe, resume)
        more: dict[str, Any] = {} if extension is None else {"extends": vars(extension)}
        lines = [] if extension is None else [f"extends       {extension.words}"]
        if pilot is not None:
            more["pilot_tokens"] = pilot
            lines.append(f"pilot         {pilot_line(recipe, pilot)}")
        print(json.dumps(planned.as_dict() | more, indent=2) if as_json else report(planned, lines))
        return
    with stage("loading PyTorch", quiet=not first):
        start = trainer()
    if recipe.hardware and recipe.hardware.gpus > 1:
        _spread(recipe.hardware.gpus)
    console = Console(stderr=as_json)
    if first and pilot is not None:
        console.print(f"pilot: {pilot_line(recipe, pilot)}", highlight=False, soft_wrap=True)
    result = start(recipe, folder, resume, console, keep=keep, pilot=pilot)
    if first and pilot is not None:
        from zoo.cli.forecast import forecast

        forecast(folder, as_json=as_json)
    elif first:
        print(json.dumps(result, indent=2) if as_json else last_words(result, folder))


def _pilot_tokens(recipe: "Recipe", text: str) -> int:
    """Tokens of a pilot, from a share of the budget or a count."""
    from zoo.estimate.pilot import pilot_tokens

    wanted = share(text) * recipe.train.planned_tokens if text.strip().endswith("%") else count(text)
    return pilot_tokens(recipe, wanted, text)


def _extension(folder: Path, recipe: "Recipe", resume: bool) -> "Extension | None":
    """How the finished run in a folder would go on; None where none would. Refuses what the run would."""
    begun = (folder / "run.json").is_file()
    if not begun and recipe.train.trunk is None:
        return None
    from zoo.run.extension import look, look_at_trunk

    return look(folder, recipe, resume) if begun else look_at_trunk(recipe)


def _keep_state(recipe: "Recipe", folder: Path, state: str, send: dict[str, str | None], as_json: bool) -> None:
    """Run a recipe here, as a job does: go on from the state on the Hub, publish, and say what was published."""
    from rich.console import Console

    trainer()  # says what is not installed
    from zoo.jobs.worker import work

    if done := work(recipe, folder, state, **send, console=Console(stderr=as_json)):
        print(json.dumps(done, indent=2), flush=True)


def _on_jobs(
    recipe: "Recipe",
    path: Path,
    sets: list[str],
    on: str,
    out: Path,
    send: dict[str, str | None],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send a recipe to Hugging Face Jobs, follow it, and fetch its log."""
    from zoo.estimate.dry_run import estimate
    from zoo.jobs.request import describe, follow, request, submit

    planned = estimate(recipe)
    if dry_run:
        asked = request(planned, path, sets, on, namespace=send["to"] or "<you>", **send)
        print(json.dumps(asked.as_dict(), indent=2) if as_json else describe(asked))
        print("Dry run: nothing was sent.", file=sys.stderr if as_json else sys.stdout)
        return
    from leaderboard.logs.hub_errors import Patience
    from zoo.endpoint import hub
    from zoo.jobs.backup import RESULTS, download

    if out.exists():
        raise P2Error(f"{out}: exists; its log would be replaced by the job's. Choose a new folder with --out.")
    api, words = hub(None), sys.stderr if as_json else sys.stdout
    you = str(Patience()("--on: signing in", lambda: api.whoami()["name"]))
    asked = request(planned, path, sets, on, namespace=you, **send)
    print(describe(asked), file=words)
    job = submit(api, asked)
    print(f"job          {job.url}: Ctrl-C leaves it running; `hf jobs cancel {job.id}` ends it", file=words)
    for line in follow(api, job):
        print(line, file=words, flush=True)
    download(api, asked.state, out, RESULTS)
    result = json.loads((out / "run.json").read_text(encoding="utf-8"))
    print(json.dumps(result, indent=2) if as_json else summary(result, out))


def _per_byte(result: dict[str, Any]) -> list[str]:
    """The loss in a unit that compares across tokenizers; older runs do not know it."""
    known = result.get("nats_per_byte")
    return [] if known is None else [f"             {known:.4f} nats a byte of the held-out text"]


def summary(result: dict[str, Any], folder: Path) -> str:
    """What came out of a run, for people."""
    won = "" if result["recovered"] is None else f", which wins back {result['recovered']:.0%} of the damage"
    rate, inner = result["rate"], result["rate_nonembedding"]
    return "\n".join(
        [
            f"removed      {rate:.1%} of all parameters, {inner:.1%} without embeddings",
            f"loss         {result['l0']:.4f} before pruning, {result['l_pruned']:.4f} after it",
            f"             {result['loss']:.4f} after {result['tokens']:,} tokens of post-training{won}",
            *_per_byte(result),
            f"speed        {result['tokens_per_second']:,.0f} tokens a second on {result['hardware']}",
            f"results      {folder}: model/, log.parquet, curve.png, run.json, recipe.yaml (run {result['run_id']})",
        ]
    )


def trainer() -> Any:
    """The run function; the training stack is an extra."""
    try:
        from zoo.run.pipeline import run as start
    except ModuleNotFoundError as error:
        raise P2Error(f"p2zoo run: {error.name} is not installed; pip install 'p2zoo[train]'.") from error
    return start


def _spread(gpus: int) -> None:
    """Start this command over as several processes, unless a launcher has done so."""
    from zoo.distributed import launched, relaunch

    if not launched():
        relaunch(gpus, ["-m", "zoo", *sys.argv[1:]])


@recipes.command("list")
def list_() -> None:
    """Names of the bundled recipes, ready for `p2zoo run NAME`."""
    from zoo.recipe.catalog import recipe_names

    print("\n".join(recipe_names()))


@recipes.command()
def copy(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for them.")]) -> None:
    """Copy the bundled recipes, with the quickstart's model and text, to change them."""
    from zoo.recipe.catalog import copy_recipes

    print(f"{folder}: {len(copy_recipes(folder))} recipes; `p2zoo run {folder}/quickstart/depth.yaml` runs one")
