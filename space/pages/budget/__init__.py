"""Token budget: the question people come with. A form, the answer in a sentence, the predicted curve, and rivals.

form.py holds what was said, answer.py what comes of it. An event has three steps: the form is completed, the browser
writes what follows into fields that nobody holds, and the answer to what the fields then say is shown, words first.
"""

from typing import Any

import gradio as gr

from leaderboard.errors import P2Error
from space.pages.budget.answer import answered, picture, rivals, sentence
from space.pages.budget.form import DEFAULTS, MERGE, NAMES, Form, changed, completed, parts, reply, told
from space.parts import links, look
from space.server.store import Store


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=2, min_width=300, elem_id="budget-form"):
            form = parts(store.board)
        with gr.Column(scale=3, min_width=320, elem_id="budget-answer"):
            answer = gr.HTML('<p class="sentence">Working out the first answer…</p>', elem_id="answer", min_height=180)
            with gr.Column(elem_classes="figure", elem_id="budget-figure") as figure:
                plot = gr.Plot(show_label=False, elem_id="budget-plot")
                caption = gr.HTML(elem_classes="caption")
            address = links.address()
    ways = gr.HTML(elem_id="rivals")
    before = gr.Textbox(visible=False)  # JSON of the values that the form showed after the last event
    proposed = gr.Textbox(visible=False)  # JSON for MERGE
    fields = list(form.values())

    def opened(request: gr.Request, *values: Any) -> str:
        sent = dict(zip(NAMES, values, strict=True))
        asked = Form(**links.read(request, DEFAULTS))
        return reply(sent, completed(asked, store.board), store.board)

    def completed_by(before: str, *values: Any) -> str:
        sent = dict(zip(NAMES, values, strict=True))
        new = changed(Form(**sent), links.held(before))
        return reply(sent, completed(new, store.board), store.board)

    def said(*values: Any) -> list[str]:
        form = _read(values)
        address = links.query(told(form, store.board), {**DEFAULTS, "text": store.board.texts[0]})
        return [look.warned(lambda: sentence(answered(form, store.board))), address]

    def drawn(*values: Any) -> list[Any]:
        try:
            told = answered(_read(values), store.board)
        except P2Error:
            told = None
        if told is None or told.too_far:  # a curve or rivals would be the numbers that the answer does not give
            return [gr.update(visible=False), None, "", ""]
        return [gr.update(visible=True), *picture(told, store.board), rivals(told, store.board)]

    def _read(values: tuple[Any, ...]) -> Form:
        return Form(**dict(zip(NAMES, values, strict=True)))

    last = {"trigger_mode": "always_last", **look.QUIET}
    loaded = demo.load(opened, inputs=fields, outputs=proposed, **look.QUIET)
    changes = gr.on([part.input for part in fields], completed_by, [before, *fields], proposed, **last)
    for event in (loaded, changes):
        written = event.then(None, [proposed, *fields], [before, *fields], js=MERGE)
        shown = written.then(said, fields, [answer, address], **last)
        shown.then(drawn, fields, [figure, plot, caption, ways], **last)
