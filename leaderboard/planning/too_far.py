"""What to say where the data cannot answer: what is missing, what others needed, and the cheapest run that would help.

No token number of an answer stands here, only those of measured or published runs and of the pilot.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.evidence.figures import nearest
from leaderboard.evidence.recovery import STANDS_IN, recovery
from leaderboard.logs.methods import takes_rate
from leaderboard.planning.bases import BASES, commands
from leaderboard.planning.gpus import USUAL_GPU, gpu_hours
from leaderboard.planning.mixture import Mixture

if TYPE_CHECKING:
    from leaderboard.planning.budget import Question

SAME_SIZE = 0.1  # a base whose parameters differ by less than this share is taken for the one asked about
RECIPE = "RECIPE.yaml"  # that a person must write
SHOWN = 3  # published recoveries beside an answer
USUAL_TOKENS = 81.92e6  # of most of them
SAME = {"rate": 0.005, "l0": 0.02, "l_pruned": 0.05}  # within which a published row is the question itself, and
SAME_N0 = 0.02  # a share of its size
SENSELESS = 12.0  # nats: a model that knows nothing has ln of its vocabulary, 160,000 here
MEASURE = (  # leave-one-model-out, evidence/README.md
    " Measure the loss once after pruning and pass it as l_pruned: on depth cuts it lowers the law's error in the "
    "excess from 29 to 16 %."
)
UNIT = {"size": "parameters", "rate": "removed", "tokens": "tokens"}


def missing_words(
    fitted: Mixture, question: "Question", evidence: Sequence[Mapping[str, Any]], gpu: str | None
) -> tuple[str, ...]:
    """Sentences: what the logs lack for the question, published recoveries near it, the pilot that would answer."""
    lacking = [
        f"{_amount(way.what, way.value)} {UNIT[way.what]} is {words.short(way.factor)} times outside what was "
        f"measured, {_amount(way.what, way.low)} to {_amount(way.what, way.high)}"
        for way in fitted.range.ways(question.n0, question.rate, None)
    ] or ["the goal lies beyond ten times the tokens that any run was trained on"]
    first = f"These logs cannot answer: {'; '.join(lacking)}. So far outside, laws that fit alike disagree."
    cost, command, then = pilot(fitted, question, gpu or USUAL_GPU)
    published = (*same_cut_words(question), *map(recovery_words, evidence), *expected_words(question))
    return (first, *published, f"{cost}: `{command}`. {then}")


def _amount(what: str, value: float) -> str:
    return f"{value:.3g}" if what == "rate" else words.count(value)


def nearest_recoveries(question: "Question") -> list[dict[str, Any]]:
    """The published recoveries most like a question, as plain records, those with a loss after training first."""
    rows = nearest(**_model(question), count=3 * SHOWN)
    return sorted(rows, key=lambda row: row["loss"] is None)[:SHOWN]


def same_cut_words(question: "Question") -> tuple[str, ...]:
    """The figure of a published row that is nearly the question itself, which goes before what any law says."""
    for row in nearest(**_model(question), count=3 * SHOWN):
        known = {name: (row[name], getattr(question, name)) for name in SAME}
        same = row["method"] == question.method and abs(row["n0"] / question.n0 - 1) <= SAME_N0
        same &= all(None in pair or abs(pair[0] - pair[1]) <= SAME[name] for name, pair in known.items())
        if same and row["loss"] is not None and row["rate"] is not None:
            goal = question.target
            met = "" if goal is None or row["loss"] <= goal else f", above the goal of {words.loss(goal)}"
            return (
                f"This very cut was published: {row['model']} stood at {words.loss(row['loss'])} after "
                f"{words.count(row['tokens'])} tokens{met} ({row['source']}). That was measured, what follows is not.",
            )
    return ()


def recovery_words(row: Mapping[str, Any]) -> str:
    """A published recovery in a sentence, of what its source tells."""
    rate = "" if row["rate"] is None else f", rate {row['rate']:.2f}"
    tokens = "" if row["tokens"] is None else f", {words.count(row['tokens'])} tokens"
    losses = [("before", row["l0"]), ("pruned", row["l_pruned"]), ("after", row["loss"])]
    measured = ", ".join(f"{words.loss(loss)} {when}" for when, loss in losses if loss is not None)
    if row["loss"] is None and row["score"] is not None:
        measured = f"{row['unit']} {row['score']:g} after"
    return f"Published: {row['model']} by {row['method']}{rate}{tokens}: {measured} ({row['source']})."


def expected_words(question: "Question") -> tuple[str, ...]:
    """What the law over published recoveries expects of this model; nothing where it does not speak."""
    try:
        expected = recovery(**_model(question), tokens=USUAL_TOKENS)
    except P2Error:
        return ()
    low, high = expected.interval(0.8)
    if high > SENSELESS:
        return ()
    more = [STANDS_IN] if question.method == "width" else []
    if 2 * expected.failed >= expected.similar:
        more.append(f"Of the {expected.similar} published cuts most like it {expected.failed} did not heal.")
    goal = question.target
    if goal is not None and not low <= goal <= high:
        where = "above that, so such models were there sooner" if goal > high else "below that: such models needed more"
        more.append(f"The goal of {words.loss(goal)} lies {where}.")
    return (
        f"A law over published recoveries, on texts of their own, expects a loss of {words.loss(expected.loss)} after "
        f"{words.count(USUAL_TOKENS)} tokens ({words.loss(low)} to {words.loss(high)}, 80 %). "
        + " ".join(more)
        + ("" if question.l_pruned is not None else MEASURE),
    )


def pilot(fitted: Mixture, question: "Question", gpu: str) -> tuple[str, str, str]:
    """The cheapest run that would answer, of this size and as long as the longest measured: its cost, command, and use.

    Its own curve then answers, up to ten times its tokens.
    """
    tokens = round(fitted.range.tokens[1])
    hours, _ = gpu_hours(tokens, question.n0, question.rate, question.method, gpu)
    command = pilot_command(question, tokens)
    yours = f"{RECIPE} is one of yours for this model; `p2zoo recipes copy` gives some to change. "
    return (
        f"The cheapest pilot: {tokens:,} tokens on this model, {words.time(hours)} of one {gpu.upper()}'s compute, if "
        "it fits there (`--dry-run` says)",
        command,
        (yours if RECIPE in command else "")
        + "Then `p2zoo budget --pilot RUN` answers from its own curve, up to ten times as many tokens.",
    )


def pilot_command(question: "Question", tokens: int) -> str:
    """`p2zoo run …` of the bundled recipe of this base, or what to set in a recipe of one's own."""
    family = [base for base in BASES.values() if base.family == question.family]
    near = [base.name for base in family if abs(base.n0 / question.n0 - 1) < SAME_SIZE]
    run = {"family": question.family, "method": question.method, "rate": question.rate, "tokens": tokens}
    if near and (known := commands({"base_model": near[0], "n0": question.n0, **run})):
        return known[-1]
    rate = f" --set prune.rate={question.rate:.3g}" if takes_rate(question.method) else ""
    return f"p2zoo run {RECIPE} --set prune.method={question.method}{rate} --set train.tokens={tokens}"


def _model(question: "Question") -> dict[str, Any]:
    """What published recoveries know a model by."""
    return {name: getattr(question, name) for name in ("method", "rate", "n0", "l0", "l_pruned")}
