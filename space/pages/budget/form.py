"""The form of the budget page: what it says, what follows from that, its parts, and the question it asks.

A form is frozen. A change makes another: what was changed stays, what follows from it is made anew.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import gradio as gr

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.logs.methods import least_rate, takes_rate
from leaderboard.planning.bases import Base
from leaderboard.planning.budget import Question
from leaderboard.planning.gpus import GPUS, PRICES_OF
from leaderboard.serving.board import Board
from space.parts.share import Share

OWN = "My own numbers"
GOALS = {"excess": "Excess over unpruned", "target_loss": "Target loss", "gain": "Until a doubling gains less"}
USUAL = {"excess": 0.05, "gain": 0.01}
NO_GPU = "no GPU"
FOLLOWS = {"text": ("l0",), "base": ("l0",), "goal": ("value",), "gpu": ("price",)}  # what each makes anew


class Listed(gr.Dropdown):
    """A list whose entries the browser renews: what comes is judged by the answer, not by the entries of the start."""

    is_template = True  # drawn as its parent is

    def preprocess(self, payload: Any) -> Any:
        """As it came."""
        return payload


class Radios(gr.Radio):
    """The same for buttons of which one is pressed."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        """As it came."""
        return payload


@dataclass(frozen=True)
class Form:
    """What a visitor has said, by the names of the address; None and "" where nothing was."""

    text: str = ""
    base: str = ""
    family: str = ""
    n0: float | None = None
    l0: float | None = None
    method: str = "depth"
    rate: float | None = 0.25
    l_pruned: float | None = None
    goal: str = "excess"
    value: float | None = None
    gpu: str = "h100"
    price: float | None = None


NAMES = tuple(field.name for field in fields(Form))
DEFAULTS: dict[str, Any] = asdict(Form())


def changed(form: Form, before: Mapping[str, Any]) -> Form:
    """The form without what follows from a change since `before`; what was itself changed stays."""
    new = {name for name in NAMES if name in before and before[name] != getattr(form, name)}
    stale = {follower for name in new for follower in FOLLOWS.get(name, ())} - new
    if form.base == OWN:
        stale -= {"l0"}
    blank: dict[str, Any] = dict.fromkeys(stale)
    return replace(form, **blank)


def completed(form: Form, board: Board) -> Form:
    """The form with what is missing filled in: what follows from a base model, a method, a goal or a GPU."""
    texts, known = board.texts, methods(board)
    form = replace(
        form,
        text=form.text if form.text in texts else texts[0],
        method=form.method if form.method in known else known[0],
        goal=form.goal if form.goal in GOALS else "excess",
        gpu=form.gpu if form.gpu in GPUS else NO_GPU,
    )
    if form.base not in (OWN, *(base.name for base in board.bases(form.text))):
        own = form.n0 is not None and form.base == ""
        form = replace(form, base=OWN if own else _usual_base(board, form.text))
    form = _with_base(form, base_of(form, board))
    form = replace(form, family=form.family or families(board)[0])
    if form.value is None:
        form = replace(form, value=_usual_value(form))
    if form.price is None and form.gpu in GPUS:
        form = replace(form, price=GPUS[form.gpu].price)
    return form


def _with_base(form: Form, base: Base | None) -> Form:
    if base is None:
        return form
    form = replace(form, family=base.family, n0=float(base.n0))
    measured = base.l0 is not None and not base.interpolated
    if base.l0 is not None and (measured or form.l0 is None):
        form = replace(form, l0=round(base.l0, 4))
    if not takes_rate(form.method):
        form = replace(form, rate=round(least_rate(form.method, base.n0, base.n0_nonembedding), 4))
    return form


def _usual_value(form: Form) -> float | None:
    """The goal's value where none is given; a target loss starts at the usual excess."""
    if form.goal != "target_loss":
        return USUAL[form.goal]
    return None if form.l0 is None else round(form.l0 + USUAL["excess"], 3)


def _usual_base(board: Board, text: str) -> str:
    """The largest model that was measured: the most useful first example."""
    measured = [b for b in board.bases(text) if b.l0 is not None and not b.interpolated]
    return max(measured or board.bases(text), key=lambda b: b.n0).name


def families(board: Board) -> list[str]:
    """Families of the bases."""
    return sorted({base.family for base in board.bases(board.texts[0])})


def methods(board: Board) -> list[str]:
    """Methods with a run that can be fitted."""
    return sorted({key["method"] for key, _ in board.groups}, key=lambda m: (len(m), m))


def base_of(form: Form, board: Board) -> Base | None:
    """The base that the form names; None for one's own numbers."""
    return next((b for b in board.bases(form.text) if b.name == form.base), None)


def read_off(form: Form, base: Base | None) -> bool:
    """Whether the form's loss before pruning is the one read off the family's sizes, not one that was measured."""
    return base is not None and base.interpolated and base.l0 is not None and form.l0 == round(base.l0, 4)


def question(form: Form) -> Question:
    """What the form asks; raises P2Error in words of the form."""
    for name, label in (
        ("n0", "the number of parameters"), ("l0", "the loss before pruning"), ("rate", "the share to remove"),
        ("value", "the goal"),
    ):  # fmt: skip
        if getattr(form, name) is None:
            raise P2Error(f"Give {label} to get an answer.")
    known = {name: getattr(form, name) for name in ("family", "method", "rate", "n0", "l0", "l_pruned")}
    return Question(**known | {form.goal: form.value})


def told(form: Form, board: Board) -> dict[str, Any]:
    """What an address must hold to ask the same again: what follows from the rest is left out."""
    values = asdict(form)
    base = base_of(form, board)
    if base is not None:
        values |= {"family": "", "n0": None}
        values["l0"] = None if base.l0 and abs(base.l0 - (form.l0 or 0)) < 1e-3 else form.l0
        values["rate"] = form.rate if takes_rate(form.method) else DEFAULTS["rate"]
    if form.goal in USUAL and form.value == USUAL[form.goal]:
        values["value"] = None
    if form.gpu in GPUS and form.price == GPUS[form.gpu].price:
        values["price"] = None
    return values


def parts(board: Board) -> dict[str, Any]:
    """The form's components, by the names of the address."""
    first = completed(Form(), board)
    texts = board.texts
    narrow: dict[str, Any] = {"min_width": 120}

    def named(name: str) -> dict[str, Any]:
        return {"value": getattr(first, name), "elem_id": name}

    text = Listed(texts, label="Held-out text", visible=len(texts) > 1, **named("text"))
    model = Listed(_base_names(board, first.text), label="Base model", **named("base"))
    family = gr.Dropdown(families(board), label="Family", visible=False, allow_custom_value=True, **named("family"))
    with gr.Row():
        n0 = gr.Number(label="Parameters", interactive=False, **narrow, **named("n0"))
        l0 = gr.Number(label="Its held-out loss", interactive=False, **narrow, **named("l0"))
    method = Radios(methods(board), label="Pruning method", **named("method"))
    rate = Share(0.02, 0.7, step=0.01, label="Share of all parameters removed", **named("rate"))
    goal = gr.Radio([(label, key) for key, label in GOALS.items()], label="Goal", **named("goal"))
    with gr.Row():
        value = gr.Number(label="Nats per token", step=0.01, **narrow, **named("value"))
        l_pruned = gr.Number(label="Loss right after pruning", placeholder="if measured", **narrow, **named("l_pruned"))
    with gr.Row():
        gpu = gr.Dropdown([NO_GPU, *GPUS], label="GPU", **narrow, **named("gpu"))
        price = gr.Number(label=f"$ per hour ({PRICES_OF})", **narrow, **named("price"))
    made = (text, model, family, n0, l0, method, rate, l_pruned, goal, value, gpu, price)
    return dict(zip(NAMES, made, strict=True))


def _base_names(board: Board, text: str) -> list[tuple[str, str]]:
    named = [(f"{base.name} · {words.count(base.n0)}", base.name) for base in board.bases(text)]
    return [*named, (OWN, OWN)]


def reply(sent: Mapping[str, Any], form: Form, board: Board) -> str:
    """JSON for `MERGE`: the values that the browser sent, and what the components should show of the form."""
    base, own = base_of(form, board), form.base == OWN
    fixed = not takes_rate(form.method) and not own
    unknown = base is not None and base.l0 is None
    guessed = read_off(form, base)
    hint = "Read off the family's power law, not measured" if guessed else "Nobody measured it" if unknown else None
    open_l0 = own or unknown or (base is not None and base.interpolated)
    changes: dict[str, dict[str, Any]] = {
        "text": {"choices": [(text, text) for text in board.texts], "visible": len(board.texts) > 1},
        "method": {"choices": [(method, method) for method in methods(board)]},
        "base": {"choices": _base_names(board, form.text)},
        "family": {"choices": [(family, family) for family in families(board)], "visible": own},
        "n0": {"interactive": own},
        "l0": {"info": hint, "interactive": open_l0},
        "rate": {"interactive": not fixed, "info": "Follows from the pattern" if fixed else None},
        "price": {"interactive": form.gpu in GPUS},
    }
    shown = {name: {"value": getattr(form, name), **changes.get(name, {})} for name in NAMES}
    return json.dumps({"sent": sent, "shown": shown})


# In the browser: what the server proposes is written, but never into a field that has the focus or that was changed
# since it was asked; the answer is then asked for by what the fields hold.
MERGE = """
(reply, ...now) => {
  const {sent, shown} = JSON.parse(reply);
  const plain = value => JSON.stringify(value === '' || value === undefined ? null : value);
  const held = {};
  const updates = Object.keys(shown).map((name, i) => {
    const {value, ...looks} = shown[name];
    const field = document.getElementById(name);
    const busy = field !== null && field.contains(document.activeElement);
    const kept = plain(now[i]) === plain(value) || busy || plain(now[i]) !== plain(sent[name]);
    held[name] = kept ? now[i] : value;
    return {__type__: 'update', ...looks, ...(kept ? {} : {value})};
  });
  return [JSON.stringify(held), ...updates];
}
"""
