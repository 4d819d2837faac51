"""The answer of the budget page: one computation, told as a sentence, a picture and other ways to the same size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from leaderboard import words
from leaderboard.planning.bases import Base
from leaderboard.planning.budget import Budget, Question
from leaderboard.planning.distance import SLACK, State
from leaderboard.planning.gpus import GPUS, PRICES_OF, USUAL_GPU
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.outlook import nearest_runs, outlook
from leaderboard.planning.plan import UNPRUNED
from leaderboard.planning.rivals import OWN
from leaderboard.planning.too_far import expected_words, pilot, same_cut_words
from leaderboard.serving.board import Board
from space.pages.budget.form import Form, base_of, question, read_off
from space.parts import figures, look
from space.parts.table import Column, Row, facts, number, records, table

STATES = {
    State.INSIDE: "Inside what was measured", State.BEYOND: "Beyond what was measured",
    State.TOO_FAR: "Too far from what was measured",
}  # fmt: skip
SURELY_BEYOND = 3.0  # an answer more than so many times outside is a guess


@dataclass(frozen=True)
class Answer:
    """What the board says to a form: everything on the page is told from here."""

    form: Form
    question: Question
    base: Base | None
    budget: Budget
    predictor: Mixture

    @property
    def gpu(self) -> str | None:
        """The GPU to count hours on."""
        return _gpu(self.form)

    @property
    def too_far(self) -> bool:
        """Whether the data cannot answer: then nothing on the page tells a number that it does not give."""
        return self.budget.state is State.TOO_FAR


def answered(form: Form, board: Board) -> Answer:
    """Ask the board; raises P2Error in words of the form. What was asked before is not worked out again."""
    asked = question(form)
    budget, predictor = board.budget(asked, eval_data=form.text, gpu=_gpu(form), price=form.price)
    return Answer(form, asked, base_of(form, board), budget, predictor)


def _gpu(form: Form) -> str | None:
    return form.gpu if form.gpu in GPUS else None


def sentence(answer: Answer) -> str:
    """HTML of the answer: its state, the number, how sure, at what cost, and what it rests on."""
    budget = answer.budget
    amount, does = budget.sentence()
    told = _missing(answer) if answer.too_far else _numbers(answer)
    return (
        f'<p class="state {budget.state}">{STATES[budget.state]}</p>'
        f'<p class="sentence"><strong>{amount}</strong> {words.text(does)}</p>{told}{DOORS}'
    )


DOORS = '<p class="doors"><a href="own">Drop your curve</a> <a href="contribute#wanted">What to measure next</a></p>'


def _numbers(answer: Answer) -> str:
    budget, pairs = answer.budget, []
    if budget.loss is not None and budget.tokens != 0:
        pairs.append(("Predicted loss" if budget.tokens else "Floor", words.loss(budget.loss)))
    for name, ends in (("80 % of new runs", budget.tokens_80), ("95 % of new runs", budget.tokens_95)):
        if ends is not None and budget.tokens:
            pairs.append((name, budget.interval_words(ends).replace(" tokens", "")))
    if budget.gpu_hours is not None and answer.gpu:
        pairs.append((f"On one {answer.gpu.upper()}", words.time(budget.gpu_hours)))
        pairs.append((f"Cost, prices of {PRICES_OF}", words.price(budget.cost)))
    best = max(budget.weights, key=lambda law: budget.weights[law])
    link = f'<a href="laws?law={best}">{best}</a>'
    many = len(budget.weights) > 1
    pairs.append(("Laws", f"{words.text(budget.law)}, {link} first") if many else ("Law", link))
    return (
        f"{facts(pairs)}{_warning(answer)}{_recipe(budget)}{_published(budget)}"
        f"<details><summary>Why this answer</summary>{_list(budget.why)}</details>"
    )


def _missing(answer: Answer) -> str:
    """What is said in place of a number: what is missing, what others needed, and the run that would answer."""
    budget, predictor = answer.budget, answer.predictor
    cost, command, then = pilot(predictor, answer.question, answer.gpu or USUAL_GPU)
    return (
        f'<p class="warning" role="note">{words.text(budget.warning)}</p>'
        f"<h3>What would answer it</h3><p>{words.text(cost)}. {words.text(then)}</p>"
        f"<pre tabindex=0><code>{words.text(command)}</code></pre>"
        f"{_lines(same_cut_words(answer.question))}{_published(budget)}{_lines(expected_words(answer.question))}"
        f"<details><summary>Which laws were asked</summary>{_list(predictor.why)}</details>"
    )


def _lines(lines: tuple[str, ...]) -> str:
    return "".join(f"<p>{words.text(line)}</p>" for line in lines)


def _list(lines: tuple[str, ...]) -> str:
    return f"<ul>{''.join(f'<li>{words.text(line)}</li>' for line in lines)}</ul>"


def _warning(answer: Answer) -> str:
    """Plain words where the question lies outside the runs."""
    far = answer.budget.extrapolation
    most = max(float(far[axis]) for axis in ("size", "rate", "tokens"))
    said = [answer.budget.warning] if answer.budget.warning else []
    if read_off(answer.form, answer.base):
        said.append("The loss before pruning is itself read off the family's other sizes.")
    if not said:
        return ""
    lead = "Treat this as a guess." if most > SURELY_BEYOND else "This is outside the data."
    return f'<p class="warning" role="note"><strong>{lead}</strong> {words.text(" ".join(said))}</p>'


def _recipe(budget: Budget) -> str:
    """How the runs behind the answer were trained, in a line."""
    recipe = {name: value for name, value in budget.recipe.items() if not words.missing(value)}
    write: dict[str, Callable[[Any], str]] = {
        "schedule": lambda v: f"{v} schedule", "peak_rate": lambda v: f"peak rate {v:g}",
        "batch": lambda v: f"batches of {words.count(v)} tokens", "vocabulary": lambda v: f"vocabulary of {v:,}",
        "precision": str, "text": lambda v: f"losses on {v}",
    }  # fmt: skip
    said = ", ".join(write[name](recipe[name]) for name in write if name in recipe)
    return f'<p class="recipe">Trained like the runs: {words.text(said)}.</p>' if said else ""


_PUBLISHED = (
    Column("Published", "link", str), Column("Method", "method"), number("Rate", "rate", words.share),
    number("Tokens", "tokens", words.count), number("Before", "before", str), number("Pruned", "pruned", str),
    number("After", "after", str),
)  # fmt: skip


def _published(budget: Budget) -> str:
    """The published recoveries most like the question."""
    rows = [_recovery(row) for row in budget.evidence]
    return f"<h3>Published recoveries near it</h3>{table(_PUBLISHED, rows, 'Published recoveries')}" if rows else ""


def _recovery(row: Row) -> Row:
    """A published recovery as a row: losses in nats, or scores in their unit."""
    losses = row["loss"] is not None
    names = ("l0", "l_pruned", "loss") if losses else ("score0", "score_pruned", "score")
    write = words.loss if losses else lambda v: words.NONE if v is None else f"{v:g} {row['unit']}"
    before, pruned, after = (write(row[name]) for name in names)
    where = str(row.get("where") or "")
    name = words.text(row["model"])
    link = f'<a href="{words.text(where)}">{name}</a>' if where.startswith("https://") else name
    return row | {"link": link, "before": before, "pruned": pruned, "after": after}


def picture(answer: Answer, board: Board) -> tuple[go.Figure, str]:
    """The predicted curve over the nearest measured ones, and its caption."""
    asked, budget, predictor = answer.question, answer.budget, answer.predictor
    near = nearest_runs(board.frame, budget.group, asked)
    figure = figures.budget(outlook(predictor, asked, budget.tokens), near, budget.tokens, asked.target, asked.l0)
    count = near["run_id"].nunique()
    caption = (
        "Predicted loss over tokens" + (" with the band where 80 % of new runs fall" if predictor.has_interval else "")
        + (f", over the {count} nearest measured runs of this family and method." if count else ". No run of this "
           "family and method was measured.")
    )  # fmt: skip
    return figure, f"<p>{words.text(caption)}</p>"


_RIVALS = (
    Column("Base model", "base_model"), Column("Method", "method"), number("Rate", "rate", words.share),
    number("Parameters", "parameters", words.count), number("Tokens", "tokens", words.count),
    number("Predicted loss", "loss", words.loss, "Held-out, nats per token"),
    number("90 % of new runs", "between", str), number("GPU time", "gpu_hours", words.time),
    number("Cost", "cost", words.price),
    number("Outside data", "outside", str, "How many times size, rate or tokens lie outside the runs"),
    Column("Loss before", "before", help="The loss of the unpruned base: measured, or read off its family's sizes"),
)  # fmt: skip
_OTHER_WAYS = (
    "<h2>The same size by other ways</h2><p>Every base model and method of the family that ends at the same number of "
    "parameters after the same tokens, and unpruned models of that size or smaller: pruning has to beat those. The "
    "bold row is the answer above.</p>"
)


def rivals(answer: Answer, board: Board) -> str:
    """Other ways to the same deployed size, the answer's own among them."""
    form = answer.form
    own = (OWN if answer.base is None else answer.base.name, answer.question.method)

    def make() -> str:
        ways = board.rivals(
            answer.question, eval_data=form.text, base=answer.base, gpu=answer.gpu, price=form.price
        )  # fmt: skip
        return table(
            _RIVALS, [_rival(row) for row in records(ways)], "Ways to the same number of parameters",
            marked=lambda row: (row["base_model"], row["method"]) == own,
        )  # fmt: skip

    return _OTHER_WAYS + look.warned(make)


def _rival(row: Row) -> Row:
    """A row of the comparison in words."""
    known = not words.missing(row["loss_low"])
    return row | {
        "between": f"{words.loss(row['loss_low'])} to {words.loss(row['loss_high'])}" if known else words.NONE,
        "outside": words.NONE if row["beyond"] < SLACK else f"{words.digits(row['beyond'], 2)} ×",
        "method": "unpruned" if row["method"] == UNPRUNED else row["method"],
        "before": "measured" if row["l0_from"] == "measured" else "read off smaller sizes",
    }
