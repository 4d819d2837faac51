"""Models: the published pruned models, their Pareto front, and how to load one."""

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from leaderboard import words
from leaderboard.logs.methods import CONTROL
from leaderboard.serving.board import Board
from leaderboard.serving.models import snippet
from space.pages.contribute import commands
from space.parts import figures, links, look
from space.parts.run import HUB
from space.parts.table import Column, number, records, table
from space.server.store import Store

COLUMNS = (
    Column("Model", "link", str), Column("Base model", "base_model"), Column("Method", "method"),
    number("Rate", "rate", words.share), number("Non-zero parameters", "parameters", words.count),
    number("Before pruning", "l0", words.loss, more=True), number("Right after", "l_pruned", words.loss, more=True),
    number("Final loss", "loss", words.loss),
    number("Recovered", "recovered", words.share, "share of the damage that was won back"),
    number("Tokens", "tokens", words.count), number("GPU-hours", "gpu_hours", words.number, more=True),
    Column("Contributor", "contributor", more=True), Column("Held-out text", "eval_data", more=True),
    Column("Run", "name", links.run),
)  # fmt: skip
DEFAULTS: dict[str, Any] = {"search": "", "model": ""}


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    with gr.Row():
        search = gr.Textbox(label="Search", placeholder="any name", elem_id="search")
        model = gr.Dropdown([], label="Load", elem_id="model", allow_custom_value=True)
    listed = gr.HTML(elem_id="models", min_height=120)
    address = links.address()
    load = gr.HTML(elem_id="snippet")
    with gr.Column(visible=False, elem_classes="figure") as figure:
        plot = gr.Plot(show_label=False, elem_id="pareto-plot")
        caption = gr.HTML(elem_classes="caption")
    inputs = [search, model]

    def shown(state: links.Values) -> list[Any]:
        return [_table(store.board, state), _load(store.board, state["model"]), links.query(state, DEFAULTS)]

    def opened(request: gr.Request) -> list[Any]:
        state = links.read(request, DEFAULTS)
        names = list(store.board.models["model"])
        state["model"] = state["model"] if state["model"] in names else (names[0] if names else "")
        any_ = bool(names)  # nothing to search or choose otherwise
        found = gr.update(value=state["search"], visible=any_)
        return [found, gr.update(choices=names, value=state["model"], visible=any_), *shown(state)]

    def asked(*values: Any) -> list[Any]:
        return shown(dict(zip(DEFAULTS, values, strict=True)))

    outputs = [listed, load, address]
    drawn = {"fn": lambda: _picture(store.board), "outputs": [figure, plot, caption], **look.QUIET}
    demo.load(opened, outputs=[*inputs, *outputs], **look.QUIET).then(**drawn)
    gr.on([part.input for part in inputs], asked, inputs, outputs, trigger_mode="always_last", **look.QUIET)


def _link(row: dict[str, Any]) -> str:
    name = words.text(row["model"])
    return f'<a href="{HUB}/{name}">{name}</a>'


def _table(board: Board, state: links.Values) -> str:
    models = board.models
    if models.empty:
        return _first(board)
    said = ""
    if state["search"] and len(models):
        every = models[["model", "base_model", "method", "contributor", "run_id"]].astype(str).agg(" ".join, axis=1)
        models = models[every.str.contains(state["search"], case=False, regex=False)]
        said = f"No model matches the search {state['search']!r}; {len(board.models)} are there without it."
    texts = models["eval_data"].astype(str)
    most = texts.map(-texts.value_counts())  # losses compare within a text, that of most models stands first
    rows = records(models.assign(most=most, text=texts).sort_values(["most", "text", "loss"], na_position="last"))
    for row in rows:
        row |= {"link": _link(row), "name": f"{row['contributor']}/{row['run_id']}"}
    return table(
        COLUMNS, rows, "Published models", empty=said, marked=lambda row: bool(row["pareto"]), whole="models"
    )  # fmt: skip


def _first(board: Board) -> str:
    """What an empty zoo shows: a row as it will be, of a run without a model, and the commands that make the first."""
    run = records(board.runs[board.runs["method"] != CONTROL].head(1))[0]
    nonzero = run["n0"] * (1 - run["rate"])
    row = run | {"link": "your-hub-name/your-model", "parameters": nonzero, "gpu_hours": None}
    return (
        '<p class="empty" role="status">No model is published yet. A row will look like this one:</p>'
        f'<div class="example">{table(COLUMNS, [row], "Example of a published model")}</div>'
        f"<h2>Publish the first</h2>{commands(board)}"
    )


def _load(board: Board, model: str) -> str:
    own = board.models[board.models["model"] == model]
    if own.empty:
        return ""
    code = f"from transformers import AutoModelForCausalLM\n\nmodel = {snippet(model, own['revision'].iloc[0])}"
    return f"<h2>Load it</h2><pre tabindex=0><code>{words.text(code)}</code></pre>"


def _picture(board: Board) -> tuple[Any, go.Figure | None, str]:
    measured = board.models[board.models["loss"].notna()]
    if measured.empty:
        return gr.update(visible=False), None, ""
    text = measured["eval_data"].value_counts().index[0]
    own = measured[measured["eval_data"] == text]
    caption = f"Final loss on {text} against non-zero parameters; the line joins the models that none beats in both."
    return gr.update(visible=True), figures.pareto(own), f"<p>{words.text(caption)}</p>"
