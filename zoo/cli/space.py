"""`p2zoo space`: the leaderboard's web page, here or on the Hub."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from leaderboard.errors import P2Error
from zoo.cli.options import Endpoint
from zoo.endpoint import hub, use_endpoint

if TYPE_CHECKING:
    from zoo.publish.space import Plan

NEEDED = ("space", "gradio", "mcp", "plotly", "latex2mathml")
app = typer.Typer(help="Serve the leaderboard's web page, or put it on the Hub.")


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    logs: Annotated[
        str | None, typer.Option(envvar="P2ZOO_LOGS", help="File, folder or Hub dataset id; default: bundled seed.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 7860,
    refresh: Annotated[int, typer.Option(metavar="SECONDS", help="How often to read the logs again.", min=1)] = 600,
    endpoint: Endpoint = None,
) -> None:
    """Serve the leaderboard's web page until interrupted.

    Examples: `p2zoo space`, `p2zoo space --logs org/p2-logs --port 8080`
    """
    if context.invoked_subcommand is not None:
        return
    require_space()
    use_endpoint(endpoint)
    command = [sys.executable, "-m", "space", "--host", host, "--port", str(port), "--refresh", str(refresh)]
    try:
        ended = subprocess.run([*command, *(["--logs", logs] if logs else [])], check=False)
    except KeyboardInterrupt:  # it reaches the child too
        raise typer.Exit(0) from None
    raise typer.Exit(ended.returncode)


@app.command()
def deploy(
    space: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Hub id of the Space; made if absent.")],
    logs: Annotated[str, typer.Option(metavar="DATASET", help="Hub id of the log dataset that it shows.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List files and settings, and stop.")] = False,
    endpoint: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put the web page on the Hub as a Space; run again it sends only what differs.

    The webhook's secret is taken from P2ZOO_WEBHOOK_SECRET, where that is set.

    Example: `p2zoo space deploy org/p2zoo --logs org/p2-logs --dry-run`
    """
    require_space()
    api = hub(endpoint)
    from zoo.publish.space import deploy as carry_out
    from zoo.publish.space import plan

    planned = plan(space, logs, private, os.environ.get("P2ZOO_WEBHOOK_SECRET") or None)
    if dry_run:
        print(json.dumps(planned.as_dict(), indent=2) if as_json else listing(planned))
        return
    done = carry_out(api, planned)
    if as_json:
        print(json.dumps(vars(done), indent=2))
        return
    what = f"{len(done.changed)} file(s) sent" if done.changed else "up to date"
    print("\n".join([f"{done.url} at {done.revision[:12]}: {what}", *done.notes]))


def listing(planned: "Plan") -> str:
    """A plan for people."""
    described = planned.as_dict()
    lines = [f"{'private ' if planned.private else ''}Space {planned.space}, one commit:"]
    lines += [f"  {size:>11,} bytes  {name}" for name, size in described["files"].items()]
    lines += [f"variable {key}={value}" for key, value in described["variables"].items()]
    lines += [f"secret {key}" for key in described["secrets"]]
    lines += [f"volume {v['type']} {v['source']} at {v['mountPath']}" for v in described["volumes"]]
    return "\n".join([*lines, "Nothing was sent."])


def require_space() -> None:
    """Refuse clearly where the extra is not installed."""
    if missing := [name for name in NEEDED if not _installed(name)]:
        raise P2Error(f"space: {', '.join(missing)} not installed; pip install 'p2zoo[space]'.")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
