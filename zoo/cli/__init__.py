"""The `p2zoo` command. A command's module imports heavy things inside the command, so `--help` is quick."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from leaderboard.errors import P2Error
from zoo.cli import (
    dataset,
    evidence,
    forecast,
    hub,
    importing,
    leaderboard,
    model,
    plan,
    pretrain,
    publish,
    run,
    show,
    space,
    sweep,
)
from zoo.cli.options import Endpoint
from zoo.endpoint import spare_loopback, use_endpoint

app = typer.Typer(
    name="p2zoo",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"p2zoo {version('p2zoo')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which p2zoo this is.")]


@app.callback()
def root(endpoint: Endpoint = None, version: Version = False) -> None:
    """How many post-training tokens does a pruned LLM need? Prune, post-train, log, fit, rank, ask for a budget."""
    use_endpoint(endpoint)
    spare_loopback()
    if not sys.stderr.isatty():  # before the Hub's client is imported, which reads it then
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def main() -> None:
    """Run a command; an error the user can mend is one message, not a traceback."""
    try:
        app(prog_name="p2zoo")
    except P2Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


app.add_typer(hub.app, name="hub")
app.add_typer(dataset.app, name="dataset")
app.add_typer(space.app, name="space")
leaderboard.register(app)
plan.register(app)
forecast.register(app)
app.command()(evidence.evidence)
importing.register(app)
app.command()(run.run)
app.command()(pretrain.pretrain)
app.command()(sweep.sweep)
app.command()(sweep.tune)
app.add_typer(run.recipes, name="recipes")
app.command()(model.check_load)
app.command()(model.bench_sparse)
publish.register(app)
show.register(app)
