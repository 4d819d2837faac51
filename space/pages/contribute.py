"""Contribute: how to send a run, which runs would help most, and a box that checks a log and sends it."""

import os
from pathlib import Path
from typing import Any

import gradio as gr
from huggingface_hub import HfApi

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.logs.check import MAX_BYTES
from leaderboard.logs.findings import CLEAN, UNUSUAL, WRONG, Finding
from leaderboard.planning.wanted import offers, offers_words
from leaderboard.serving.board import Board
from leaderboard.serving.judge import judged as whole_verdict
from space.parts import look
from space.parts.table import Column, number, table
from space.server import uploads
from space.server.store import Store

SHOWN = 8  # wanted runs
COMMANDS = """
<pre tabindex="0"><code># minutes on a CPU; the real recipes want a GPU
p2zoo run quickstart/depth --set contributor=your-hub-name
p2zoo check runs/quickstart-depth
p2zoo publish runs/quickstart-depth --to your-hub-name --logs {logs}</code></pre>
"""
HOW = """
<h2>Run, look, send</h2>
{commands}
<p><code>publish</code> uploads the model to a repository of yours and opens one pull request with its loss log. A
maintainer merges it once the check is clean, and the run is on this board at the next refresh. Logs are published
under CC-BY-4.0; you can correct or withdraw your own.</p>
"""


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    gr.HTML(HOW.format(commands=commands(store.board)))
    gr.HTML(
        "<h2>Check a log</h2><p>A <code>log.parquet</code> from a run folder is judged as a pull request would be. "
        "It stays on this server only while it is judged.</p>"
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            box = gr.File(label="log.parquet", file_types=[".parquet"], elem_id="log", height=150)
            sign_in = os.environ.get("OAUTH_CLIENT_ID") is not None
            if sign_in:
                gr.LoginButton("Sign in with Hugging Face", elem_id="login")
            send = gr.Button(
                "Open the pull request", interactive=False, variant="primary", elem_id="send", visible=sign_in
            )
        with gr.Column(scale=2, min_width=300):
            findings = gr.HTML(elem_id="findings", min_height=60)
            sent = gr.HTML(elem_id="sent")
    gr.HTML(
        "<h2>Most wanted runs</h2><p>Runs that would narrow the token budgets most, by optimal design on the laws "
        "that answer budgets. <em>Narrower</em> is by how much intervals of that family and method would shrink.</p>"
    )
    wanted = gr.HTML(elem_id="wanted", min_height=200)

    def judged(path: str | None) -> list[Any]:
        html, fine = judge(path, store.board)
        hint = "" if fine and sign_in else _hint(store.board) if fine else ""
        return [html, gr.update(interactive=fine and sign_in and bool(store.board.logs.dataset)), hint]

    box.change(judged, box, [findings, send, sent], **look.QUIET)
    if sign_in:

        def submitted(path: str | None, token: gr.OAuthToken | None) -> str:
            return open_pull(store.board, path, token.token if token else None)

        send.click(submitted, box, sent, api_visibility="private")
    demo.load(lambda: look.warned(lambda: _wanted(store.board)), outputs=wanted, **look.QUIET)


def commands(board: Board) -> str:
    """The three commands that bring a run onto this board (HTML)."""
    return COMMANDS.format(logs=words.text(board.logs.dataset or "ORG/DATASET"))


def judge(path: str | None, board: Board) -> tuple[str, bool]:
    """Findings of an uploaded log as HTML, and whether it may be sent. What a log says is shown as text only."""
    if not path:
        return "", False
    if not Path(path).is_file():
        return '<p class="warning" role="alert">The file is no longer here; drop it again.</p>', False
    if Path(path).stat().st_size > MAX_BYTES:
        uploads.delete(path)
        return f'<p class="warning" role="alert">The file is larger than {MAX_BYTES // 1_000_000} MB.</p>', False
    try:
        with uploads.place():
            (report,) = whole_verdict([Path(path)], board.frame, ["log.parquet"])
    except P2Error as error:
        return f'<p class="warning" role="alert">{words.text(error)}</p>', False
    if not report.ok:
        uploads.delete(path)
    columns = (
        Column("", "severity"), Column("What", "code"), Column("Where", "where"), Column("Got", "got"),
        Column("Allowed", "allowed"), Column("What to do", "fix"),
    )  # fmt: skip
    said = {
        CLEAN: "The log is clean.",
        UNUSUAL: "The log is unusual: it can be sent, and waits for a person.",
        WRONG: "The log has errors and would be refused.",
    }[report.verdict]
    rows = [_plain(finding) for finding in report.findings]
    kind = "good" if report.verdict == CLEAN else "warning"
    return f'<p class="{kind}" role="status">{said}</p>' + (table(columns, rows, "Findings") if rows else ""), report.ok


def _plain(finding: Finding) -> dict[str, str]:
    return {name: str(value) for name, value in vars(finding).items()}


def open_pull(board: Board, path: str | None, token: str | None) -> str:
    """Send an uploaded log in the name of who is signed in; HTML of what came of it."""
    from leaderboard.logs.submit import submit

    dataset = board.logs.dataset
    try:
        if token is None:
            raise P2Error("Sign in first: the pull request is opened in your name.")
        if path is None or dataset is None:
            raise P2Error(
                "Choose a log first." if dataset else "This board reads files, so there is nowhere to send to."
            )
        pull = submit(HfApi(token=token), dataset, Path(path))
    except P2Error as error:
        return f'<p class="warning" role="alert">{words.text(error)}</p>'
    url = words.text(pull.url)
    return f'<p class="good" role="status">Sent: <a href="{url}">pull request {pull.num}</a>. It is checked next.</p>'


def _hint(board: Board) -> str:
    dataset = board.logs.dataset
    where = f" --logs {dataset}" if dataset else ""
    return f"<p>Send it from your machine: <code>p2zoo publish RUN_FOLDER --to YOUR_NAME{words.text(where)}</code></p>"


def _wanted(board: Board) -> str:
    rows = offers(board.wanted)[:SHOWN]
    for row in rows:
        row["lines"] = "<br>".join(f"<code>{words.text(line)}</code>" for line in row["commands"])
    columns = (
        Column("Base model", "base"), Column("Method", "method"), number("Rate", "rate", words.share),
        number("Tokens", "tokens", words.count), number("Narrower", "narrower", words.share),
        number("GPU time", "gpu_hours", words.time), Column("New", "new", wrap=True),
        Column("Commands", "lines", str, wrap=True), Column("Group", "group", wrap=True),
    )  # fmt: skip
    return f"<p>{words.text(offers_words(board.wanted))}</p>" + table(columns, rows, "Most wanted runs")
