"""Is a log like those beside it? What is sound by itself may still be unlike everything that was measured before.

The same base model on the same text has one loss before pruning, one size and one vocabulary; a curve falls; rates,
sizes and lengths lie near others; no two experiments share their ups and downs. What is otherwise is `unusual`: told,
and left to a person, because a new protocol, a much larger model or a failed run look so. Losses are nats per token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.fitting.robust import MOST_RATE, climbed
from leaderboard.logs.check import LENGTH, Checked
from leaderboard.logs.contract import IMPORTED, WRAPPED, curve_numbers
from leaderboard.logs.findings import UNUSUAL, WARNING, Finding
from leaderboard.logs.methods import CONTROL
from leaderboard.logs.origin import protocol
from leaderboard.logs.repeats import apart_from
from leaderboard.shapes import Shape, bundled_config, layer_parameters, parameters, shape_of

Array = NDArray[np.float64]
SAME_L0 = 0.01  # nats: devices and precisions differ by less than .005
SPREADS = 4.0  # or so many times what the others scatter by
BITS = 1 / float(np.log(2))  # a loss in bits over the same in nats
LIKE_BITS = 0.03  # relative
BASE_APART = 0.6  # nats between bases of near sizes on one text
NEAR_SIZE = 3.0  # times: bases whose l0 should be alike
CLIMBS = 0.05  # nats above what a run had reached; the seed's runs wander by less than .01
NO_GAIN = 0.001  # nats that any training of a damaged model wins
DAMAGE = 0.1  # nats of damage, from which a run that wins nothing is odd
RATE_STEP = 0.15  # beyond the highest rate of the method on the text
SIZE_STEP = 10.0  # times beyond the sizes on the text
TOKENS_STEP = 30.0  # times beyond the tokens on the text
ROWS_STEP, MANY_ROWS = 10, 1_000  # times the rows of others, and more than so many
LEAST_RUNS = 4  # on the text, before something may be far from them
LEAST_L0 = 0.3  # nats: below what any language model reaches on held-out text
COPY_ROWS = 5  # token counts that two runs share
COPY = 5e-4  # nats RMS that copies differ by, but for a constant; two seeds of one run differ by .004 and more


@dataclass(frozen=True)
class _Beside:
    """One run (`own`, its rows; `head`, its first) among the heads of the runs beside it."""

    own: pd.DataFrame
    head: "pd.Series[Any]"
    others: pd.DataFrame

    def number(self, name: str) -> float:
        """A run-level number; NaN where the log has none."""
        value = self.head.get(name)
        return np.nan if value is None or pd.isna(value) else float(value)

    def like(self, *names: str) -> pd.DataFrame:
        """The runs beside it that have its value in these columns."""
        keep = np.ones(len(self.others), dtype=bool)
        for name in names:
            keep &= (self.others[name] == _text(self.head[name])).to_numpy()
        return self.others[keep]


def beside(checked: Checked, known: pd.DataFrame | None = None) -> Checked:
    """The same with what is unusual about each good file, beside the others and the rows of `known` runs."""
    frame = checked.frame
    if not len(frame):
        return checked
    rows = frame if known is None else pd.concat([frame, apart_from(known, frame).assign(file=-1)], ignore_index=True)
    found = unusual(rows, rows["file"].to_numpy() >= 0)
    at: dict[int, list[Finding]] = {}
    for (file, *_), finding in found:
        at.setdefault(int(file), []).append(finding)
    reports = tuple(replace(r, findings=(*r.findings, *at.get(i, ()))) for i, r in enumerate(checked.reports))
    return replace(checked, reports=reports)


def unusual(frame: pd.DataFrame, new: NDArray[np.bool_]) -> Iterator[tuple[tuple[int, str, str], Finding]]:
    """What is unusual about the runs of the rows that `new` (n,) marks: (file or -1, contributor, run_id) and finding.

    `frame` holds rows of the contract's columns in which every run stands once.
    """
    run = curve_numbers(frame)
    heads = _heads(frame, run)
    climbs = climbed(frame, run)
    for i in np.unique(run[new]):
        own = frame[run == i].sort_values("tokens")
        name = (int(own["file"].iloc[0]) if "file" in own else -1, str(own["contributor"].iloc[0]))
        run_id = str(own["run_id"].iloc[0])
        one = _Beside(own, heads.loc[i], heads[heads.index != i])
        for rule in RULES:
            for finding in rule(one):
                yield (*name, run_id), finding
        if climbs[i] > CLIMBS and _text(own["method"].iloc[0]) != CONTROL:
            fix = "Look for a restart, a learning rate that is too high, or text that changed on the way."
            yield (
                (*name, run_id),
                _odd("climbs", "loss", f"{climbs[i]:.3f} nats above what it had reached", f"up to {CLIMBS}", fix),
            )
    yield from ((key, finding) for key, finding in _copies(frame, run, new))


def _heads(frame: pd.DataFrame, run: NDArray[np.int64]) -> pd.DataFrame:
    """A row for each run, by its number, texts as texts; with `rows` and `last`, the most tokens."""
    first = np.unique(run, return_index=True)[1]
    heads = frame.iloc[first].reset_index(drop=True)
    texts = ["run_id", "contributor", "base_model", "base_revision", "family", "method", "eval_data"]
    heads = heads.assign(**{name: [_text(value) for value in heads[name].astype(object)] for name in texts})
    last = np.zeros(len(first))
    np.maximum.at(last, run, frame["tokens"].to_numpy(dtype=float))
    rows = np.bincount(run)
    if LENGTH in heads:  # of long logs only some rows are here
        rows = np.fmax(rows, heads[LENGTH].to_numpy(dtype=float)).astype(np.int64)
    return heads.assign(rows=rows, last=last, way=protocol(heads))


def _text(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)


def _odd(code: str, where: str, got: str, allowed: str, fix: str) -> Finding:
    return Finding(code, UNUSUAL, where, got, allowed, fix)


def _l0(one: _Beside) -> Iterator[Finding]:
    """The same base on the same text has the same loss; bases of near sizes have near ones."""
    l0 = one.number("l0")
    if np.isnan(l0):
        return
    if l0 < LEAST_L0:
        fix = "No language model is as sure of text it has not seen: is this the mean cross-entropy of held-out tokens?"
        yield _odd("l0_low", "l0", f"{l0:.3g}", f"{LEAST_L0} nats or more", fix)
    anyhow = one.like("base_model", "base_revision", "eval_data").dropna(subset=["l0"])
    same = anyhow[[way == one.head["way"] for way in anyhow["way"]]]
    if len(anyhow) and not len(same):
        fix = "Losses that were measured otherwise share no fit with theirs."
        got, allowed = one.head["way"], " or ".join(sorted(set(anyhow["way"]))[:2])
        yield replace(_odd("other_protocol", "eval_data", got, allowed, fix), severity=WARNING)
        return
    if len(same):
        usual = float(same["l0"].median())
        scatter = 1.4826 * float((same["l0"] - usual).abs().median())
        if abs(l0 - usual) > (most := max(SAME_L0, SPREADS * scatter)):
            got, allowed = f"{l0:.4f}", f"{usual:.4f} within {most:.2g}, as {len(same)} logs of this base and text have"
            yield _odd("l0_differs", "l0", got, allowed, _l0_fix(l0 / usual))
        return
    text = one.like("eval_data").dropna(subset=["l0"])
    near = text[abs(np.log(text["n0"].astype(float) / one.number("n0"))) <= np.log(NEAR_SIZE)]
    bases = near.groupby("base_model")["l0"].median()
    if len(bases) and abs(bases - l0).min() > BASE_APART:
        closest = float(bases.iloc[int(np.argmin(abs(bases - l0).to_numpy()))])
        allowed = f"within {BASE_APART} of {closest:.3f}, a base of near size on this text"
        yield _odd("l0_far", "l0", f"{l0:.4f}", allowed, _l0_fix(l0 / closest))


def _l0_fix(ratio: float) -> str:
    """What may be the matter with an l0 that is not what others have."""
    for unit, factor in (("bits", BITS), ("nats, and the others in bits", 1 / BITS)):
        if abs(ratio / factor - 1) < LIKE_BITS:
            return f"It looks like {unit}: write nats, 0.6931 of a loss in bits."
    return "The same base, text and protocol give the same loss, whoever measures it."


def _unlike(others: "pd.Series[Any]", value: Any) -> bool:
    known = others.dropna()
    return bool(len(known)) and not pd.isna(value) and not bool((known == value).any())


def _size(one: _Beside) -> Iterator[Finding]:
    """n0, and what was removed, are what the base allows."""
    n0, kept, method = one.number("n0"), one.number("n_pruned"), _text(one.head["method"])
    config = bundled_config(_text(one.head["base_model"]))
    if config is not None:
        shape = shape_of(config)
        if n0 != parameters(shape):
            allowed = f"{parameters(shape):,}, by the config of {_text(one.head['base_model'])}"
            yield _odd("n0_differs", "n0", f"{n0:,.0f}", allowed, "Count all parameters, tied ones once.")
        elif method == "depth" and not _whole_layers(n0 - kept, shape, one.head):
            allowed = f"n0 less 1 to {shape.layers - 1} layers of {layer_parameters(shape):,}"
            yield _odd("n_pruned_differs", "n_pruned", f"{kept:,.0f}", allowed, "Depth removes whole layers.")
        return
    same = one.like("base_model", "base_revision")
    for name in ("n0", "n0_nonembedding"):
        if len(same) and _unlike(same[name], one.head[name]):
            usual = same[name].dropna().mode().iloc[0]
            fix = "The same base has one size; name another revision as base_revision."
            yield _odd(f"{name}_differs", name, f"{one.number(name):,.0f}", f"{usual:,.0f}, as other logs say", fix)
    fixed = one.like("base_model", "base_revision", "method")
    if method and pd.isna(one.head["rate_requested"]) and method != CONTROL and len(fixed):
        usual = float(fixed["rate"].median())
        if abs(one.number("rate") - usual) > 0.01:
            fix = "This pattern removes the same share of a base every time."
            yield _odd("rate_differs", "rate", f"{one.number('rate'):.4f}", f"{usual:.4f}, as other logs say", fix)


def _whole_layers(removed: float, shape: Shape, head: "pd.Series[Any]") -> bool:
    """Whether so many parameters are layers; of an imported run, whose rate a person told, about so many."""
    layers = removed / layer_parameters(shape)
    slack = 0.5 if _text(head.get("provenance")) == IMPORTED else 0.0
    return abs(layers - round(layers)) <= slack and 1 <= round(layers) < shape.layers


def _family(one: _Beside) -> Iterator[Finding]:
    """A base is of one family."""
    same = one.like("base_model")
    if _unlike(same["family"], _text(one.head["family"])):
        got, allowed = _text(one.head["family"]), f"{same['family'].mode().iloc[0]}, as other logs of this base say"
        yield _odd("family_differs", "family", got, allowed, "A base is of one family; name it as the others do.")


def _vocabulary(one: _Beside) -> Iterator[Finding]:
    """Losses per token compare under one vocabulary only."""
    same = one.like("base_model", "eval_data")
    same = same if len(same) else one.like("family", "eval_data")
    if _unlike(same["vocab_size"], one.head["vocab_size"]):
        usual = same["vocab_size"].dropna().mode().iloc[0]
        got, allowed = f"{one.number('vocab_size'):,.0f}", f"{usual:,.0f}, as its neighbours on this text have"
        fix = "Another tokenizer has other losses per token: name the text for it, e.g. text-32k."
        yield _odd("vocab_differs", "vocab_size", got, allowed, fix)


def _tokens(one: _Beside) -> Iterator[Finding]:
    """Tokens are counted, not sequences or steps."""
    batch, length = one.number("batch_tokens"), one.number("seq_len")
    if batch < length:
        fix = "Count tokens, not sequences: a step holds at least one sequence."
        yield _odd("batch_below_sequence", "batch_tokens", f"{batch:,.0f}", f"at least seq_len, {length:,.0f}", fix)
    tokens = one.own["tokens"].to_numpy(dtype=float)
    gap = np.diff(tokens).min() if len(tokens) > 1 else np.inf
    if gap < batch / 2 and _text(one.head["packing"]) != WRAPPED:
        fix = "Count tokens, not sequences or steps."
        yield _odd("tokens_below_batch", "tokens", f"{gap:,.0f} between rows", f"about {batch:,.0f}, a step", fix)


def _far(one: _Beside) -> Iterator[Finding]:
    """A rate, a size, a length or a number of rows far from those on the text."""
    text = one.like("eval_data")
    rate, n0, last, rows = one.number("rate"), one.number("n0"), float(one.own["tokens"].max()), int(one.number("rows"))
    fix = "Nothing near it was measured, so nothing can be said against it: a person looks."
    method = text[(text["method"] == _text(one.head["method"])).to_numpy()]
    most = float(method["rate"].max()) + RATE_STEP if len(method) >= LEAST_RUNS else MOST_RATE
    if rate > MOST_RATE:
        words = "Less than a tenth is left: is this a share of all parameters?"
        yield _odd("rate_far", "rate", f"{rate:.6g}", f"up to {MOST_RATE}", words)
    elif rate > most:
        yield _odd("rate_far", "rate", f"{rate:.4g}", f"up to {most:.3g}, near the highest on this text", fix)
    if len(text) < LEAST_RUNS:
        return
    low, high = float(text["n0"].min()), float(text["n0"].max())
    if not low / SIZE_STEP <= n0 <= high * SIZE_STEP:
        yield _odd("size_far", "n0", f"{n0:,.0f}", f"near {low:,.0f} to {high:,.0f}, the sizes on this text", fix)
    low, high = float(text["last"].min()), float(text["last"].max())
    if not low / TOKENS_STEP <= last <= high * TOKENS_STEP:
        words = "Are these tokens? " + fix
        yield _odd("tokens_far", "tokens", f"{last:,.0f} at the end", f"near {low:,.0f} to {high:,.0f}", words)
    if rows > max(MANY_ROWS, ROWS_STEP * int(text["rows"].max())):
        allowed = f"near {int(text['rows'].min())} to {int(text['rows'].max())}"
        yield _odd("rows_far", "file", f"{rows:,} rows", allowed, "A run weighs as one, whatever its rows.")


def _shape(one: _Beside) -> Iterator[Finding]:
    """A damaged model that is trained wins something."""
    end, start = float(one.own["loss"].iloc[-1]), one.number("l_pruned")
    if _text(one.head["method"]) == CONTROL or len(one.own) < 2 or not start - one.number("l0") > DAMAGE:
        return
    if _text(one.head.get("provenance")) != IMPORTED and abs(end - start) < NO_GAIN:
        fix = "Were the weights trained that were evaluated?"
        yield _odd("flat", "loss", f"{end:.4f} after training", f"below l_pruned, {start:.4f}", fix)


RULES: tuple[Callable[[_Beside], Iterator[Finding]], ...] = (_l0, _size, _family, _vocabulary, _tokens, _far, _shape)


def _copies(
    frame: pd.DataFrame, run: NDArray[np.int64], new: NDArray[np.bool_]
) -> Iterator[tuple[tuple[int, str, str], Finding]]:
    """New runs whose ups and downs are another's: equal but for noise no measurement has, or for a constant."""
    trained = frame["tokens"].to_numpy() > 0
    rows = frame[trained].assign(curve=run[trained])
    keys = ["base_model", "method", "eval_data"]
    for _, group in rows.groupby([rows[key].astype(str) for key in keys]):
        fresh = np.unique(group["curve"][new[trained][frame.index[trained].get_indexer(group.index)]])
        if not len(fresh) or group["curve"].nunique() < 2:
            continue
        table = group.pivot_table(index="tokens", columns="curve", values="loss", aggfunc="first")
        for i in fresh:
            apart = table.drop(columns=i).sub(table[i], axis=0)
            shared = apart.notna().sum()
            spread = (apart - apart.mean()).pow(2).mean().pow(0.5)[shared >= COPY_ROWS]
            if not len(spread) or not spread.min() < COPY:
                continue
            own, other = (group[group["curve"] == j].iloc[0] for j in (i, spread.idxmin()))
            got = f"within {spread.min():.2g} of run {other['contributor']}/{other['run_id']}, but for a constant"
            fix = "Two seeds of one run differ ten times as much: send what was measured."
            key = (int(own["file"]) if "file" in own else -1, str(own["contributor"]), str(own["run_id"]))
            yield key, _odd("near_copy", "loss", got, f"{COPY} nats or more apart", fix)
