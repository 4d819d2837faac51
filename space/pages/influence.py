"""A part of the page of the laws: of each group the run, and the contributor, without which its budget changes most."""

import gradio as gr

from leaderboard import words
from leaderboard.serving.board import Board
from leaderboard.studies.influence import most_telling
from space.parts import look
from space.parts.table import Column, number, records, table
from space.server.store import Store

WHAT = """
<h2>What do answers hang on?</h2>
<p>Tokens from which a doubling wins less than .01 nats, for a group's largest model at its highest rate: with all runs,
and without the run, or the contributor, that matters most. It says where a second run would help, not who is wrong.</p>
"""


def draw(store: Store, demo: gr.Blocks) -> None:
    """The heading and the table, which is worked out when the page is first opened."""
    gr.HTML(WHAT)
    shown = gr.HTML('<p class="empty">Answering without each run…</p>', elem_id="influence")
    demo.load(lambda: look.warned(lambda: _table(store.board)), outputs=shown, **look.QUIET)


def _table(board: Board) -> str:
    rows = records(most_telling(board.influence))
    columns = (
        Column("Family", "family"), Column("Method", "method"), Column("Held-out text", "eval_data"),
        Column("Without the", "left_out"), Column("", "name"), number("Tokens", "tokens", words.count),
        number("Without it", "tokens_without", words.count), number("Times", "factor", lambda value: f"{value:.2f}"),
    )  # fmt: skip
    return table(columns, rows, "What answers hang on", empty="There is one run only.")
