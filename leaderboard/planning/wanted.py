"""Most wanted runs: candidate experiments by how much each would narrow the token budgets, and what it costs.

Candidates are base size x rate x method x tokens over the ranges of the logs, and one step beyond each. The gain is the
mean reduction of the variance of ln tokens over a declared set of questions (information.py has the mathematics). The
questions are answered as a budget is, by the same laws together. Of one that is too far for it (distance.py) nothing is
known, until a run brings it within reach.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, require, usable
from leaderboard.logs.frame import YARDSTICK, on_yardstick
from leaderboard.logs.methods import least_rate, takes_rate
from leaderboard.planning.bases import Base, commands, joinable, loss_at, named
from leaderboard.planning.budget import Question, grid, intervals, invert, state_of
from leaderboard.planning.candidates import group_mixtures, known_bases, measured_alike, one_text
from leaderboard.planning.distance import WIDEST, Range, State
from leaderboard.planning.gpus import check_offer, gpu_hours
from leaderboard.planning.information import Knowledge, knowledge, steepness, variances
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.outlook import states
from leaderboard.planning.recipe import usual_recipe

COLUMNS = (
    "base_model", "family", "method", "rate", "n0", "tokens", "gain", "narrower", "gpu_hours", "gain_per_gpu_hour",
    "new", "state", "l0_from", "law",
)  # fmt: skip
NEEDED = ("run_id", *GROUP, "base_model", "n0", "n0_nonembedding", "rate", "l0", "tokens", "loss")
NEXT_RATE, HIGHEST_RATE = 1.4, 0.8
LONGER = 3.0
NEW_SIZE = 1.2  # a size this far beyond the data is new
FALLS = 1e-4  # nats: a loss that falls less has no budget
QUIET = 1e-4  # nats: the least noise a run is taken to have
LOST = np.log(1000.0) ** 2  # a variance of ln tokens from which an interval says nothing
ANSWERED = (np.log(WIDEST) / 2.56) ** 2  # and the largest of an answer: its 80 % interval spans a factor WIDEST


def wanted(
    frame: pd.DataFrame,
    *,
    gpu: str = "h100",
    family: str | None = None,
    bases: Sequence[Base] = (),
    questions: Sequence[Question] | None = None,
    eval_data: str | None = None,
    objective: str | None = None,
    law: str | Law | None = None,
) -> pd.DataFrame:
    """One row a candidate run, the most telling first.

    Without an `eval_data` the runs are weighed where new ones can join them: on the text with most runs that can still
    be had, else on the yardstick. Where nothing there can be fitted, they are weighed on a text that is lost, as a new
    group like it would be. `.attrs["text"]` says on which, `.attrs["joins"]` whether a run can join its group.

    `questions` are the budgets to narrow, by default `standard_questions` of every family and method. `gain` is the
    mean reduction of the variance of ln tokens over all of them, `narrower` the share by which the budget intervals of
    the candidate's own family and method shrink. A base that nobody has yet has no name: its size is the next step of
    the ladder, its l0 is read off the family's power law. `new` says what lies beyond the runs so far, `state` what a
    budget of these tokens would (distance.py). Every law is taken for true, so runs that would part the laws are worth
    more than this says. `.attrs["recipe"]` is how most runs were trained. Raises P2Error when nothing can be fitted.
    """
    require(frame, NEEDED, "wanted")
    check_offer(gpu, None, "wanted")
    last = P2Error("")
    for rows in [frame] if eval_data is not None else _places(frame):
        try:
            return _weighed(rows, gpu, family, bases, questions, eval_data, objective, law)
        except P2Error as error:
            last = error
    raise last


def _places(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows on texts that can be had, those on the yardstick, and all."""
    can = frame["eval_data"].astype(str).map(joinable).to_numpy(dtype=bool)
    if can.any():
        yield frame[can]
    if f"{YARDSTICK}_loss" in frame and frame[f"{YARDSTICK}_loss"].notna().any():
        yield on_yardstick(frame)
    if not can.all() or frame.empty:
        yield frame


def _weighed(
    frame: pd.DataFrame,
    gpu: str,
    family: str | None,
    bases: Sequence[Base],
    questions: Sequence[Question] | None,
    eval_data: str | None,
    objective: str | None,
    law: str | Law | None,
) -> pd.DataFrame:
    """The candidates on one text."""
    text = measured_alike(one_text(frame, eval_data, objective, "wanted"), None)
    known = known_bases(text, bases, family, "wanted")
    mixtures = group_mixtures(text, law, family, "wanted")
    noise = _noise(mixtures)
    groups = [_group(m, usable(text), noise, ladder(known, m.group["family"]), questions) for m in mixtures]
    if not any(group.count for group in groups):
        raise P2Error("wanted: none of the questions has an answer in any group, so there is no interval to narrow.")
    rows = [row for group in groups for row in _rows(group, groups, gpu)]
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    out = out.sort_values(["gain", "gpu_hours"], ascending=[False, True], ignore_index=True)
    name = str(text["eval_data"].iloc[0])
    out.attrs |= {"recipe": usual_recipe(text), "text": name, "joins": joinable(name)}
    return out


def offers(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `wanted` that can be run, once each: with `base`, which exists, their `commands`, and `group`, the
    one that the run would narrow, or would begin."""
    text, joins = str(table.attrs["text"]), bool(table.attrs["joins"])
    out: list[dict[str, Any]] = []
    for record in table.to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        base, lines = named(row), commands(row, text if joins else "")
        where = text if joins else "a new text"
        if lines and not any(lines == other["commands"] for other in out):
            group = f"{row['family']}, {row['method']} on {where}"
            out.append(row | {"base": base, "commands": lines, "group": group, "joins": joins})
    return out


def offers_words(table: pd.DataFrame) -> str:
    """Which groups the offered runs would narrow."""
    text = table.attrs["text"]
    if table.attrs["joins"]:
        return f"Each run narrows its group on {text}, on which its commands measure it."
    return (
        f"The held-out text of these runs, {text}, cannot be had, so no new run joins their groups. Each of these "
        "begins one like it, on the text of its recipe and on the yardstick; they are in the order of what they would "
        "do for budgets there, if the new group is like the old."
    )


@dataclass(frozen=True)
class Group:
    """A family and method: the laws that answer about it and its own rows, what the runs tell each law, the bases to
    ask and run; of every question that has an answer the weights of the laws (questions, laws), and for each law the
    slopes of ln tokens by its parameters (questions, parameters); and the questions that are too far."""

    mixture: Mixture
    rows: pd.DataFrame
    known: tuple[Knowledge, ...]
    bases: list[Base]
    weight: Array
    slopes: tuple[Array, ...]
    too_far: list[Question]

    @property
    def count(self) -> int:
        """Questions."""
        return len(self.weight) + len(self.too_far)

    def variances(self, runs: Sequence[pd.DataFrame | None], measured: Range) -> Array:
        """Variances (questions,) of ln tokens, as they count, once each law also knows a run (None: it learns none) and
        `measured` is the range of all."""
        total = np.zeros(len(self.weight))
        for i, (known, slopes, run) in enumerate(zip(self.known, self.slopes, runs, strict=True)):
            precision = known.precision if run is None else known.precision + known.information(run)
            total += self.weight[:, i] * variances(precision, slopes)
        far = [ANSWERED if measured.in_reach(q.n0, q.rate) else LOST for q in self.too_far]
        return np.concatenate([total / (1 + total / LOST), far])


def ladder(bases: Iterable[Base], family: str) -> list[Base]:
    """A family's bases by size, and behind them a nameless one on the next step, where two sizes are known."""
    own = sorted((b for b in bases if b.family == family), key=lambda b: b.n0)
    sizes = sorted({b.n0 for b in own})
    if len(sizes) < 2:
        return own
    last = own[-1]
    n0 = round(sizes[-1] * (sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1)))
    inner = round(n0 * last.n0_nonembedding / last.n0)
    return [*own, Base("", family, n0, inner, loss_at(n0, own), interpolated=True)]


def _noise(mixtures: list[Mixture]) -> tuple[float, float]:
    """The spread of runs and of rows around the law they lie nearest to, pooled over the groups: few have runs enough
    to tell their own."""
    spreads = [min(m.resamples, key=lambda r: r.run_sd**2 + r.row_sd**2) for m in mixtures]
    telling = [s for s in spreads if s.freedom > 1] or spreads
    sd = np.array([(s.run_sd, s.row_sd) for s in telling])
    run, row = np.sqrt(np.average(sd**2, axis=0, weights=[s.freedom for s in telling]))
    return max(QUIET, float(run)), max(QUIET, float(row))


def _group(
    mixture: Mixture,
    usable_rows: pd.DataFrame,
    noise: tuple[float, float],
    bases: list[Base],
    questions: Sequence[Question] | None,
) -> Group:
    names = mixture.group
    family, method = names["family"], names["method"]
    rows = usable_rows[((usable_rows["family"] == family) & (usable_rows["method"] == method)).to_numpy()]
    known = tuple(knowledge(member, *noise) for member in mixture.members)
    own = [q for q in questions or () if (q.family, q.method) == (family, method)]
    own = own if questions is not None else standard_questions(mixture, rows, bases)
    answers = {q: _tokens(mixture, q) for q in own}
    answered = [(q, tokens) for q, tokens in answers.items() if isinstance(tokens, float)]
    weight, slopes = np.zeros((len(answered), len(known))), []
    for i, (question, tokens) in enumerate(answered):
        weight[i] = mixture.weights(question.columns(np.array([tokens])))[:, 0]
    for member in known:
        by_z = [member.miss_slopes(q, tokens) / steepness(mixture, q, tokens) for q, tokens in answered]
        slopes.append(np.array(by_z).reshape(len(answered), len(member.scale)))
    too_far = [q for q, tokens in answers.items() if tokens is State.TOO_FAR]
    return Group(mixture, rows, known, bases, weight, tuple(slopes), too_far)


def _tokens(mixture: Mixture, question: Question) -> float | State | None:
    """The tokens that a budget names, where more runs could narrow them; TOO_FAR where its size or rate is that."""
    tokens, _, _ = invert(mixture, question, grid(mixture.range.tokens[0]), where="wanted")
    tokens_80 = intervals(mixture, question)[0] if mixture.has_interval else None
    if state_of(mixture, question, tokens, tokens_80) is State.TOO_FAR:
        return None if mixture.range.in_reach(question.n0, question.rate) else State.TOO_FAR
    narrows = tokens and tokens > mixture.range.tokens[0] and steepness(mixture, question, tokens)
    return float(tokens) if tokens and narrows else None


def standard_questions(mixture: Mixture, rows: pd.DataFrame, bases: Iterable[Base]) -> list[Question]:
    """The budgets of every base at the middle and the next higher rate: until a doubling wins less than 0.01 nats, and
    to the loss that is predicted at three times the usual run."""
    names, out = mixture.group, []
    for base in bases:
        rates = _rates(names["method"], rows, base)
        for rate in rates[1::2] or rates:
            question = Question(
                family=names["family"], method=names["method"], rate=rate, n0=base.n0, l0=base.l0 or 0.0
            )
            out.append(question)
            now, later = mixture.predict(question.curve(np.array([1, LONGER]) * _usual(rows)))
            if now - later > FALLS and later > 0:
                out.append(replace(question, target_loss=float(later)))
    return out


def _usual(rows: pd.DataFrame) -> float:
    """Tokens of a typical run of the group."""
    return float(rows["tokens"].groupby(curve_numbers(rows)).max().median())


def _rates(method: str, rows: pd.DataFrame, base: Base) -> list[float]:
    """The lowest, middle, highest and next higher rate of the group; of a fixed pattern the one it has."""
    least = least_rate(method, base.n0, base.n0_nonembedding)
    if not takes_rate(method) and least:
        return [round(least, 3)]
    seen = rows["rate"].groupby(curve_numbers(rows)).first()
    rates = [*seen.quantile([0, 0.5, 1]), min(HIGHEST_RATE, NEXT_RATE * float(seen.max()))]
    return list(dict.fromkeys(max(0.001, round(float(rate), 3)) for rate in rates))


def _rows(group: Group, groups: list[Group], gpu: str) -> list[dict[str, object]]:
    """Every candidate of a group, with what it does for all groups that its runs are lent to."""
    names, rows = group.mixture.group, []
    count = sum(g.count for g in groups)
    lent = [(g, learns) for g in groups if g.count and any(learns := _learns(group, g))]
    before = {id(g): g.variances([None] * len(learns), g.mixture.range) for g, learns in lent}
    for base, rate, tokens in _experiments(group):
        run = _run(group, base, rate, tokens)
        after = {
            id(g): g.variances(
                [run if able else None for able in learns], g.mixture.range.with_run(base.n0, rate, tokens)
            )
            for g, learns in lent
        }
        gain = max(0.0, sum(float((before[key] - after[key]).sum()) for key in after) / count)
        own = id(group)
        shrinks = 1 - float(np.sqrt(after[own]).sum() / np.sqrt(before[own]).sum()) if own in after else np.nan
        hours, _ = gpu_hours(tokens, base.n0, rate, names["method"], gpu, where="wanted", objective=names["objective"])
        state = str(states(group.mixture, run.tail(1))[0]) if group.mixture.has_interval else ""
        row: dict[str, object] = (
            {"base_model": base.name, "family": names["family"], "method": names["method"], "rate": rate}
            | {"n0": base.n0, "tokens": tokens, "gain": gain, "narrower": shrinks}
            | {"gpu_hours": hours, "gain_per_gpu_hour": gain / hours, "new": _new(group.rows, base, rate, tokens)}
            | {"state": state, "l0_from": "power law" if base.interpolated else "measured", "law": group.mixture.law}
        )
        rows.append(row)
    return rows


def _learns(one: Group, other: Group) -> list[bool]:
    """Whether runs of one group enter the fit of each law of another."""
    names, fits = one.mixture.group, [known.shared.rows for known in other.known]
    return [bool(((r["family"] == names["family"]) & (r["method"] == names["method"])).any()) for r in fits]


def _experiments(group: Group) -> Iterator[tuple[Base, float, int]]:
    for base in group.bases:
        for rate in _rates(group.mixture.group["method"], group.rows, base):
            for times in (1, LONGER):
                yield base, rate, round(times * _usual(group.rows))


def _run(group: Group, base: Base, rate: float, tokens: int) -> pd.DataFrame:
    """The evaluations that a run would give: at the same shares of its tokens as those of a run of the group."""
    curve = curve_numbers(group.rows)
    longest = group.rows.loc[curve == np.bincount(curve).argmax(), "tokens"].sort_values().to_numpy(dtype=float)
    known = {"n0": base.n0, "rate": rate, "l0": base.l0, "n_pruned": base.n0 * (1 - rate)}
    known |= {"n0_nonembedding": base.n0_nonembedding}
    run = pd.DataFrame({"tokens": longest * tokens / longest.max(), **known}, dtype=float)
    return run.assign(family=group.mixture.group["family"])


def _new(rows: pd.DataFrame, base: Base, rate: float, tokens: int) -> str:
    """What of a candidate lies beyond the group's runs, in words."""
    words = []
    if base.n0 > NEW_SIZE * rows["n0"].max():
        words.append("larger base")
    if rate > float(rows["rate"].max()) + 0.005:
        words.append("higher rate")
    if tokens > float(rows["tokens"].max()):
        words.append("more tokens")
    return ", ".join(words)
