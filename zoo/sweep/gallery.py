"""Many runs in one picture: a panel a group, excess over l0 against tokens, the fitted law where runs allow one."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from leaderboard import LAWS, words
from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.pooled import fit_group
from leaderboard.logs.contract import CLM, UNKNOWN, curve_numbers
from leaderboard.logs.origin import ORIGIN, PROTOCOL
from leaderboard.ranking.tracks import groups, on_text
from zoo.run.plot import INK, QUIET

RATES = LinearSegmentedColormap.from_list("rates", ["#8fc9e0", "#0b6e99", "#5b2a86"])
RUNS_FOR_A_LAW = 4
COLUMNS = 3
DASHES, WORDS = ("-", "--", ":", "-."), ("drawn through", "dashed", "dotted", "dash-dotted")


def draw_gallery(
    path: Path, frame: pd.DataFrame, laws: Sequence[str] = ("damage-drift",), above: str = "l0"
) -> list[str]:
    """Write a PNG of run-log rows, and return the panel titles. Lines are the laws fitted in each group, each with a
    dash of its own; `above` names what losses are drawn over."""
    figure, titles = gallery(frame, laws, above)
    figure.savefig(path, format="png")
    return titles


def gallery(
    frame: pd.DataFrame, laws: Sequence[str] = ("damage-drift",), above: str = "l0"
) -> tuple[Figure, list[str]]:
    """The picture as a figure, and its panel titles."""
    frame = frame[(frame["method"] != "none") & (frame["tokens"] > 0)]
    if frame.empty:
        raise P2Error("plot: no curve to draw: no log that is clean, of a pruned model. `p2zoo check` says more.")
    runs_on = frame.groupby("eval_data", observed=True)["run_id"].nunique()
    panels = sorted(groups(frame), key=lambda g: (-runs_on[g[0]["eval_data"]], g[0]["family"], g[0]["method"]))
    across = min(COLUMNS, max(2, len(panels)))
    rows = -(-len(panels) // across)
    figure = Figure(figsize=(4.0 * across, 2.9 * rows + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    norm = Normalize(frame["rate"].min(), frame["rate"].max())
    for axes, (key, group) in zip(grid, panels, strict=False):
        apart = [key["objective"]] * (key["objective"] not in (CLM, UNKNOWN))
        apart += [key.get(name, "") for name in (ORIGIN, PROTOCOL)]
        how = "".join(f", {words}" for words in apart if words)
        several = int(curve_numbers(group).max()) + 1 >= RUNS_FOR_A_LAW
        drawn = [_predict(group, key, on_text(frame, key), law) for law in laws] if several else []
        fitted = [(dash, line) for dash, line in zip(cycle(DASHES), drawn, strict=False) if line is not None]
        _panel(axes, f"{key['family']}, {key['method']}{how}", key["eval_data"], group, fitted, norm)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("post-training tokens", color=INK, fontsize=10)
    figure.supylabel(f"held-out loss above {above} (nats per token)", color=INK, fontsize=10)
    lines = (
        ", ".join(f"{law} {WORDS[i % len(WORDS)]}" for i, law in enumerate(laws)) if laws[1:] else f"the law {laws[0]}"
    )
    gap = " " if across == COLUMNS else "\n"
    figure.suptitle(
        f"Dots: measured, darker = more parameters removed ({norm.vmin:.0%} to {norm.vmax:.0%}).{gap}"
        f"Lines: {lines}; faint where none fits.",
        color=INK, fontsize=10, x=0.01, ha="left",
    )  # fmt: skip
    return figure, [f"{key['family']} {key['method']} on {key['eval_data']}" for key, _ in panels]


def _panel(
    axes: Axes, title: str, text: str, group: pd.DataFrame, predicted: Sequence[tuple[str, pd.Series]], norm: Normalize
) -> None:
    """One group: a curve a run, named at its end by rate and size."""
    number = curve_numbers(group)
    runs = int(number.max()) + 1
    for run in range(runs):
        own = number == run
        rows = group[own].sort_values("tokens")
        color = RATES(norm(rows["rate"].iloc[0]))
        size = 4 + 9 * np.sqrt(rows["n0"].iloc[0] / 4e7)
        axes.scatter(rows["tokens"], rows["loss"] - rows["l0"], s=size, color=color, linewidths=0, alpha=0.8)
        for dash, line in predicted:
            axes.plot(rows["tokens"], line.loc[rows.index] - rows["l0"], color=color, linewidth=1, linestyle=dash)
        if not predicted:  # nothing to compare with: join what was measured
            axes.plot(rows["tokens"], rows["loss"] - rows["l0"], color=color, linewidth=1, alpha=0.4)
    axes.set_xscale("log")
    axes.axhline(0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, loc="left", color=INK, fontsize=10, fontweight="bold")
    sizes = [words.count(n) for n in sorted({round(n / 1e5) * 1e5 for n in group["n0"]})]
    note = f"{runs} run{'s' * (runs > 1)}, {' '.join(sizes)} parameters\n{text}"
    axes.text(0.98, 0.96, note, transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)


def _predict(group: pd.DataFrame, key: dict[str, str], text: pd.DataFrame, law: str) -> pd.Series | None:
    try:
        return pd.Series(fit_group(LAWS[law], text, key).fit.predict(group), index=group.index)
    except FitError:
        return None
