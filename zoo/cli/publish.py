"""`p2zoo publish|models|pull`: put a run on the Hub, list what is there, fetch one and check it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard.errors import P2Error, RunFailed
from zoo.amounts import machine_time, short_count
from zoo.cli.options import Endpoint
from zoo.endpoint import hub, use_endpoint

if TYPE_CHECKING:
    import pandas as pd

    from zoo.publish.publish import Plan, Standing

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def publish(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run.")],
    to: Annotated[str, typer.Option(metavar="NAMESPACE", help="Your Hub name, or an organization of yours.")],
    logs: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Log data set to open a pull request on; else the model only.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; default: base, method and rate.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence of a base model that p2zoo does not know.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new model repository private.")] = False,
    tasks: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Measure these lm-eval tasks first, for the card: a,b,own.yaml")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List every file and commit, and stop.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Publish a run: its model to a repository of its own, its log as a pull request under CC-BY-4.0.

    Cut off? Run it again: what is already there is left as it is.

    Examples:

    - `p2zoo publish runs/quickstart/depth --to me --logs org/p2-logs --dry-run`

    - `p2zoo publish runs/quickstart/depth --to me --logs org/p2-logs --tasks arc_easy,hellaswag`
    """
    api = hub(endpoint)
    from zoo.publish.publish import look, plan
    from zoo.publish.publish import publish as carry_out

    if tasks and not dry_run:
        _measure(run_dir, tasks)
    planned = plan(run_dir, to, logs, private=private, licence=license_, name=name)
    if dry_run:
        there = look(api, planned)
        print(json.dumps(planned.as_dict(there), indent=2) if as_json else listing(planned, there))
        return
    done = carry_out(api, planned)
    if as_json:
        print(json.dumps(done.as_dict(), indent=2))
        return
    print(f"model         {done.url} at {done.revision[:12]}")
    print(f"pull request  {done.pull}: {done.log}" if done.pull else "no --logs given: only the model was published")


def _measure(run_dir: Path, tasks: str) -> None:
    from zoo.publish.benchmarks import measure
    from zoo.run.finished import read_run

    read_run(run_dir)  # refuses what is no finished run before anything is measured
    measure(run_dir, [name.strip() for name in tasks.split(",") if name.strip()])


def listing(planned: "Plan", there: "Standing") -> str:
    """Every commit of a plan with its files, for people."""
    described = planned.as_dict(there)
    lines = [f"licence  {described['licence']}, inherited from {planned.run.columns['base_model']}"]
    for number, commit in enumerate(described["commits"], 1):
        kind = "pull request" if commit.get("pull_request") else "commit"
        lines.append(f"{number}. {kind} on {commit['type']} {commit['repo']}: {commit['message']}")
        done = commit["published"]
        for name, size in commit["files"].items():
            lines.append(f"     {size:>13,} bytes  {name}{'  (published already)' if name in done else ''}")
    if there.user is None:
        lines.append(f"What is published already, and your Hub name, are not known: {there.why}")
    return "\n".join([*lines, "Nothing was sent."])


def models(
    logs: Annotated[
        str | None, typer.Argument(help="File, folder or Hub dataset id of run logs; default: bundled seed.")
    ] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """List published models; `*` marks those that no other beats in size and loss on one held-out text.

    Examples: `p2zoo models org/p2-logs`, `p2zoo models org/p2-logs --json`
    """
    use_endpoint(endpoint)
    from leaderboard.logs.load import load_logs
    from leaderboard.serving.models import hub_metadata, models_table

    read = load_logs(logs)
    table = models_table(read.frame)
    if len(table):
        table = table.join(hub_metadata(table["model"], hub(endpoint)), on="model")
    if as_json:
        print(json.dumps({"source": read.source, "revision": read.revision, "models": _records(table)}, indent=2))
    elif table.empty:
        print(f"{read.source}: no log here names a published model.")
    else:
        _show(table)


def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id of a model that p2zoo published.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; default: the model's name.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also measure its held-out loss again.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Download a published model and compare it with its card: exit 1 when they differ.

    Examples: `p2zoo pull me/tiny-llama-3-depth-0.13 --verify`
    """
    api = hub(endpoint)
    folder = out or Path(model.rstrip("/").split("/")[-1])
    try:
        from zoo.progress import stage

        with stage("loading PyTorch"):
            from zoo.publish.pull import check_model, download
        print(f"downloading {model} ...", file=sys.stderr)  # with the bars of the Hub's client
        downloaded = download(api, model, folder, revision)
        checks = check_model(downloaded, measure=verify)
    except ModuleNotFoundError as error:
        raise P2Error(f"pull: {error.name} is missing; pip install 'p2zoo[train]'.") from error
    if as_json:
        print(json.dumps({"model": model, "folder": str(folder), "checks": [vars(c) for c in checks]}, indent=2))
    else:
        for c in checks:
            word = {True: "ok", False: "DIFFERS", None: "unknown"}[c.ok]
            print(f"{word:8s} {c.what}: the card says {c.claimed}, found {c.found}")
    if bad := [c.what for c in checks if c.ok is False]:
        raise RunFailed(f"pull: {folder} is not what its card says: {', '.join(bad)}.")
    print(
        f"{folder}: AutoModelForCausalLM.from_pretrained({str(folder)!r})", file=sys.stderr if as_json else sys.stdout
    )


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as JSON has them: what is missing is null."""
    from leaderboard.serving.models import snippet

    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", date_format="iso", double_precision=15))
    return [row | {"snippet": snippet(row["model"], row["revision"])} for row in rows]


def _show(table: "pd.DataFrame") -> None:
    """A row a model, then how to load each."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from leaderboard.serving.models import snippet

    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "model", "size", "l0", "loss", "won", "tokens", "GPU time"):
        left = name in ("", "model")  # a long name goes on in the next line, nothing is cut
        shown.add_column(name, justify="left" if left else "right", no_wrap=name != "model", overflow="fold")
    for row in table.to_dict("records"):
        cells = [row["model"], short_count(row["parameters"]), _number(row["l0"], ".4f"), _number(row["loss"], ".4f")]
        rest = [_number(row["recovered"], ".0%"), short_count(row["tokens"]), machine_time(row["gpu_hours"])]
        shown.add_row("*" if row["pareto"] else "", *cells, *rest)
    Console().print(shown)
    print("size: parameters that are not zero; won: share of the damage won back; *: none is smaller and better.")
    for row in table.to_dict("records"):
        print(snippet(row["model"], row["revision"] if isinstance(row["revision"], str) else None))


def _number(value: Any, form: str) -> str:
    return format(value, form) if value == value and value is not None else ""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (publish, models, pull):
        app.command()(command)
