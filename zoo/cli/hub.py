"""`p2zoo hub`: a Hugging Face Hub on this machine, for development and tests."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from leaderboard.errors import P2Error

app = typer.Typer(help="A Hugging Face Hub on this machine, for development and tests.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `serve` a subcommand although it is the only one."""


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the hub keeps its state; made if absent.")],
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8123,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:TOKEN", envvar="P2ZOO_HUB_USERS", help="A user; may be given several times."),
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="POST every change to this address.")] = None,
    webhook_secret: Annotated[
        str, typer.Option(envvar="P2ZOO_WEBHOOK_SECRET", help="Sent with it as X-Webhook-Secret.")
    ] = "",
) -> None:
    """Serve the folder as a Hub until interrupted."""
    from zoo.devhub import require_server

    require_server()
    from zoo.devhub import server
    from zoo.devhub.webhook import Webhook

    hook = Webhook(webhook, webhook_secret) if webhook else None
    users = parse_users(user or [])
    server.run(folder, users, hook, host=host, port=port, greet=lambda url: greet(url, users))


def parse_users(given: list[str]) -> dict[str, str]:
    """Names and tokens from NAME:TOKEN; the message never repeats what may be a token."""
    users: dict[str, str] = {}
    for number, text in enumerate(given, 1):
        name, colon, token = text.partition(":")
        if not colon:
            raise P2Error(f"--user number {number}: expected NAME:TOKEN, found no colon.")
        if name in users:
            raise P2Error(f"--user: {name!r} is given twice; one token a user.")
        users[name] = token
    return users


def greet(url: str, users: dict[str, str]) -> None:
    """Say what this is, and the line that signs a client in: on a terminal one a user with the token in it; elsewhere
    none goes to a log, and the line asks for it."""
    print("A Hub for development and tests, no production server: no TLS, no quotas, one process.")
    if not url.startswith("http://127."):
        print("It listens beyond this machine: whoever reaches the port can read every public repository.")
    where = f"export HF_ENDPOINT={url} HF_HUB_DISABLE_XET=1"
    if not sys.stdout.isatty():
        print("In another terminal, this line and then the token of a user sign in:")
        print(f"{where} && read -rs HF_TOKEN && export HF_TOKEN", flush=True)
        return
    for name, token in users.items():
        print(f"In another terminal, sign in as {name}:")
        print(f"{where} HF_TOKEN={shlex.quote(token)}", flush=True)
