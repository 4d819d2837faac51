"""`p2zoo sweep` and `p2zoo tune`: run a folder of recipes and report on them, or one recipe at several rates."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard import words
from leaderboard.errors import P2Error
from zoo.cli.options import Corpus, DryRun, Endpoint, OnJobs, ResultJson, Sets, Wheel, count
from zoo.endpoint import use_endpoint

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.sweep.sweep import Item, Outcome


def sweep(
    where: Annotated[
        str, typer.Argument(metavar="DIR|GLOB", help="Folder, quoted pattern, or bundled group, e.g. quickstart.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run folders; default runs/NAME of DIR.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value in every recipe; in bases if all are."),
    ] = None,
    corpus: Corpus = None,
    on: OnJobs = None,
    wheel: Wheel = None,
    publish: Annotated[bool, typer.Option("--publish", help="Publish each finished run, see p2zoo publish.")] = False,
    to: Annotated[str | None, typer.Option(metavar="NAMESPACE", help="Where to publish; default: you.")] = None,
    logs: Annotated[str | None, typer.Option(metavar="DATASET", help="Log data set for the pull requests.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence of base models unknown to p2zoo.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="GPU to count hours on in --dry-run.")] = "h100",
    dry_run: DryRun = False,
    endpoint: Endpoint = None,
    as_json: ResultJson = False,
) -> None:
    """Run every recipe of a folder, each in its own process; finished runs are skipped, cut-off ones go on.

    A recipe that names the recipe of its base model waits for that to be pretrained. One that fails stops no other; the
    exit code is then 1. Ends with report.html beside the run folders.

    Examples:

    - `p2zoo sweep my-recipes --dry-run`

    - `p2zoo sweep 'my-recipes/*/depth*.yaml' --jobs 2`

    - `p2zoo sweep quickstart --publish --to me --logs org/p2-logs`
    """
    use_endpoint(endpoint)
    from zoo.sweep.sweep import plan

    target = _target(to, logs, license_, publish, dry_run)
    folder = out or Path("runs") / (Path(where).name if not set(where) & set("*?[") else "sweep")
    card = _card(on, gpu)
    items = plan(where, folder, set_ or [], corpus)
    if on and (made := [item.name for item in items if item.pretrains]):
        raise P2Error(f"sweep: --on: {', '.join(made)} would be trained here, where no job sees them; leave --on out.")
    if dry_run:
        rows = [item.as_dict(card) for item in items]
        print(json.dumps({"runs": rows}, indent=2) if as_json else listing(items, card))
        raise typer.Exit(1 if any(row["status"] == "refused" for row in rows) else 0)
    outcomes, published = _carry_out(items, jobs, _job_words(on, wheel), target, as_json)
    report = _report(outcomes, folder, Path(where).name)
    if as_json:
        _print_json(report, outcomes, published)
    else:
        _say(report, outcomes)
    bad = any(one.status != "finished" for one in outcomes) or any("why" in one for one in published.values())
    raise typer.Exit(1 if bad else 0)


def _carry_out(
    items: "list[Item]", jobs: int, job_words: list[str], target: list[str] | None, as_json: bool
) -> "tuple[list[Outcome], dict[str, dict[str, Any]]]":
    """Run what is not finished and publish it where there is a `target`: how each ended, and what became public.

    With `job_words` each run is a job, which publishes by itself.
    """
    from rich.console import Console

    from zoo.sweep.sweep import carry_out

    console = Console(stderr=as_json)
    extra = [*job_words, *(target or [])] if job_words else []
    with View(console, items) as view:
        outcomes = carry_out(items, jobs, extra, view.watch)
    return outcomes, {} if job_words or target is None else _publish(outcomes, target, console)


class View:
    """All runs at once: a bar for each that is at work and one for the whole; without a terminal a line an event."""

    def __init__(self, console: "Console", items: "list[Item]"):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

        self.console = console
        self.items = items
        shown = console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"),
            console=console, disable=not shown,
        )  # fmt: skip
        self.whole = self.progress.add_task("[bold]sweep", total=len(items) or None, said="")
        self.tasks: dict[str, Any] = {}
        self.count = MofNCompleteColumn()
        self.ended: dict[str, str] = {}

    def __enter__(self) -> "View":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def watch(self, item: "Item", status: str, row: dict[str, Any]) -> None:
        """What `carry_out` tells."""
        known = item.name in self.tasks
        if not known and status == "running":
            total = item.planned.tokens if item.planned else None
            self.tasks[item.name] = self.progress.add_task(item.name, total=total, said="starting")
        if status == "running":
            if row:
                said = f"{row['tokens']:,} tokens, held-out {row['loss']:.4f}"
                self.progress.update(self.tasks[item.name], completed=row["tokens"], said=said)
            elif not known:
                self._line(f"{item.name}: {'goes on' if item.status == 'unfinished' else 'starts'}")
            return
        if known:
            self.progress.remove_task(self.tasks.pop(item.name))  # a tuning lets it run again
        self.ended[item.name] = status
        bad = sum(one != "finished" for one in self.ended.values())
        of = f" of {len(self.items)}" if self.items else ""  # a tuning learns on its way how many there are
        said = f"{len(self.ended)}{of} done" + (f", {bad} failed" if bad else "")
        self.progress.update(self.whole, completed=len(self.ended), said=said)
        self._line(f"{item.name}: {status if known or status == 'failed' else _before(item)}{_loss(row)}")

    def _line(self, words: str) -> None:
        self.console.print(words, highlight=False, markup=False, soft_wrap=True)


def _before(item: "Item") -> str:
    return f"refused: {item.why}" if item.status == "refused" else "was finished before"


def _loss(row: dict[str, Any]) -> str:
    return f", held-out {row['loss']:.4f} after {row['tokens']:,} tokens" if row else ""


def listing(items: "list[Item]", gpu: str) -> str:
    """The plan for people: every run, how it stands and what it costs; then the sum and where the figures are from."""
    from leaderboard.planning.gpus import ORIGIN

    width = max(len(item.name) for item in items)
    lines, hours, money = [], 0.0, 0.0
    for item in items:
        cost = item.cost(gpu)
        said = item.why
        if item.planned is not None:
            said = f"{item.planned.tokens:>15,} tokens"
            figures = f"  {words.time(cost[0]):>14s}  {words.price(cost[1])}" if cost else ""
            said += figures or "  cost known once its model is downloaded"
        if cost and item.status in ("new", "unfinished"):
            hours, money = hours + cost[0], money + cost[1]
        lines.append(f"{item.name:{width}s}  {item.status:10s}  {said}")
    lines.append(f"To do: {words.time(hours)} of one {gpu}, {words.price(money)}. {ORIGIN}.")
    return "\n".join([*lines, "Dry run: nothing was started."])


def _card(on: str | None, gpu: str) -> str:
    if on is None:
        return gpu
    from zoo.jobs.request import flavor_of

    return flavor_of(on).gpu


def _job_words(on: str | None, wheel: str | None) -> list[str]:
    """Options that send each run to Hugging Face Jobs; refuses now what every job would be refused for."""
    if on is None:
        return []
    from zoo.jobs.request import job_dependency

    job_dependency(wheel)
    return ["--on", on, "--wheel", str(wheel)]


def _target(to: str | None, logs: str | None, licence: str | None, publish: bool, dry_run: bool) -> list[str] | None:
    """Options for `p2zoo publish`, the user's own name where none is given; None where nothing will be published."""
    if not publish and (to or logs or licence):
        raise P2Error("p2zoo sweep: --to, --logs and --license go with --publish; add it, or drop them.")
    if not publish or dry_run:
        return None
    if to is None:
        from leaderboard.logs.hub_errors import Patience
        from zoo.endpoint import hub

        to = str(Patience()("sweep --publish: signing in", lambda: hub(None).whoami()["name"]))
    return ["--to", to, *(["--logs", logs] if logs else []), *(["--license", licence] if licence else [])]


def _publish(outcomes: "list[Outcome]", target: list[str], console: "Console") -> dict[str, dict[str, Any]]:
    """Publish what is finished, each in its own process; what the Hub already has is left as it is."""
    from zoo import fresh

    done: dict[str, dict[str, Any]] = {}
    for one in outcomes:
        if one.status != "finished" or one.item.pretrains:  # a base model is published by hand, under a licence
            continue
        ended = fresh.run("zoo.cli:main", ["publish", str(one.item.folder), *target, "--json"])
        if ended.returncode:
            why = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            done[one.item.name] = {"why": f"not published: {why}"}
        else:
            done[one.item.name] = {"published": json.loads(ended.stdout)}
        words = done[one.item.name].get("why") or f"published as {done[one.item.name]['published']['url']}"
        console.print(f"{one.item.name}: {words}", highlight=False, markup=False, soft_wrap=True)
    return done


def _report(outcomes: "list[Outcome]", folder: Path, name: str) -> Any:
    """(path, Report), or None where nothing finished."""
    finished = [one.item.folder for one in outcomes if one.status == "finished" and not one.item.pretrains]
    failed = {one.item.name: one.why for one in outcomes if one.status != "finished"}
    if not finished:
        return None
    try:
        from zoo.sweep.report import of_folders
        from zoo.sweep.report_page import write_page
    except ModuleNotFoundError as error:
        raise P2Error(f"sweep: {error.name} is missing; pip install 'p2zoo[train]'.") from error
    report = of_folders(finished, f"Sweep {name}", failed)
    return write_page(report, folder / "report.html"), report


def _print_json(report: Any, outcomes: "list[Outcome]", published: dict[str, dict[str, Any]]) -> None:
    """Every run, where the report is and what it says."""
    runs = [one.as_dict() | published.get(one.item.name, {}) for one in outcomes]
    said = {"report": str(report[0]), "summary": report[1].as_dict()} if report else {"report": None, "summary": None}
    print(json.dumps({"runs": runs, **said}, indent=2, default=str))


def _say(report: Any, outcomes: "list[Outcome]") -> None:
    from zoo.sweep.report import as_text

    if report is None:
        print("\n".join(f"{one.item.name}: failed: {one.why}" for one in outcomes))
        return
    print(as_text(report[1]))
    print(f"Report: {report[0]}")


def tune(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or a bundled name.")],
    rates: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Peak rates, e.g. 1e-4,3e-4,1e-3; default: 1/4 to 4 times the recipe's."),
    ] = None,
    tokens: Annotated[
        float | None,
        typer.Option(parser=count, metavar="COUNT", help="Of the last round; default: a tenth of the recipe's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the runs; default runs/tune-NAME.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    set_: Sets = None,
    corpus: Corpus = None,
    dry_run: DryRun = False,
    as_json: ResultJson = False,
) -> None:
    """Find a peak learning rate: short runs at several, the better half of them going on for twice the tokens.

    Writes winner.yaml, the recipe at the best rate, and tune.json; the runs and their logs stay beside them. The same
    command goes on with what was cut off.

    Example: `p2zoo tune quickstart/depth --tokens 16k --dry-run`
    """
    from zoo.recipe.catalog import find_recipe
    from zoo.sweep.tune import carry_out_tuning, plan_tuning

    path = find_recipe(recipe)
    folder = out or Path("runs") / f"tune-{path.parent.name}-{path.stem}"
    try:
        wanted = [float(rate) for rate in rates.split(",")] if rates else []
    except ValueError:
        raise P2Error(f"--rates: got {rates!r}, allowed are numbers with commas, e.g. 1e-4,3e-4,1e-3.") from None
    tuning = plan_tuning(path, folder, wanted, tokens, set_ or [], corpus and corpus.resolve())
    shown = {"rates": list(tuning.rates), "rounds": list(tuning.tokens), "trained_tokens": tuning.trained}
    if dry_run:
        rounds = ", ".join(f"{budget:,}" for budget in tuning.tokens)
        tried = ", ".join(f"{rate:g}" for rate in tuning.rates)
        people = f"rates   {tried}\nrounds  of {rounds} tokens\ntrained {tuning.trained:,} tokens in all, into {folder}"
        print(json.dumps(shown | {"out": str(folder)}, indent=2) if as_json else people)
        return
    from rich.console import Console

    with View(Console(stderr=as_json), []) as view:
        said = carry_out_tuning(tuning, jobs, view.watch)
    print(json.dumps(said, indent=2) if as_json else tuned(said))


def tuned(said: dict[str, Any]) -> str:
    """The tuning for people: every rate in every round, and what came out."""
    lines = ["  tokens  peak rate  held-out"]
    for row in said["runs"]:
        loss = "failed: " + str(row["why"]) if row["loss"] is None else f"{row['loss']:.4f}"
        lines.append(f"{row['tokens']:>8,}  {row['lr_peak']:<9g}  {loss}{'' if row['kept'] else '  dropped'}")
    lines.append(f"Best: {said['lr_peak']:g}, {said['loss']:.4f} after {said['tokens']:,} tokens: {said['winner']}")
    if said["edge"]:
        lines.append(f"It is the {said['edge']} rate that was tried: the best may lie beyond it.")
    return "\n".join([*lines, "One seed each: rates whose losses differ by less than two seeds do are not told apart."])
