"""The picture of a run: held-out loss over post-training tokens, between l0 and l_pruned."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from leaderboard import words

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.planning.forecasting.forecast import Forecast

INK, CURVE, QUIET = "#1f2933", "#0b6e99", "#7b8794"


def draw_curve(path: Path, rows: Sequence[dict[str, Any]], l0: float, l_pruned: float, title: str) -> None:
    """Write a PNG of `rows` (tokens, loss); row 0 is the l_pruned line, since a log axis has no zero."""
    figure = Figure(figsize=(7.2, 4.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    tokens, losses = zip(*[(row["tokens"], row["loss"]) for row in rows if row["tokens"]], strict=True)
    axes.set_xscale("log")
    axes.set_xlim(tokens[0] * 0.8, tokens[-1] * 1.25)
    for level, name, side in ((l_pruned, "after pruning", "bottom"), (l0, "before pruning", "top")):
        axes.axhline(level, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        label = f"{name}  {level:.3f}"
        axes.text(0.012, level, label, transform=axes.get_yaxis_transform(), color=QUIET, va=side, fontsize=9)
    axes.plot(tokens, losses, color=CURVE, linewidth=2, marker="o", markersize=4)
    axes.annotate(
        f"{losses[-1]:.3f}", (tokens[-1], losses[-1]), (0, 8), textcoords="offset points",
        color=CURVE, ha="center", fontweight="bold",
    )  # fmt: skip
    low, high = min(l0, *losses), max(l_pruned, *losses)
    axes.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("post-training tokens", color=INK)
    axes.set_ylabel("held-out loss (nats per token)", color=INK)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.savefig(path, format="png")


def draw_band(path: Path, own: "pd.DataFrame", ahead: "Forecast", title: str) -> None:
    """Write a PNG of a run's rows so far and its forecast, with the bands of one evaluation at 80 and 95 %."""
    figure = Figure(figsize=(7.2, 4.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows = own[own["tokens"] > 0]
    end = max(ahead.planned or 0.0, 10 * ahead.last)
    tokens = np.geomspace(float(rows["tokens"].min()), end, 120)
    tokens = np.array([t for t in tokens if t <= ahead.last or ahead.state_at(t) != "too_far"])
    for level, alpha in ((0.95, 0.12), (0.8, 0.25)):
        low, high = ahead.interval(tokens, level)
        axes.fill_between(tokens, low, high, color=CURVE, alpha=alpha, linewidth=0, label=f"{level:.0%} of evaluations")
    axes.plot(tokens, ahead.predict(tokens), color=CURVE, linewidth=2, label="forecast")
    axes.plot(rows["tokens"], rows["loss"], "o", color=INK, markersize=4, label="measured")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("post-training tokens", color=INK)
    axes.set_ylabel("held-out loss (nats per token)", color=INK)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png")
