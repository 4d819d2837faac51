"""Token budget: the question people come with. A form, the answer in a sentence, the predicted curve, and rivals."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.logs.methods import least_rate, takes_rate
from leaderboard.planning.bases import Base
from leaderboard.planning.budget import Budget, Question
from leaderboard.planning.distance import SLACK, Beyond, State
from leaderboard.planning.gpus import GPUS
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.outlook import beyond, nearest_runs, outlook
from leaderboard.planning.plan import UNPRUNED
from leaderboard.serving.board import Board
from space.parts import figures, links, look
from space.parts.share import Share
from space.parts.table import Column as Field
from space.parts.table import Row, facts, number, records, table
from space.server.store import Store

OWN = "My own numbers"
GOALS = {"excess": "Excess over unpruned", "target_loss": "Target loss", "gain": "Until a doubling gains less"}
USUAL = {"excess": 0.05, "gain": 0.01}
NO_GPU = "no GPU"
DEFAULTS: dict[str, Any] = {
    "text": "", "base": "", "family": "", "n0": None, "l0": None, "method": "depth", "rate": 0.25, "l_pruned": None,
    "goal": "excess", "value": None, "gpu": "h100", "price": None,
}  # fmt: skip
NAMES = tuple(DEFAULTS)
FOLLOWS = {"text": ("base", "l0"), "base": ("l0",), "method": (), "goal": ("value",), "gpu": ("price",)}  # made anew


@dataclass(frozen=True)
class Asked:
    """What the form says, as a question, and the base it names if any."""

    question: Question
    base: Base | None
    text: str
    gpu: str | None
    price: float | None


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=2, min_width=300, elem_id="budget-form"):
            form = _form(store.board)
        with gr.Column(scale=3, min_width=320):
            answer = gr.HTML('<p class="sentence">Working out the first answer…</p>', elem_id="answer", min_height=180)
            with gr.Column(elem_classes="figure"):
                plot = gr.Plot(show_label=False, elem_id="budget-plot")
                caption = gr.HTML(elem_classes="caption")
            address = links.address()
    gr.HTML(
        "<h2>The same size by other ways</h2><p>Every base model and method of the family that ends at the same number "
        "of parameters after the same tokens, and unpruned models of that size or smaller: pruning has to beat "
        "those.</p>"
    )
    rivals = gr.HTML(elem_id="rivals")
    inputs = list(form.values())

    def opened(request: gr.Request) -> list[Any]:
        state = _complete(store.board, links.read(request, DEFAULTS))
        return [*_shown(store.board, state), *_answer(store.board, state)]

    def asked(*values: Any) -> list[Any]:
        return list(_answer(store.board, dict(zip(NAMES, values, strict=True))))

    def chosen(name: str, *values: Any) -> list[Any]:
        given = dict(zip(NAMES, values, strict=True)) | dict.fromkeys(FOLLOWS[name])
        state = _complete(store.board, given)
        return [*_shown(store.board, state), *_answer(store.board, state)]

    def drawn(*values: Any) -> list[Any]:
        return list(_picture(store.board, dict(zip(NAMES, values, strict=True))))

    later = {"fn": drawn, "inputs": inputs, "outputs": [plot, caption, rivals], **look.QUIET}
    demo.load(opened, outputs=[*inputs, answer, address], **look.QUIET).then(**later)
    for name, part in form.items():
        fills = name in FOLLOWS
        work, outputs = (partial(chosen, name), inputs) if fills else (asked, [])
        reply = part.input(work, inputs, [*outputs, answer, address], trigger_mode="always_last", **look.QUIET)
        reply.then(**later, trigger_mode="always_last")


def _form(board: Board) -> dict[str, Any]:
    """The form's parts, by the names of the address."""
    first = _complete(board, dict(DEFAULTS))
    texts, base = board.texts, _base_names(board, first["text"])
    goals = [(label, key) for key, label in GOALS.items()]
    narrow: dict[str, Any] = {"min_width": 120}

    def named(name: str) -> dict[str, Any]:
        return {"value": first[name], "elem_id": name}

    text = gr.Dropdown(texts, label="Held-out text", visible=len(texts) > 1, **named("text"))
    model = gr.Dropdown(base, label="Base model", **named("base"))
    family = gr.Dropdown(_families(board), label="Family", visible=False, allow_custom_value=True, **named("family"))
    with gr.Row():
        n0 = gr.Number(label="Parameters", interactive=False, **narrow, **named("n0"))
        l0 = gr.Number(label="Its held-out loss", interactive=False, **narrow, **named("l0"))
    method = gr.Radio(_methods(board), label="Pruning method", **named("method"))
    rate = Share(0.02, 0.7, step=0.01, label="Share of all parameters removed", **named("rate"))
    goal = gr.Radio(goals, label="Goal", **named("goal"))
    with gr.Row():
        value = gr.Number(label="Nats per token", step=0.01, **narrow, **named("value"))
        l_pruned = gr.Number(label="Loss right after pruning", placeholder="if measured", **narrow, **named("l_pruned"))
    with gr.Row():
        gpu = gr.Dropdown([NO_GPU, *GPUS], label="GPU", **narrow, **named("gpu"))
        price = gr.Number(label="$ per hour", **narrow, **named("price"))
    parts = (text, model, family, n0, l0, method, rate, l_pruned, goal, value, gpu, price)
    return dict(zip(NAMES, parts, strict=True))


def _families(board: Board) -> list[str]:
    return sorted({base.family for base in board.bases(board.texts[0])})


def _methods(board: Board) -> list[str]:
    return sorted({key["method"] for key, _ in board.groups}, key=lambda m: (len(m), m))


def _base_names(board: Board, text: str) -> list[tuple[str, str]]:
    named = [(f"{base.name} · {words.count(base.n0)}", base.name) for base in board.bases(text)]
    return [*named, (OWN, OWN)]


def _base(board: Board, state: links.Values) -> Base | None:
    return next((b for b in board.bases(state["text"]) if b.name == state["base"]), None)


def _complete(board: Board, state: links.Values) -> links.Values:
    """The state with what is missing filled in: what follows from a base model, a method, a goal or a GPU."""
    texts, methods = board.texts, _methods(board)
    state["text"] = state["text"] if state["text"] in texts else texts[0]
    names = [name for _, name in _base_names(board, state["text"])]
    given = state["n0"] is not None and state["base"] in ("", OWN)
    if state["base"] not in names:
        state["base"] = OWN if given else _usual_base(board, state["text"])
    state["method"] = state["method"] if state["method"] in methods else methods[0]
    if (base := _base(board, state)) is not None:
        state |= {"family": base.family, "n0": float(base.n0)}
        measured = base.l0 is not None and not base.interpolated
        if base.l0 is not None and (measured or state["l0"] is None):
            state["l0"] = round(base.l0, 4)
        if not takes_rate(state["method"]):
            state["rate"] = round(least_rate(state["method"], base.n0, base.n0_nonembedding), 4)
    state["family"] = state["family"] or _families(board)[0]
    state["goal"] = state["goal"] if state["goal"] in GOALS else "excess"
    if state["value"] is None:
        state["value"] = _usual_value(state)
    state["gpu"] = state["gpu"] if state["gpu"] in GPUS else NO_GPU
    if state["price"] is None and state["gpu"] in GPUS:
        state["price"] = GPUS[state["gpu"]].price
    return state


def _usual_value(state: links.Values) -> float | None:
    """The goal's value where none is given; a target loss starts at the usual excess."""
    if state["goal"] != "target_loss":
        return USUAL[state["goal"]]
    return None if state["l0"] is None else round(state["l0"] + USUAL["excess"], 3)


def _usual_base(board: Board, text: str) -> str:
    """The largest model that was measured: the most useful first example."""
    measured = [b for b in board.bases(text) if b.l0 is not None and not b.interpolated]
    return max(measured or board.bases(text), key=lambda b: b.n0).name


def _shown(board: Board, state: links.Values) -> list[Any]:
    """The form's parts with the state in them."""
    own, sparse = state["base"] == OWN, not takes_rate(state["method"]) and state["base"] != OWN
    base = _base(board, state)
    guessed = base is not None and base.interpolated
    unknown = base is not None and base.l0 is None
    hint = "Read off the family's power law, not measured" if guessed else "Nobody measured it" if unknown else ""
    changes: dict[str, dict[str, Any]] = {
        "text": {"choices": board.texts, "visible": len(board.texts) > 1},
        "method": {"choices": _methods(board)},
        "base": {"choices": _base_names(board, state["text"])},
        "family": {"choices": _families(board), "visible": own},
        "n0": {"interactive": own},
        "l0": {"info": hint or None, "interactive": own or guessed or unknown},
        "rate": {"interactive": not sparse, "info": "Follows from the pattern" if sparse else None},
        "price": {"interactive": state["gpu"] in GPUS},
    }
    return [gr.update(value=state[name], **changes.get(name, {})) for name in NAMES]


def _ask(board: Board, state: links.Values) -> Asked:
    """The question of a state; raises P2Error in words of the form."""
    for name, label in (
        ("n0", "the number of parameters"), ("l0", "the loss before pruning"), ("rate", "the share to remove"),
        ("value", "the goal"),
    ):  # fmt: skip
        if state[name] is None:
            raise P2Error(f"Give {label} to get an answer.")
    goal = {state["goal"]: state["value"]}
    asked = Question(
        family=state["family"], method=state["method"], rate=state["rate"], n0=state["n0"], l0=state["l0"],
        l_pruned=state["l_pruned"], **goal,
    )  # fmt: skip
    gpu = state["gpu"] if state["gpu"] in GPUS else None
    return Asked(asked, _base(board, state), state["text"], gpu, state["price"])


def _answer(board: Board, state: links.Values) -> tuple[str, str]:
    """HTML of the answer, and the address of the question."""
    told = dict(state)
    if told["base"] != OWN:  # these follow from the base
        told["family"] = ""
        told["n0"] = None
        base = _base(board, told)
        told["l0"] = None if base and base.l0 and abs(base.l0 - (told["l0"] or 0)) < 1e-3 else told["l0"]
        told["rate"] = DEFAULTS["rate"] if not takes_rate(told["method"]) else told["rate"]
    if told["goal"] in USUAL and told["value"] == USUAL[told["goal"]]:
        told["value"] = None
    if told["gpu"] in GPUS and told["price"] == GPUS[told["gpu"]].price:
        told["price"] = None
    address = links.query(told, {**DEFAULTS, "text": board.texts[0]})

    def make() -> str:
        asked = _ask(board, state)
        found, predictor = board.budget(asked.question, eval_data=asked.text, gpu=asked.gpu, price=asked.price)
        return answer_html(found, predictor, asked)

    return look.warned(make), address


def answer_html(found: Budget, predictor: Mixture, asked: Asked) -> str:
    """The answer in a sentence, its interval, cost, and how far it lies outside the data."""
    question = asked.question
    pairs = []
    if found.loss is not None and found.tokens != 0:
        pairs.append(("Predicted loss" if found.tokens else "Floor", words.loss(found.loss)))
    for name, ends in (("80 % of new runs", found.tokens_80), ("95 % of new runs", found.tokens_95)):
        if ends is not None and found.tokens:
            pairs.append((name, found.interval_words(ends).replace(" tokens", "")))
    if found.gpu_hours is not None and asked.gpu:
        pairs.append((f"On one {asked.gpu.upper()}", words.time(found.gpu_hours)))
        pairs.append(("Cost", words.price(found.cost)))
    far = found.state is State.TOO_FAR
    if not far:
        best = max(found.weights, key=lambda law: found.weights[law])
        many = len(found.weights) > 1
        link = f'<a href="laws?law={best}">{best}</a>'
        pairs.append(("Laws", f"{found.law}, {link} first") if many else ("Law", link))
    amount, does = found.sentence()
    why = "".join(f"<li>{words.text(line)}</li>" for line in found.why)
    return (
        f'<p class="state">{STATES[found.state]}</p>'
        f'<p class="sentence" aria-live="polite"><strong>{amount}</strong> {words.text(does)}</p>{facts(pairs)}'
        f"{'' if far else _warning(beyond(predictor, question, found.tokens), asked)}"
        f"<details{' open' * far}><summary>{'What would answer it' if far else 'Why this answer'}</summary>"
        f"<ul>{why}</ul></details>"
    )


STATES = {
    State.INSIDE: "Inside what was measured", State.BEYOND: "Beyond what was measured",
    State.TOO_FAR: "Too far from what was measured",
}  # fmt: skip
_RANGES = {"size": ("parameters", words.count), "rate": ("removed", words.share), "tokens": ("tokens", words.count)}


def _warning(far: list[Beyond], asked: Asked) -> str:
    """Plain words where the question lies outside the runs."""
    said = []
    for out in far:
        unit, write = _RANGES[out.what]
        said.append(
            f"{write(out.value)} {unit} is {words.digits(out.factor, 2)} times outside what was measured, "
            f"{write(out.low)} to {write(out.high)}."
        )
    if asked.base is not None and asked.base.interpolated:
        said.append("The loss before pruning is itself read off smaller models.")
    if not said:
        return ""
    lead = "Treat this as a guess." if far and far[0].factor > 3 else "This is outside the data."
    return f'<p class="warning" role="note"><strong>{lead}</strong> {" ".join(said)}</p>'


def _picture(board: Board, state: links.Values) -> tuple[go.Figure | None, str, str]:
    """The plot, its caption and the rivals; empty where there is no answer."""
    try:
        asked = _ask(board, state)
        found, predictor = board.budget(asked.question, eval_data=asked.text)
    except P2Error:
        return None, "", ""
    if found.state is State.TOO_FAR:  # no curve, no rivals: they would be the numbers that the answer does not give
        return None, "", ""
    curve = outlook(predictor, asked.question, found.tokens)
    near = nearest_runs(board.frame, found.group, asked.question)
    figure = figures.budget(curve, near, found.tokens, asked.question.target, asked.question.l0)
    count = near["run_id"].nunique()
    caption = (
        "Predicted loss over tokens" + (" with the band where 80 % of new runs fall" if predictor.has_interval else "")
        + (f", over the {count} nearest measured runs of this family and method." if count else ". No run of this "
           "family and method was measured.")
    )  # fmt: skip
    return figure, f"<p>{words.text(caption)}</p>", _rivals(board, asked, found)


_RIVALS = (
    Field("Base model", "base_model"), Field("Method", "method"), number("Rate", "rate", words.share),
    number("Parameters", "parameters", words.count), number("Tokens", "tokens", words.count),
    number("Predicted loss", "loss", words.loss, "Held-out, nats per token"),
    number("90 % of new runs", "between", str), number("GPU time", "gpu_hours", words.time),
    number("Cost", "cost", words.price),
    number("Outside data", "outside", str, "How many times size, rate or tokens lie outside the runs"),
    Field("Loss before", "before", help="The loss of the unpruned base: measured, or read off its family's sizes"),
)  # fmt: skip


def _rivals(board: Board, asked: Asked, found: Budget) -> str:
    """Other ways to the same deployed size."""
    question, tokens = asked.question, found.tokens or float(board.frame["tokens"].max())
    own = (asked.base.name if asked.base else "", question.method)

    def make() -> str:
        rows = records(board.rivals(question, tokens, asked.text, asked.gpu, asked.price))
        return table(
            _RIVALS, [_rival(row) for row in rows], "Ways to the same number of parameters",
            marked=lambda row: (row["base_model"], row["method"]) == own,
        )  # fmt: skip

    return look.warned(make)


def _rival(row: Row) -> Row:
    """A row of the comparison in words."""
    known = not words.missing(row["loss_low"])
    return row | {
        "between": f"{words.loss(row['loss_low'])} to {words.loss(row['loss_high'])}" if known else words.NONE,
        "outside": words.NONE if row["beyond"] < SLACK else f"{words.digits(row['beyond'], 2)} ×",
        "method": "unpruned" if row["method"] == UNPRUNED else row["method"],
        "before": "measured" if row["l0_from"] == "measured" else "read off smaller sizes",
    }
