"""The ridge of P²: draws leaderboard/ridge.png, `python tests/bench/figure_ridge.py`.

Each panel fits P² to llama-3 pruned by depth with alpha and E held on a grid, all else free, and shows how much worse
the fit is than the best. From two sizes a whole curve of (alpha, E), each with its own N_C, fits equally well.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from leaderboard import LAWS, Pin, fit, load_logs
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import usable

OUT = Path(__file__).parents[2] / "leaderboard" / "ridge.png"
ALPHA = np.linspace(0.05, 1.5, 24)
E = np.linspace(-0.45, -0.05, 24)


def held(law: Law, **values: float) -> Law:
    """`law` with some parameters held at values."""
    nonlinear = [replace(q, pin=Pin(values[q.name])) if q.name in values else q for q in law.nonlinear]
    linear = [replace(q, pin=Pin(values[q.name])) if q.name in values else q for q in law.linear]
    return replace(law, nonlinear=tuple(nonlinear), linear=tuple(linear))


def surface(rows: pd.DataFrame) -> Array:
    """RMSE in nats of P² at every (E, alpha)."""
    return np.array([[fit(held(LAWS["p2"], alpha=a, E=e), rows).rmse for a in ALPHA] for e in E])


def panel(axes: Axes, rmse: Array, title: str) -> None:
    """How much worse than the best, in thousandths of a nat."""
    worse = 1e3 * (rmse - rmse.min())
    mesh = axes.pcolormesh(ALPHA, E, np.maximum(worse, 0.01), norm=LogNorm(0.01, 10), cmap="viridis_r", rasterized=True)
    axes.contour(ALPHA, E, worse, levels=[0.1], colors="white", linewidths=1.2)
    axes.set(title=title, xlabel=r"$\alpha$")
    if axes.get_subplotspec().is_last_col():
        axes.figure.colorbar(mesh, ax=axes, label="RMSE above the best, 0.001 nats")


def main() -> None:
    """Fit and draw."""
    rows = usable(load_logs().frame)
    rows = rows[(rows["family"] == "llama-3") & (rows["method"] == "depth")]
    rows = rows.groupby("run_id", observed=True).nth(slice(0, None, 3))
    figure = Figure(figsize=(8, 3.4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    panel(left, surface(rows[rows["n0"] < rows["n0"].max()]), "two sizes")
    panel(right, surface(rows), "three sizes")
    left.set_ylabel("E")
    figure.savefig(OUT, metadata={"Software": None})


if __name__ == "__main__":
    main()
