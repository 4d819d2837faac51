"""A report as one page: no file, script or address beside it. Pictures are inline SVG with real text."""

import html
import io
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from zoo.amounts import short_count
from zoo.files import write_atomic
from zoo.run.plot import INK, QUIET
from zoo.sweep.gallery import gallery
from zoo.sweep.report import Report, device, next_words

COLORS = {"depth": "#0b6e99", "width": "#b4540a", "2:4": "#5b2a86"}
OTHER = "#4d7c0f"

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --quiet: #52606d; --line: #e4e7eb; --accent: #0b6e99; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
p { margin: .3rem 0 .8rem; } .quiet { color: var(--quiet); } small { color: var(--quiet); }
section { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem 1.5rem;
  margin: 1.25rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .9rem; margin: 1.4rem 0; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: .9rem 1.1rem; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.25; color: var(--accent); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; } td:first-child, th:first-child { text-align: left; }
td.text, th.text { text-align: left; } tr:last-child td { border-bottom: 0; } tr.bad td { color: #a61b1b; }
td.why { white-space: normal; }
.bar { display: inline-block; height: .6em; background: var(--accent); border-radius: 3px; margin-right: .5em; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 1.25rem; }
.two section { margin: 0; } svg { width: 100%; height: auto; display: block; } code { font-size: .88em; }
"""


def write_page(report: Report, path: Path) -> Path:
    """Write the report as HTML."""
    write_atomic(path, page(report))
    return path


def page(report: Report) -> str:
    """The whole page."""
    figure, _ = gallery(report.clean, report.law)
    unit = device(report.runs)
    parts = [
        f"<h1>{html.escape(report.title)}</h1>",
        '<p class="quiet">Held-out losses are nats per token, rates shares of all parameters. The damage is the loss '
        "right after pruning less the loss before it; won back is the share of it that post-training took off.</p>",
        _tiles(report, unit),
        _section("Loss curves", _svg(figure, "curves"), f"Law drawn: {report.law}, in groups of four runs or more."),
        _section("Runs", _runs(report, unit)),
        '<div class="two">',
        _section("Damage against rate", _svg(_picture(_damage, report.runs), "damage"),
                 "From the loss right after pruning (ring) down to the loss after post-training (dot), above l0."),
        _value_section(report.runs, unit),
        "</div>",
        _section("Laws", _laws(report.laws), _UNITS, *report.notes),
    ]  # fmt: skip
    if report.noise:
        parts.append(_noise_section(report))
    if report.next_run:
        parts.append(_section("Next most wanted run", f"<p>{html.escape(next_words(report.next_run))}.</p>"))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body><main>\n{body}\n</main></body>\n</html>\n"
    )


def _section(title: str, body: str, *notes: str) -> str:
    words = "".join(f'<p class="quiet"><small>{html.escape(note)}</small></p>' for note in notes)
    return f"<section><h2>{html.escape(title)}</h2>{body}{words}</section>"


def _value_section(runs: pd.DataFrame, unit: str) -> str:
    """What the hours bought; nothing where no run was timed."""
    timed = runs[runs["hours"].notna() & runs["recovered"].notna()]
    if timed.empty:
        return ""
    picture = _svg(_picture(_value, timed, unit), "value")
    return _section(f"Share won back against {unit}", picture, f"Each dot a run; {unit} of training alone.")


def _tiles(report: Report, unit: str) -> str:
    runs = report.runs
    hours, won = runs["hours"].sum(), runs["recovered"].median()
    ranked = report.laws[report.laws["rank"].notna()]
    figures = [
        (f"{len(runs)}", "run" if len(runs) == 1 else "runs"),
        (f"{len(report.failed)}", "failed"),
        (short_count(runs["tokens"].sum()), "post-training tokens"),
        (f"{hours:.3g}" if hours else "–", unit),
        ("–" if math.isnan(won) else f"{won:.0%}", "of the damage won back, median"),
        (html.escape(str(ranked["law"].iloc[0])) if len(ranked) else "–", "law that predicts best"),
    ]
    tiles = "".join(f'<div class="tile"><b>{value}</b>{what}</div>' for value, what in figures)
    return f'<div class="tiles">{tiles}</div>'


def _runs(report: Report, unit: str) -> str:
    head = ["run", "base model", "method", "rate", "l0", "pruned", "final", "won back", "tokens"]
    timed = bool(report.runs["hours"].notna().any())
    head += ["wall time", unit, "won back per hour"] if timed else []
    rows = []
    for r in report.runs.to_dict("records"):
        share = r["recovered"]
        bar = f'<span class="bar" style="width:{max(0, min(1, share)) * 4:.2f}em"></span>' if share == share else ""
        cells = [f"{r['rate']:.3f}", f"{r['l0']:.4f}", f"{r['l_pruned']:.4f}", f"{r['loss']:.4f}"]
        cells += [bar + _number(share, ".0%"), f"{r['tokens']:,}"]
        if timed:
            wall = r["hours"] * 3600 / (r["devices"] if r["devices"] == r["devices"] else 1)
            cells += [duration(wall), _number(r["hours"], ".3g"), _number(share / r["hours"], ".3g")]
        names = "".join(f'<td class="text">{html.escape(str(r[k]))}</td>' for k in ("name", "base_model", "method"))
        rows.append(f"<tr>{names}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    for name, why in report.failed.items():
        words = f'<td class="text why" colspan="{len(head) - 1}">failed: {html.escape(why)}</td>'
        rows.append(f'<tr class="bad"><td>{html.escape(name)}</td>{words}</tr>')
    return _table(head, rows, text=3)


def _noise_section(report: Report) -> str:
    """Noisy runs against the law of the clean ones."""
    head = ["family, method", "noise", "runs", "clean law", "gap", "offset", "excess x", "RMSE", "shifted", "clean"]
    verdicts = {True: "predicts", False: "does not predict", None: "too few runs"}
    rows = []
    for level in report.noise:
        told, group = level.shift, f"{level.group['family']}, {level.group['method']}"
        cells = [f'<td class="text">{html.escape(group)}</td>', f"<td>{level.share:.0%}</td><td>{len(level.runs)}</td>"]
        if told is None:
            cells.append(f'<td class="text why" colspan="7">{html.escape(level.why)}</td>')
        else:
            ranges = [f"{e.value:.4f}{_range(e.low, e.high)}" for e in (told.gap, told.offset, told.scale)]
            errors = [f"{e:.4f}" for e in (told.rmse_noisy, told.rmse_shifted, told.rmse_clean)]
            cells += [f"<td>{cell}</td>" for cell in (verdicts[told.predicted], *ranges, *errors)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _section(
        "Noise: shuffled lines in the post-training text",
        _table(head, rows, text=1),
        f"The law {report.law} is fitted to the clean runs and read at the noisy ones. Gap: measured less predicted, "
        "nats per token. Offset and excess: loss = l0 + x (predicted - l0) + offset. In brackets 95 % intervals by "
        "whole runs. RMSE of the clean law on the noisy runs, on them once shifted, and on the clean runs.",
    )


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"<br><small>[{low:.3f}, {high:.3f}]</small>"


_UNITS = (
    "Ranked by the ASD of what was held out, as a ratio to the best law's (p2zoo rank); laws that whole-run draws "
    "cannot tell apart share a rank. RMSE in nats per token."
)
_LAW_COLUMNS = {"score": ".2f", "rmse_heldout": ".4f", "rmse_fit": ".4f"}


def _laws(laws: pd.DataFrame) -> str:
    head = ["law", "rank", "ASD ratio", "RMSE, unseen sizes and rates", "RMSE in sample", "cells"]
    rows = []
    for r in laws.to_dict("records"):
        place = "–" if pd.isna(r["rank"]) else str(int(r["rank"]))
        cells = [place, *(_number(r[k], form) for k, form in _LAW_COLUMNS.items()), str(int(r["n_cells"]))]
        rows.append(f"<tr><td>{html.escape(r['law'])}</td>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    return _table(head, rows, text=1) if rows else ""


def _table(head: list[str], rows: list[str], text: int) -> str:
    """A table; the first `text` columns are words."""
    names = "".join(f'<th class="text">{h}</th>' if i < text else f"<th>{h}</th>" for i, h in enumerate(head))
    return f'<div class="scroll"><table><tr>{names}</tr>{"".join(rows)}</table></div>'


def _number(value: float, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def duration(seconds: float) -> str:
    """75 -> 1 min 15 s."""
    if math.isnan(seconds):
        return ""
    hours, minutes, left = int(seconds // 3600), int(seconds % 3600 // 60), seconds % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02.0f} s" if minutes else f"{left:.0f} s"


def _picture(draw: Callable[..., None], *what: object) -> Figure:
    figure = Figure(figsize=(5.4, 3.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes, *what)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _damage(axes: Axes, runs: pd.DataFrame) -> None:
    for method, own in runs[runs["method"] != "none"].groupby("method"):
        color = COLORS.get(str(method), OTHER)
        axes.vlines(own["rate"], own["loss"] - own["l0"], own["l_pruned"] - own["l0"], color=color, alpha=0.5)
        axes.plot(own["rate"], own["l_pruned"] - own["l0"], "o", mfc="white", mec=color, ms=6)
        axes.plot(own["rate"], own["loss"] - own["l0"], "o", color=color, ms=5, label=str(method))
    axes.axhline(0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("parameters removed", color=INK)
    axes.set_ylabel("loss above l0 (nats per token)", color=INK)


def _value(axes: Axes, runs: pd.DataFrame, unit: str) -> None:
    for method, own in runs.groupby("method"):
        axes.plot(own["hours"], own["recovered"], "o", color=COLORS.get(str(method), OTHER), ms=6, label=str(method))
    if len(runs) <= 8:
        for row in runs.to_dict("records"):
            at = (row["hours"], row["recovered"])
            axes.annotate(row["name"], at, (0, 7), textcoords="offset points", fontsize=8, color=QUIET, ha="center")
    if runs["hours"].max() > 5 * runs["hours"].min():
        axes.set_xscale("log")
    axes.margins(0.2)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(unit, color=INK)
    axes.set_ylabel("damage won back", color=INK)


def _svg(figure: Figure, name: str) -> str:
    """A figure as SVG to stand in a page; `name` keeps its ids apart from those of other figures."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
