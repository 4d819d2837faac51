"""Your own curve: drop a training log, say what it does not say, and see where the run is going."""

import base64
import math
from pathlib import Path
from typing import Any

import gradio as gr

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.logs.methods import CONTROL, METHODS
from leaderboard.planning.forecasting.answer import answer
from leaderboard.planning.forecasting.forecast import Forecast, forecast
from leaderboard.serving.board import Board
from leaderboard.serving.overlay import NATS, overlay
from leaderboard.serving.upload import MAX_BYTES, Upload, parquet, read_upload
from space.parts import figures, look
from space.parts.table import Column, number, table
from space.server import uploads
from space.server.store import Store

WHAT = """
<p>A <code>trainer_state.json</code>, a CSV or JSON export of a tracker, printed text, or a <code>log.parquet</code> or
<code>log.jsonl</code> of p2zoo. It stays on this server only while it is read. What the file does not say is asked.</p>
"""
OF_STATE = {
    "inside": "Inside what such forecasts were tested on.",
    "beyond": "Beyond what such forecasts were tested on; the band is as wide as it must be.",
    "too_far": "Too far: these rows cannot tell. Let the run go on and ask again.",
}
MOST_LINK = 1_000_000  # characters
LABELS = {  # the form; those after `loss_column` are shown with any
    "tokens_per_step": "Tokens a step", "method": "Method", "n0": "Parameters before pruning", "rate": "Share removed",
    "eval_data": "Held-out text", "run": "Run", "loss_column": "Held-out loss is", "l0": "Loss before pruning",
    "l_pruned": "Loss right after", "target_loss": "Tokens to this loss",
}  # fmt: skip
KNOWN = ("l0", "l_pruned", "target_loss")  # that make an answer better
EXAMPLES = {
    "tokens_per_step": "e.g. 65536", "n0": "e.g. 1.24B", "rate": "e.g. 25%", "eval_data": "a name for it",
    "l0": "if known", "l_pruned": "if known", "target_loss": "if wanted",
}  # fmt: skip


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    gr.HTML(WHAT)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            box = gr.File(label="Your training log", elem_id="own-file", height=150)
            fields = _fields()
            ask = gr.Button("Forecast", variant="primary", elem_id="own-ask", visible=False)
        with gr.Column(scale=2, min_width=300):
            told = gr.HTML(elem_id="own-answer", min_height=60)
            with gr.Column(visible=False, elem_classes="figure") as pictured:
                plot = gr.Plot(show_label=False, elem_id="own-plot")
                caption = gr.HTML(elem_classes="caption")
            with gr.Column(visible=False, elem_classes="figure") as compared:
                over = gr.Plot(show_label=False, elem_id="own-over")
                over_caption = gr.HTML(elem_classes="caption")
    held = gr.State(None)  # where the file stands, on this side only
    outputs = [held, told, ask, pictured, plot, caption, compared, over, over_caption, *fields.values()]

    def dropped(path: str | None, *values: Any) -> list[Any]:
        return [path, *_shown(store.board, path, dict.fromkeys(fields) | dict(zip(fields, values, strict=True)))]

    def cleared(path: str | None) -> list[Any]:
        uploads.delete(path)
        return [None, *_nothing("")]

    box.upload(dropped, [box, *fields.values()], outputs, **look.QUIET)
    box.clear(cleared, held, outputs, **look.QUIET)
    ask.click(dropped, [held, *fields.values()], outputs, **look.QUIET)


def _fields() -> dict[str, Any]:
    """The form, hidden until a file lacks something."""
    methods = [*METHODS, CONTROL]
    lists = {"method": methods, "run": [], "loss_column": []}
    return {
        name: gr.Dropdown(
            lists[name], value=None, label=label, allow_custom_value=True, visible=False, elem_id=f"own-{name}"
        )
        if name in lists
        else gr.Textbox(label=label, placeholder=EXAMPLES[name], visible=False, elem_id=f"own-{name}")
        for name, label in LABELS.items()
    }


def _shown(board: Board, path: str | None, values: dict[str, Any]) -> list[Any]:
    """What the page shows of a file and what was said of it, after where it stands."""
    if path is None:
        return _nothing("")
    try:
        upload = _read(Path(path), values)
        if upload.missing:
            return _nothing(f'<p role="status">{words.text(upload.words)}</p>', upload)
        with uploads.place():
            ahead = forecast(board.logs.frame, upload.frame)
            return _answered(upload, ahead, values, board)
    except P2Error as error:
        return [_sentence(error), gr.update(visible=True), *NO_PICTURES, *[gr.skip()] * len(LABELS)]


NO_PICTURE = [gr.update(visible=False), None, ""]
NO_PICTURES = NO_PICTURE * 2


def _sentence(error: P2Error) -> str:
    return f'<p class="warning" role="alert">{words.text(error)}</p>'


def _read(path: Path, values: dict[str, Any]) -> Upload:
    if not path.is_file():
        raise P2Error("The file is no longer here; drop it again.")
    if path.stat().st_size > MAX_BYTES:
        uploads.delete(str(path))
    numbers = {name: _number(name, values[name]) for name in ("rate", "l0", "l_pruned")}
    counts = {name: _number(name, values[name]) for name in ("tokens_per_step", "n0")}
    facts = {
        **numbers,
        **{name: round(value) for name, value in counts.items() if value is not None},
        **{name: (values[name] or "").strip() or None for name in ("method", "eval_data")},
    }
    with uploads.place():
        return read_upload(path, path.name, facts, values["run"] or None, values["loss_column"] or None)


UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "%": 0.01}


def _number(fact: str, said: Any) -> float | None:
    """A count, a share or a loss as people write it: 65536, 1.24B, 25%; None where nothing was said."""
    said = str(said or "").strip().replace(",", "").replace("_", "")
    if not said:
        return None
    unit = UNITS.get(said[-1].lower(), 1.0)
    try:
        value = float(said[:-1].strip() if said[-1].lower() in UNITS else said) * unit
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise P2Error(f"{LABELS[fact]}: {said[:40]!r} is no number; write e.g. 65536, 1.24B, 25% or 2.81.")
    return value


def _nothing(html: str, upload: Upload | None = None) -> list[Any]:
    """No answer yet: the words, and the fields that are missing."""
    missing = upload.missing if upload else ()
    shown = [*missing, *KNOWN] if missing else []
    choices = {"run": upload.runs, "loss_column": upload.columns} if upload else {}
    fields = [
        gr.update(visible=name in shown, choices=list(choices[name])) if name in choices and name in missing
        else gr.update(visible=True) if name in shown
        else gr.skip() if upload else gr.update(visible=False, value=None)
        for name in LABELS
    ]  # fmt: skip
    return [html, gr.update(visible=bool(missing)), *NO_PICTURES, *fields]


def _answered(upload: Upload, ahead: Forecast, values: dict[str, Any], board: Board) -> list[Any]:
    """The sentences, the band, the curve over others', and a goal to ask for."""
    told = answer(ahead, target_loss=_number("target_loss", values["target_loss"]))
    now, twice = told["now"], told["doubling"]
    lines = [
        f"{OF_STATE[told['state']]} Now {now['loss']:.4f} nats a token at {words.count(now['tokens'])} tokens, from "
        f"{now['rows']} rows.",
        f"Training as long again wins {twice['gain']:.4f} nats "
        f"({twice['low_80']:.4f} to {twice['high_80']:.4f}, 80 %).",
        *([_goal(told["goal"])] if told["goal"] else []),
    ]
    columns = (
        number("Tokens", "tokens", words.count), number("Loss", "loss", words.loss), number("80 %", "band_80", str),
        number("95 %", "band_95", str), Column("", "state"),
    )  # fmt: skip
    rows = [
        place | {"state": place["state"].replace("_", " ")}
        | {f"band_{p}": _between(place[f"low_{p}"], place[f"high_{p}"]) for p in (80, 95)}
        for place in told["at"]
    ]  # fmt: skip
    notes = "".join(f"<li>{words.text(note['words'])}</li>" for note in upload.notes)
    said = "".join(f"<p>{words.text(line)}</p>" for line in lines) + table(columns, rows, "Forecast")
    said += f"<h2>Noticed</h2><ul>{notes}</ul>" if notes else ""
    said += _download(upload) if upload.imported else ""
    figure = figures.forecast(upload.frame, ahead)
    caption = (
        f"<p>{words.text(upload.name)}: measured (points) and forecast (line), with the band of 80 % and 95 %.</p>"
    )
    shown = [
        gr.update(visible=True) if name in KNOWN and (upload.imported or name == "target_loss") else gr.skip()
        for name in LABELS
    ]
    return [
        f'<div role="status">{said}</div>',
        gr.update(visible=True),
        gr.update(visible=True),
        figure,
        caption,
        *_over(upload, board),
        *shown,
    ]


def _over(upload: Upload, board: Board) -> list[Any]:
    """One's own curve over those of the runs most like it."""
    rows, unit = overlay(board.frame, upload.frame)
    if rows.empty:
        return NO_PICTURE
    others = rows.loc[~rows["own"], "name"].nunique()
    said = f"Your curve over the {others} measured runs of {upload.frame['method'].iloc[0]} nearest in size and rate"
    said += "." if unit == NATS else ", by the share of the damage that is left: their held-out text is another."
    return [gr.update(visible=True), figures.beside(rows, unit), f"<p>{words.text(said)}</p>"]


def _between(low: float | None, high: float | None) -> str:
    return words.NONE if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _goal(goal: dict[str, Any]) -> str:
    if goal["tokens"] is None:
        return f"It does not come to a loss of {goal['target_loss']:.4f} before it is too far to say."
    low, high = goal["tokens_80"]
    ends = f"{words.count(low) if low else 'unknown'} to {words.count(high) if high else 'too far to say'}"
    return f"It comes to a loss of {goal['target_loss']:.4f} at {words.count(goal['tokens'])} tokens ({ends}, 80 %)."


def _download(upload: Upload) -> str:
    data = base64.b64encode(parquet(upload)).decode()
    if len(data) > MOST_LINK:
        return "<p>It passed the check; <code>p2zoo import</code> writes it as a run log.</p>"
    link = f'<a id="own-log" download="log.parquet" href="data:application/octet-stream;base64,{data}">log.parquet</a>'
    return f"<p>It passed the check; as a run log, provenance imported: {link}</p>"
