"""A report as one page, report_page.html.jinja: no file or script beside it. Pictures are inline SVG with real text."""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from leaderboard import words
from leaderboard.logs.methods import METHODS, OTHER_METHOD
from zoo.files import write_atomic
from zoo.run.plot import INK, QUIET
from zoo.sweep.gallery import gallery
from zoo.sweep.report import Report, device, next_words


def write_page(report: Report, path: Path) -> Path:
    """Write the report as HTML."""
    write_atomic(path, page(report))
    return path


def page(report: Report) -> str:
    """The whole page, report_page.html.jinja; every word in it that is not p2zoo's own is escaped."""
    runs, unit = report.runs, device(report.runs)
    timed = runs[runs["hours"].notna() & runs["recovered"].notna()]
    ranked = report.laws[report.laws["rank"].notna()]
    walls = (runs["hours"] / runs["devices"].fillna(1)).map(words.time)
    template = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template.filters["form"] = _form
    return template.from_string(Path(__file__).with_name("report_page.html.jinja").read_text(encoding="utf-8")).render(
        report=report,
        runs=runs.assign(wall=walls).to_dict("records"),
        laws=report.laws.to_dict("records"),
        unit=unit,
        timed=bool(runs["hours"].notna().any()),
        tokens=words.count(runs["tokens"].sum()),
        hours=runs["hours"].sum(),
        won=runs["recovered"].median(),
        best_law=str(ranked["law"].iloc[0]) if len(ranked) else "–",
        next_run=report.next_run and next_words(report.next_run),
        curves=_svg(gallery(report.clean, [report.law])[0], "curves"),
        damage=_svg(_picture(_damage, runs), "damage"),
        value="" if timed.empty else _svg(_picture(_value, timed, unit), "value"),
    )


def _form(value: float, form: str) -> str:
    return "" if pd.isna(value) else format(value, form)


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
        color = METHODS.get(str(method), OTHER_METHOD).color
        axes.vlines(own["rate"], own["loss"] - own["l0"], own["l_pruned"] - own["l0"], color=color, alpha=0.5)
        axes.plot(own["rate"], own["l_pruned"] - own["l0"], "o", mfc="white", mec=color, ms=6)
        axes.plot(own["rate"], own["loss"] - own["l0"], "o", color=color, ms=5, label=str(method))
    axes.axhline(0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("parameters removed", color=INK)
    axes.set_ylabel("loss above l0 (nats per token)", color=INK)


def _value(axes: Axes, runs: pd.DataFrame, unit: str) -> None:
    for method, own in runs.groupby("method"):
        axes.plot(
            own["hours"],
            own["recovered"],
            "o",
            color=METHODS.get(str(method), OTHER_METHOD).color,
            ms=6,
            label=str(method),
        )
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
