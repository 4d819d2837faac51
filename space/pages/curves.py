"""Curves: every run, filtered and searched; measured against predicted; residuals; one run and where it is from."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd
import plotly.graph_objects as go

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.laws.catalogue import LAWS
from leaderboard.serving.board import Board
from leaderboard.serving.runs import FACETS, Filtered, filter_runs, panels
from space.parts import figures, links, look, run
from space.parts.share import Share
from space.parts.table import Column, number, table
from space.server.store import Store

ANY = "any"
PAGE = 200  # rows shown at first
VIEWS = {"curves": "Measured and predicted", "residuals": "Measured less predicted"}
COLOURS = {"rate": "Rate", "n0": "Size"}
ONE = "none"  # no second law
DEFAULTS: dict[str, Any] = {
    "search": "", "family": ANY, "method": ANY, "base_model": ANY, "contributor": ANY, "eval_data": ANY,
    "rate_from": 0.0, "rate_to": 1.0, "law": "capacity-damage", "second": ONE, "view": "curves", "by": "rate",
    "run": "", "all": "",
}  # fmt: skip


FILTERS = ("search", *FACETS, "rate_from", "rate_to")


@dataclass(frozen=True)
class Parts:
    """What a page of curves is made of: the form by the names of the address, and what it fills."""

    form: dict[str, Any]
    one: gr.HTML
    one_figure: gr.Column
    one_plot: gr.Plot
    one_caption: gr.HTML
    listed: gr.HTML
    more: gr.Button
    address: gr.HTML
    plot: gr.Plot
    caption: gr.HTML
    width: gr.Textbox  # of the window, in pixels


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    parts = _parts()
    inputs = list(parts.form.values())

    def shown(state: links.Values) -> list[Any]:
        rows, html = _rows(store.board, state)
        hidden = len(rows) > PAGE and not state["all"]
        return [html, gr.update(visible=hidden, value=f"Show all {len(rows):,} runs"), links.query(state, DEFAULTS)]

    def opened(request: gr.Request) -> list[Any]:
        state, changes = _opened(store.board, links.read(request, DEFAULTS))
        back = "curves" + links.query({**state, "run": ""}, DEFAULTS)
        return [*changes, *shown(state), run.told(store.board, state["run"], back)]

    def asked(*values: Any) -> list[Any]:
        return shown(dict(zip(DEFAULTS, values, strict=True)))

    def drawn(*values: Any) -> list[Any]:
        *form, width = values
        state = dict(zip(DEFAULTS, form, strict=True))
        one, caption = run.picture(store.board, state["run"], state["law"])
        return [*_picture(store.board, state, _panels(width)), gr.update(visible=one is not None), one, caption]

    def whole(*values: Any) -> list[Any]:
        return ["1", *shown({**dict(zip(DEFAULTS, values, strict=True)), "all": "1"})]

    outputs = [parts.listed, parts.more, parts.address]
    pictures = [parts.plot, parts.caption, parts.one_figure, parts.one_plot, parts.one_caption]
    later = {"fn": drawn, "inputs": [*inputs, parts.width], "outputs": pictures, "js": WIDTH, **look.QUIET}
    demo.load(opened, outputs=[*inputs, *outputs, parts.one], **look.QUIET).then(**later)
    changed = [part.input for name, part in parts.form.items() if name not in ("run", "all")]
    gr.on(changed, asked, inputs, outputs, trigger_mode="always_last", **look.QUIET).then(
        **later, trigger_mode="always_last"
    )
    parts.more.click(whole, inputs, [parts.form["all"], *outputs], **look.QUIET)


WIDTH = "(...values) => [...values.slice(0, -1), String(window.innerWidth)]"


def _panels(width: str) -> int:
    """How many panels stand side by side in a window of so many pixels."""
    pixels = int(width) if width and width.isdecimal() else 1280
    return 1 if pixels < 640 else 2 if pixels < 1000 else 3


def _parts() -> Parts:
    form = _form()
    one = gr.HTML(elem_id="run")
    with gr.Column(visible=False, elem_classes="figure") as one_figure:
        one_plot = gr.Plot(show_label=False, elem_id="run-plot")
        one_caption = gr.HTML(elem_classes="caption")
    listed = gr.HTML(elem_id="runs", min_height=300)
    with gr.Row():
        more = gr.Button("Show all runs", visible=False, size="sm", elem_id="more")
        address = links.address()
    with gr.Column(elem_classes="figure"):
        plot = gr.Plot(show_label=False, elem_id="curves-plot")
        caption = gr.HTML(elem_classes="caption")
    width = gr.Textbox(visible=False)
    return Parts(form, one, one_figure, one_plot, one_caption, listed, more, address, plot, caption, width)


def _form() -> dict[str, Any]:
    """The form's parts, by the names of the address."""
    with gr.Row():
        search = gr.Textbox(label="Search", placeholder="any name or run id", elem_id="search", min_width=160)
        facets = [
            gr.Dropdown([ANY], value=ANY, label=label, elem_id=name, min_width=130)
            for name, label in zip(FACETS, ("Family", "Method", "Base model", "Contributor", "Text"), strict=True)
        ]
    with gr.Row():
        low = Share(0, 1, 0, step=0.01, label="Rate from", elem_id="rate_from", min_width=160)
        high = Share(0, 1, 1, step=0.01, label="Rate to", elem_id="rate_to", min_width=160)
        law = gr.Dropdown(list(LAWS), value=DEFAULTS["law"], label="Law drawn", elem_id="law", min_width=160)
        second = gr.Dropdown([ONE, *LAWS], value=ONE, label="Second law", elem_id="second", min_width=160)
    with gr.Row():
        view = gr.Radio([(name, key) for key, name in VIEWS.items()], value="curves", label="Picture", elem_id="view")
        by = gr.Radio([(name, key) for key, name in COLOURS.items()], value="rate", label="Colour", elem_id="by")
    hidden = gr.Textbox(visible=False), gr.Textbox(visible=False)  # the run that is open; whether all rows are shown
    return dict(zip(DEFAULTS, (search, *facets, low, high, law, second, view, by, *hidden), strict=True))


def _opened(board: Board, state: links.Values) -> tuple[links.Values, list[Any]]:
    """The state of an address with what cannot be left to its default, and what the form shows of it."""
    changes = {}
    for name in FACETS:
        choices = [ANY, *sorted(board.runs[name].unique())]
        state[name] = state[name] if state[name] in choices else ANY
        changes[name] = gr.update(choices=choices, value=state[name])
    state["law"] = state["law"] if state["law"] in LAWS else DEFAULTS["law"]
    for name, known in (("second", LAWS), ("view", VIEWS), ("by", COLOURS)):
        state[name] = state[name] if state[name] in known else DEFAULTS[name]
    for name in ("rate_from", "rate_to"):
        state[name] = state[name] if 0 <= state[name] <= 1 else DEFAULTS[name]
    if len(rows := board.run(state["run"])):  # the address may name the run alone
        state["run"] = f"{rows['contributor'].iloc[0]}/{rows['run_id'].iloc[0]}"
    return state, [changes.get(name, value) for name, value in state.items()]


def _filtered(board: Board, state: links.Values) -> Filtered:
    chosen = {name: None if state[name] == ANY else state[name] for name in FACETS}
    low = state["rate_from"] or None
    high = None if state["rate_to"] is None or state["rate_to"] >= 1 else state["rate_to"]
    return filter_runs(board.runs, search=state["search"] or "", rate_from=low, rate_to=high, **chosen)


_COLUMNS = (
    Column("Base model", "base_model"), Column("Method", "method"), number("Rate", "rate", words.share),
    number("Parameters", "n_pruned", words.count, "kept"),
    number("Before", "l0", words.loss, "held-out loss before pruning"),
    number("Right after", "l_pruned", words.loss), number("Last", "loss", words.loss),
    number("Recovered", "recovered", words.share, "share of the damage won back"),
    number("Tokens", "tokens", words.count),
    Column("Contributor", "contributor"), Column("Date", "created_at", words.day),
    Column("Family", "family", more=True), Column("Importance", "importance", more=True),
    Column("Held-out text", "eval_data", more=True), Column("Train text", "train_data", more=True),
    number("Nats per byte", "nats_per_byte", words.loss, "the last loss", more=True),
    number("Learning rate", "lr_peak", words.short, "its peak", more=True),
    Column("Schedule", "schedule", more=True), number("Seed", "seed", str, more=True),
)  # fmt: skip
ORDER = ["eval_data", "family", "n0", "method", "rate", "created_at"]  # like runs stand together, small models first


def _rows(board: Board, state: links.Values) -> tuple[pd.DataFrame, str]:
    """The runs that pass, and their table; or the sentence that says which filter leaves none."""
    try:
        found = _filtered(board, state)
    except P2Error as error:
        return pd.DataFrame(), f'<p class="warning" role="alert">{words.text(error)}</p>'
    rows = found.rows.sort_values(ORDER, kind="stable", ignore_index=True)
    few = rows if state["all"] else rows.head(PAGE)
    cut = len(few) < len(rows)
    said = f"<p>{len(rows):,} of {len(board.runs):,} runs{f', the first {PAGE} shown' * cut}.</p>"
    asked = links.query({**state, "run": ""}, DEFAULTS)
    filters = links.query({name: state[name] for name in FILTERS}, DEFAULTS)
    run_ = Column("Run", "name", lambda name: links.run(name, asked))
    html = table(
        (run_, *_COLUMNS), few, "Runs", empty=found.words, marked=lambda row: row["name"] == state["run"],
        whole=f"runs{filters}", cut=cut,
    )  # fmt: skip
    return rows, said * bool(len(rows)) + html


def _picture(board: Board, state: links.Values, columns: int) -> tuple[go.Figure | None, str]:
    """Small multiples of the runs that pass, so many side by side: a panel a group, and what one law or two say."""
    try:
        found = _filtered(board, state).rows
    except P2Error:
        return None, ""
    pruned = found[(found["method"] != "none") & (found["tokens"] > 0)]
    if pruned.empty:
        return None, ""
    rows, left_out = panels(board.frame, pruned)
    laws = (state["law"],) if state["second"] in (ONE, state["law"]) else (state["law"], state["second"])
    second = board.predicted(rows, laws[-1])
    rows = board.predicted(rows, laws[0]).assign(
        second_excess=second["predicted_excess"], second_residual=second["residual"]
    )  # fmt: skip
    draw_ = figures.residuals if state["view"] == "residuals" else figures.curves
    what = "less predicted" if state["view"] == "residuals" else "(points) and predicted (lines)"
    caption = f"Measured {what} by {' and '.join(laws)}, coloured by {figures.BY[state['by']]}; "
    caption += "a panel for each family, method and text."
    caption += f" Not drawn, filter to see them: {left_out:,} more." if left_out else ""
    return draw_(rows, laws, state["by"], columns), f"<p>{words.text(caption)}</p>"
