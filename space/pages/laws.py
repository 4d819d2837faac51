"""Laws: which one errs least on models it has not seen, how sure that is, and each law's formula and numbers."""

from typing import Any

import gradio as gr
import pandas as pd
from latex2mathml.converter import convert

from leaderboard import words
from leaderboard.fitting.result import Fit
from leaderboard.laws.catalogue import LAWS
from leaderboard.ranking.cells import asd_interval
from leaderboard.ranking.tracks import TRACKS
from leaderboard.serving.board import Board
from leaderboard.serving.runs import group_name
from space.pages import influence
from space.parts import links, look
from space.parts.table import Column, number, records, table
from space.server.store import Store

OVERALL = "all held-out tracks"
EVERY = "every group"
TRACK_NAMES = {
    OVERALL: OVERALL,
    "fit": "in sample",
    "tokens": "last 20 % of tokens",
    "size": "largest size",
    "rate": "highest rate",
}
DEFAULTS: dict[str, Any] = {"track": OVERALL, "group": EVERY, "law": ""}


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    board = store.board
    with gr.Row():
        track = gr.Dropdown(
            [(name, key) for key, name in TRACK_NAMES.items()], value=OVERALL, label="Held out", elem_id="track"
        )
        group = gr.Dropdown([EVERY, *_groups(board)], value=EVERY, label="Group", elem_id="group")
        law = gr.Dropdown(list(LAWS), value=next(iter(LAWS)), label="Law in detail", elem_id="law")
    ranking = gr.HTML(elem_id="ranking", min_height=300)
    address = links.address()
    detail = gr.HTML(elem_id="law-detail")
    gr.HTML("<h2>Which inputs matter?</h2><p>Held-out ASD of P² without an input, over that of the whole law.</p>")
    ablation = gr.HTML('<p class="empty">Fitting P² without each of its inputs…</p>', elem_id="ablation")
    influence.draw(store, demo)
    inputs = [track, group, law]

    def shown(state: links.Values) -> list[str]:
        told = {**state, "law": "" if state["law"] == _best(store.board) else state["law"]}
        return [
            look.warned(lambda: _ranking(store.board, state["track"], state["group"])),
            look.warned(lambda: _detail(store.board, state["law"])),
            links.query(told, DEFAULTS),
        ]

    def opened(request: gr.Request) -> list[Any]:
        state = links.read(request, DEFAULTS)
        state["track"] = state["track"] if state["track"] in TRACK_NAMES else OVERALL
        state["group"] = state["group"] if state["group"] in _groups(store.board) else EVERY
        state["law"] = state["law"] if state["law"] in LAWS else _best(store.board)
        groups = gr.update(choices=[EVERY, *_groups(store.board)], value=state["group"])
        return [state["track"], groups, state["law"], *shown(state)]

    def asked(*values: str) -> list[str]:
        return shown(dict(zip(DEFAULTS, values, strict=True)))

    def ablated() -> str:
        return look.warned(lambda: _ablation(store.board))

    outputs = [ranking, detail, address]
    demo.load(opened, outputs=[*inputs, *outputs], **look.QUIET).then(ablated, outputs=ablation, **look.QUIET)
    gr.on([part.input for part in inputs], asked, inputs, outputs, trigger_mode="always_last", **look.QUIET)


def _groups(board: Board) -> list[str]:
    return [group_name(key) for key, _ in board.groups]


def _best(board: Board) -> str:
    table_, _ = board.ranking
    best = table_.loc[table_["recommended"], "law"]
    return str(best.iloc[0]) if len(best) else next(iter(LAWS))


def _whisker(row: dict[str, Any], longest: float) -> str:
    """The score with its 90 % interval, drawn from 1 (the best law everywhere) to `longest`."""
    low, at, high = row["low"], row["score"], row["high"]
    if words.missing(at):
        return words.NONE

    def x(value: float) -> str:
        return f"{150 * min(1.0, (value - 1) / max(longest - 1, 1e-9)):.1f}"

    known = not words.missing(low) and not words.missing(high)
    line = f'<line x1="{x(low)}" x2="{x(high)}" y1="7" y2="7"/>' if known else ""
    dot = f'<circle cx="{x(at)}" cy="7" r="4"/>'
    return f'<svg class="whisker" viewBox="0 0 150 14" aria-hidden="true">{line}{dot}</svg>'


def _ranking(board: Board, track: str, group: str) -> str:
    """The ranking over everything held out, or one cell of it."""
    if track == OVERALL and group == EVERY:
        return _overall(board)
    _, cells = board.ranking
    names = pd.Series([group_name(cell) for cell in cells.to_dict("records")], cells.index, dtype=object)
    chosen = cells[
        (cells["track"].isin(TRACKS[1:]) if track == OVERALL else cells["track"] == track)
        & (True if group == EVERY else names == group)
    ]
    rows = chosen.assign(
        group=names,
        between=[_between(d) for d in chosen["asd_draws"]],
        track=chosen["track"].map(TRACK_NAMES),
        status=chosen["status"].str.replace("_", " "),
    ).sort_values(["group", "track", "rmse"], na_position="last")
    columns = (
        Column("Group", "group"), Column("Held out", "track"), Column("Law", "law", _law_link),
        number("RMSE", "rmse", _four, "nats per token"),
        number("ASD", "asd", words.number, "nats per billion tokens"),
        number("90 %", "between", str, "over whole-run draws"),
        number("per doubling", "asd_doubling", _four, "nats per doubling of tokens"),
        number("R²", "r2", _four),
        number("Huber", "huber", lambda v: words.digits(v) if v == v else words.NONE),
        Column("Status", "status"),
    )  # fmt: skip
    said = "These runs cannot test this track here."
    return table(columns, rows, "Laws in the chosen cells", empty=said, whole="cells")


def _between(drawn: Any) -> str:
    ends = asd_interval(drawn)
    return words.NONE if ends is None else f"{words.number(ends[0])} to {words.number(ends[1])}"


def _overall(board: Board) -> str:
    """Which laws answer and why, every law by its error on new models and ASD beside it, how often answers held."""
    ranked, _ = board.ranking
    longest = float(ranked[["score", "score_high"]].max().max())
    ranked = ranked.sort_values(["rmse_heldout", "score"], na_position="last")
    rows = records(ranked.assign(low=ranked["score_low"], high=ranked["score_high"]))
    for row in rows:
        row["drawn"] = _whisker(row, longest)
        row["place"] = None if pd.isna(row["rank"]) else int(row["rank"])
        row["said"] = '<span class="tag">errs least</span>' if row["recommended"] else ""
    columns = (
        Column("Law", "law", _law_link),
        number("RMSE on new models", "rmse_heldout", _four, "nats per token, unseen sizes and rates"),
        Column("", "said", str),
        number("ASD ratio", "score", words.number, "ASD over the best law's, geometric mean over held-out cells"),
        Column("1 is best", "drawn", str, help="with its 90 % interval over whole-run draws"),
        number("Rank by ASD", "place", _place, "one more than the number of laws that are surely better"),
        number("Wins", "wins", words.share, "share of draws in which no law has a lower ASD ratio"),
        number("per doubling", "score_doubling", words.number, "the same for slopes between 8 knots, per doubling"),
    )  # fmt: skip
    shown = table(columns, rows, "Laws by error on new models", marked=_recommended, whole="ranking")
    return f"{_which(board)}{shown}{_ties(ranked)}{_noise(board)}{_covered()}"


def _recommended(row: dict[str, Any]) -> bool:
    return bool(row["recommended"])


def _place(value: int | None) -> str:
    return words.NONE if value is None else str(value)


def _which(board: Board) -> str:
    """Which laws answer the token budget, and why: in the group with most runs."""
    if not board.groups:
        return ""
    key, _ = max(board.groups, key=lambda group: len(group[1]))
    answering = board.predictor(
        key["family"], key["method"], eval_data=key["eval_data"], objective=key["objective"]
    )  # fmt: skip
    why = "".join(f"<li>{words.text(line)}</li>" for line in answering.why)
    return f"<h2>Which law answers, and why</h2><ul><li>About {words.text(group_name(key))}.</li>{why}</ul>"


def _ties(ranked: pd.DataFrame) -> str:
    """The laws that ASD cannot tell apart, in a sentence."""
    first = ranked.loc[ranked["rank"] == ranked["rank"].min(), "law"]
    if len(first) < 2:
        return ""
    names = words.text(", ".join(first))
    return (
        f"<p>By ASD {len(first)} laws share the first rank: {names}. None is surely better than all others; other runs "
        "could have reversed them.</p>"
    )


def _noise(board: Board) -> str:
    floor = board.floor
    if words.missing(floor["asd"]):
        return ""
    return (
        f"<p>Noise floor: two seeds of one run differ by {words.number(floor['asd'])} nats per billion tokens, "
        f"{words.number(floor['asd_doubling'], 4)} per doubling. ASD between neighbouring evaluations is mostly noise, "
        "so it does not decide which law answers.</p>"
    )


# `p2zoo rank seed --calibration`: curves, then the shares of losses and of token counts in their 80 % intervals
COVERED = (
    ("all", 286, 0.80, 0.80),
    ("inside", 56, 0.79, 0.79),
    ("a factor 1.5 to 3 outside", 134, 0.87, 0.88),
    ("farther", 52, 0.55, 0.53),
)


def _covered() -> str:
    """What the intervals of answers held on the bundled runs."""
    rows = [dict(zip(("where", "curves", "loss", "tokens"), row, strict=True)) for row in COVERED]
    columns = (
        Column("Held out", "where"), number("Curves", "curves", str), number("80 % of losses", "loss", words.share),
        number("80 % of token counts", "tokens", words.share),
    )  # fmt: skip
    return (
        "<h2>How often answers held</h2><p>Every hold-out of the bundled runs, answered by laws that never saw it; "
        "80 % was promised. <code>p2zoo rank --calibration</code> does the same for any logs.</p>"
        + table(columns, rows, "Calibration")
    )


def _four(value: float | None) -> str:
    return words.number(value, 4)


def _law_link(name: Any) -> str:
    return f'<a href="laws?law={words.text(name)}">{words.text(name)}</a>'


def _detail(board: Board, name: str) -> str:
    """A law's formula, source and fitted numbers."""
    law = LAWS[name]
    fits = board.fits(name)
    rows = [_fit_row(key, found) for key, found in fits]
    columns = (
        Column("Family", "family"), Column("Method", "method"), Column("Text", "eval_data"),
        number("Runs", "runs", str, "fitted to: own and, for pooled laws, lent ones"),
        number("RMSE", "rmse", _four, "nats per token, in sample"),
        Column("Numbers, for parameters and tokens in billions", "numbers", str, wrap=True), Column("Status", "status"),
        Column("What these runs cannot tell", "held", wrap=True),
    )  # fmt: skip
    return (
        f"<h2>{words.text(name)}</h2>"
        f"<div class='formula' tabindex='0'>{convert('L = ' + law.latex, display='block')}</div>"
        f"<p>{words.text(law.source)}. Needs {words.text(', '.join(law.inputs))}.</p>"
        f"{table(columns, rows, f'Fits of {name}')}"
    )


def _fit_row(key: dict[str, str], found: Any) -> dict[str, Any]:
    if not isinstance(found, Fit):
        return {
            **key,
            "runs": words.NONE,
            "rmse": None,
            "numbers": words.NONE,
            "status": found.code,
            "held": str(found),
        }
    numbers = ", ".join(f"{words.text(k)}&nbsp;=&nbsp;{words.digits(v)}" for k, v in found.params.items())
    held = "; ".join(f"{name} {why}" for name, why in found.pinned.items())
    return {
        **key, "runs": found.n_runs, "rmse": found.rmse, "numbers": numbers, "status": str(found.status),
        "held": held or words.NONE,
    }  # fmt: skip


def _ablation(board: Board) -> str:
    rows = records(board.ablation)
    for row in rows:
        row["between"] = f"{words.number(row['low'])} to {words.number(row['high'])}"
    columns = (
        Column("Without", "without"), number("ASD ratio", "asd_ratio", words.number), number("90 %", "between", str),
        number("per doubling", "doubling_ratio", words.number), number("RMSE", "rmse", _four),
        number("Cells", "n_cells", str),
    )  # fmt: skip
    return table(columns, rows, "P² without each of its inputs", whole="ablation")
