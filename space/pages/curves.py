"""Curves: every run, filtered and searched; measured against predicted, residuals; and one run with where it is from."""

import json
from typing import Any

import gradio as gr
import pandas as pd
import plotly.graph_objects as go

from leaderboard.board import Board
from leaderboard.errors import P2Error
from leaderboard.laws import LAWS
from leaderboard.runs import FACETS, Filtered, filter_runs
from space import figures, links, look, words
from space.store import Store
from space.table import Column, facts, number, table

ANY = "any"
PAGE = 200  # rows shown at first
VIEWS = {"curves": "Measured and predicted", "residuals": "Measured less predicted"}
DEFAULTS: dict[str, Any] = {
    "search": "", "family": ANY, "method": ANY, "base_model": ANY, "contributor": ANY, "eval_data": ANY,
    "rate_from": 0.0, "rate_to": 1.0, "law": "capacity-damage", "view": "curves", "run": "", "all": "",
}  # fmt: skip
FILTERS = ("search", *FACETS, "rate_from", "rate_to")


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    look.title(
        "Every run's loss curve", "Held-out loss over post-training tokens, as measured and as a law predicts it."
    )
    with gr.Row():
        search = gr.Textbox(label="Search", placeholder="any name or run id", elem_id="search", min_width=160)
        facets = [
            gr.Dropdown([ANY], value=ANY, label=label, elem_id=name, min_width=130)
            for name, label in zip(FACETS, ("Family", "Method", "Base model", "Contributor", "Text"), strict=True)
        ]
    with gr.Row():
        low = gr.Slider(0, 1, 0, step=0.01, label="Rate from", elem_id="rate_from", min_width=160)
        high = gr.Slider(0, 1, 1, step=0.01, label="Rate to", elem_id="rate_to", min_width=160)
        law = gr.Dropdown(list(LAWS), value=DEFAULTS["law"], label="Law drawn", elem_id="law", min_width=160)
        view = gr.Radio([(name, key) for key, name in VIEWS.items()], value="curves", label="Picture", elem_id="view")
    run, every = gr.Textbox(visible=False), gr.Textbox(visible=False)
    one = gr.HTML(elem_id="run")
    with gr.Column(visible=False, elem_classes="figure") as one_figure:
        one_plot = gr.Plot(show_label=False, elem_id="run-plot")
        one_caption = gr.HTML(elem_classes="caption")
    listed = gr.HTML(elem_id="runs", min_height=300)
    with gr.Row():
        more = gr.Button("Show all runs", visible=False, size="sm", elem_id="more")
        address = links.address()
    with gr.Column(elem_classes="figure wide"):
        plot = gr.Plot(show_label=False, elem_id="curves-plot")
        caption = gr.HTML(elem_classes="caption")
    inputs = [search, *facets, low, high, law, view, run, every]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def state_of(values: tuple[Any, ...]) -> links.Values:
        return dict(zip(DEFAULTS, values, strict=True))

    def shown(state: links.Values) -> list[Any]:
        rows, html = _rows(store.board, state)
        hidden = len(rows) > PAGE and not state["all"]
        return [html, gr.update(visible=hidden, value=f"Show all {len(rows):,} runs"), links.query(state, DEFAULTS)]

    def opened(request: gr.Request) -> list[Any]:
        state = links.read(request, DEFAULTS)
        table_ = store.board.runs
        boxes = []
        for name in FACETS:
            choices = [ANY, *sorted(table_[name].unique())]
            state[name] = state[name] if state[name] in choices else ANY
            boxes.append(gr.update(choices=choices, value=state[name]))
        state["law"] = state["law"] if state["law"] in LAWS else DEFAULTS["law"]
        state["view"] = state["view"] if state["view"] in VIEWS else "curves"
        rest = [state[name] for name in ("rate_from", "rate_to", "law", "view", "run", "all")]
        return [state["search"], *boxes, *rest, *shown(state), _one(store.board, state["run"])]

    def asked(*values: Any) -> list[Any]:
        return shown(state_of(values))

    def drawn(*values: Any) -> list[Any]:
        state = state_of(values)
        return [*_picture(store.board, state), *_one_picture(store.board, state)]

    def whole(*values: Any) -> list[Any]:
        state = {**state_of(values), "all": "1"}
        return ["1", *shown(state)]

    outputs = [listed, more, address]
    later = {"fn": drawn, "inputs": inputs, "outputs": [plot, caption, one_figure, one_plot, one_caption], **quiet}
    demo.load(opened, outputs=[*inputs, *outputs, one], **quiet).then(**later)
    gr.on([p.input for p in inputs[:-2]], asked, inputs, outputs, trigger_mode="always_last", **quiet).then(
        **later, trigger_mode="always_last"
    )
    more.click(whole, inputs, [every, *outputs], **quiet)


def _filtered(board: Board, state: links.Values) -> Filtered:
    chosen = {name: None if state[name] == ANY else state[name] for name in FACETS}
    low, high = state["rate_from"] or None, None if (state["rate_to"] or 1.0) >= 1 else state["rate_to"]
    return filter_runs(board.runs, search=state["search"] or "", rate_from=low, rate_to=high, **chosen)


_COLUMNS = (
    Column("Run", "run_id", lambda v: f'<a href="?run={words.text(v)}"><code>{words.text(v)}</code></a>'),
    Column("Base model", "base_model"), Column("Method", "method"), number("Rate", "rate", words.share),
    number("Parameters", "n_pruned", words.count, "kept"), number("Before", "l0", words.loss, "held-out loss before pruning"),
    number("Right after", "l_pruned", words.loss), number("Last", "loss", words.loss),
    number("Recovered", "recovered", words.share, "share of the damage won back"), number("Tokens", "tokens", words.count),
    Column("Contributor", "contributor"), Column("Date", "created_at", words.day),
)  # fmt: skip


def _rows(board: Board, state: links.Values) -> tuple[pd.DataFrame, str]:
    """The runs that pass, and their table; or the sentence that says which filter leaves none."""
    try:
        found = _filtered(board, state)
    except P2Error as error:
        return pd.DataFrame(), f'<p class="warning" role="alert">{words.text(error)}</p>'
    rows = found.rows
    few = rows if state["all"] else rows.head(PAGE)
    said = f"<p>{len(rows):,} of {len(board.runs):,} runs{'' if len(few) == len(rows) else f', the newest {PAGE} shown'}.</p>"
    html = table(_COLUMNS, few, "Runs", empty=found.words, marked=lambda row: row["run_id"] == state["run"])
    return rows, said * bool(len(rows)) + html


def _picture(board: Board, state: links.Values) -> tuple[go.Figure | None, str]:
    """Small multiples of the runs that pass: a panel a group."""
    try:
        found = _filtered(board, state).rows
    except P2Error:
        return None, ""
    pruned = found[found["method"] != "none"]
    if pruned.empty:
        return None, ""
    panels, left_out = figures.panels(board.frame, pruned)
    rows = board.frame.loc[panels["row"]].assign(panel=panels["panel"].to_numpy())
    rows = board.predicted(rows, state["law"])
    draw_ = figures.residuals if state["view"] == "residuals" else figures.curves
    what = "less predicted" if state["view"] == "residuals" else "(points) and predicted (lines)"
    caption = f"Measured {what} by {state['law']}, a panel for each family, method and text."
    caption += f" {left_out:,} further runs are not drawn; filter to see them." if left_out else ""
    return draw_(rows), f"<p>{words.text(caption)}</p>"


def _one(board: Board, run_id: str) -> str:
    """One run: where it is from and what it says."""
    if not run_id:
        return ""
    rows = board.run(run_id)
    if rows.empty:
        return f'<p class="warning" role="alert">No run {words.text(run_id)} is on this board.</p>'
    last = rows.iloc[-1]
    model = last["model_repo"]
    hub = (
        f'<a href="https://huggingface.co/{words.text(model)}">{words.text(model)}</a>'
        if not words.missing(model)
        else words.NONE
    )
    source = board.logs.source
    on_hub = source.count("/") == 1 and not source.startswith((".", "/"))
    path = f"runs/{last['contributor']}/{run_id}.parquet"
    log = (
        f'<a href="https://huggingface.co/datasets/{words.text(source)}/blob/main/{words.text(path)}">{words.text(path)}</a> · '
        f'<a href="https://huggingface.co/datasets/{words.text(source)}/discussions">pull requests</a>'
        if on_hub
        else words.text(path)
    )
    given = [
        ("Base model", words.text(last["base_model"])), ("at commit", _short(last["base_revision"])),
        ("Method", f"{words.text(last['method'])}, {words.text(last['importance'])}"), ("Rate", words.share(last["rate"])),
        ("Parameters", f"{words.count(last['n0'])} to {words.count(last['n_pruned'])}"),
        ("Before, right after, last", f"{words.loss(last['l0'])}, {words.loss(last['l_pruned'])}, {words.loss(last['loss'])}"),
        ("Tokens", f"{words.count(last['tokens'])} of {words.count(last['tokens_planned'])} planned"),
        ("Learning rate", f"{last['lr_peak']:g}, {words.text(last['schedule'])}"),
        ("Train text", words.text(last["train_data"])), ("Held-out text", words.text(last["eval_data"])),
        ("Precision", words.text(last["precision"])), ("Seed", str(int(last["seed"]))),
        ("Contributor", words.text(last["contributor"])), ("Date", words.day(last["created_at"])),
        ("Hardware", words.text(last["hardware"])), ("Speed", f"{words.count(last['tokens_per_second'])} tokens/s"),
        ("Software", _software(last["software"])), ("Recipe", _short(last["recipe_sha256"])),
        ("Model", hub), ("Log", log),
    ]  # fmt: skip
    return f"<h2>Run <code>{words.text(run_id)}</code></h2>{facts(given)}"


def _short(value: Any) -> str:
    return words.NONE if words.missing(value) else f"<code>{words.text(str(value)[:12])}</code>"


def _software(value: Any) -> str:
    try:
        packages = json.loads(value)
    except (TypeError, ValueError):
        return words.NONE
    return ", ".join(f"{words.text(k)} {words.text(v)}" for k, v in packages.items()) or words.NONE


def _one_picture(board: Board, state: links.Values) -> tuple[Any, go.Figure | None, str]:
    rows = board.run(state["run"]) if state["run"] else pd.DataFrame()
    if rows.empty:
        return gr.update(visible=False), None, ""
    caption = f"This run as measured and as {state['law']}, fitted to all runs of its kind, predicts it; below, the difference."
    return (
        gr.update(visible=True),
        figures.one_run(board.predicted(rows, state["law"])),
        f"<p>{words.text(caption)}</p>",
    )
