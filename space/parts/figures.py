"""Plotly figures. Many curves are coloured by rate or size, and a bar says so; one prediction stands in the accent.

A legend above the plot says what is what, never a name at a curve, where names would lie over one another. Token axes
are logarithmic with ticks at 1, 2, 5 of every decade. style.css colours text and grid lines in light and dark.
"""

import math
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from leaderboard import words
from leaderboard.logs.methods import METHODS, OTHER_METHOD
from leaderboard.planning.forecasting.forecast import Forecast

PREDICTED, MEASURED = "#c95a22", "#7d776c"  # readable on paper and on night
SCALE = ["#2f7fb0", "#8a70ad", "#c9528a", "#c95a22"]  # from small to large; each readable on paper and on night
BY = {"rate": "share removed", "n0": "parameters before pruning"}  # what colours may tell
BAND = "rgba(201, 90, 34, 0.16)"
MOST_POINTS = 500  # drawn of one run
FONT = "Inter, system-ui, sans-serif"


def _figure(height: int, **layout: object) -> go.Figure:
    figure = go.Figure()
    return _styled(figure, height, **layout)


def _styled(figure: go.Figure, height: int, **layout: object) -> go.Figure:
    figure.update_layout(
        height=height, autosize=True, showlegend=False, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12}, margin={"l": 52, "r": 16, "t": 24, "b": 44}, hovermode="closest",
        **layout,
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, zeroline=False, ticks="outside", ticklen=4)
    figure.update_yaxes(gridwidth=1, zeroline=False)
    return figure


STEPS = ((1,), (1, 2, 5), tuple(1 + k / 2 for k in range(18)), tuple(1 + k / 5 for k in range(45)))  # of a decade


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks at 1, 2, 5 of every decade, written as counts: 1 alone over more than 3, more where fewer than 3 fit."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in STEPS if math.log10(high / low) > 3 else STEPS[1:]:
        at = [step * 10.0**decade for decade in decades for step in steps]
        inside = [v for v in at if low * 0.99 <= v <= high * 1.01]
        if len(inside) >= 3:
            break
    return inside, [f"{v / unit:g}{letter}" for v in inside for unit, letter in [_unit(v)]]


def _unit(value: float) -> tuple[float, str]:
    return next(((scale, letter) for scale, _, letter in words.SCALES if value >= scale), (1.0, ""))


def _token_axis(figure: go.Figure, low: float, high: float, **where: int) -> None:
    values, labels = log_ticks(low, high)
    figure.update_xaxes(
        type="log", tickvals=values, ticktext=labels, range=[math.log10(low), math.log10(high) + 0.02], **where
    )


def budget(curve: pd.DataFrame, near: pd.DataFrame, tokens: int | None, target: float | None, l0: float) -> go.Figure:
    """The predicted curve in its band, over the nearest measured curves, with the answer marked."""
    figure = _figure(410, xaxis_title="post-training tokens", yaxis_title="held-out loss, nats per token")
    for number, (_, run) in enumerate(near.groupby(["distance", "curve"], sort=True)):
        shown = run[run["tokens"] > 0]
        name = f"measured: {_name(run)}"
        figure.add_scatter(
            x=shown["tokens"], y=shown["loss"], mode="lines+markers", line={"color": SCALE[number % 3], "width": 1},
            marker={"size": 5, "symbol": number}, name=name, hovertemplate=_hover(f"{name}: %{{y:.3f}} after"),
        )  # fmt: skip
    if curve["low"].notna().all():
        figure.add_scatter(
            x=[*curve["tokens"], *curve["tokens"][::-1]], y=[*curve["high"], *curve["low"][::-1]], fill="toself",
            fillcolor=BAND, line={"width": 0}, hoverinfo="skip", mode="lines", showlegend=False,
        )  # fmt: skip
    figure.add_scatter(
        x=curve["tokens"], y=curve["loss"], mode="lines", line={"color": PREDICTED, "width": 2.5}, name="predicted",
        hovertemplate="predicted %{y:.3f} after %{x:.3s}<extra></extra>",
    )  # fmt: skip
    low = min([curve["tokens"].min(), *near.loc[near["tokens"] > 0, "tokens"]])
    high = curve["tokens"].max() * 1.1
    for name, at, line in (
        ("before pruning", l0, {"color": MEASURED, "width": 1.5, "dash": "dot"}),
        ("goal", target, {"color": PREDICTED, "width": 1, "dash": "dash"}),
    ):
        if at is not None:
            figure.add_scatter(x=[low, high], y=[at, at], mode="lines", line=line, name=name, hoverinfo="skip")
    if tokens:
        figure.add_vline(x=float(tokens), line={"color": PREDICTED, "width": 1, "dash": "dash"})
    _token_axis(figure, low, high)
    return _with_legend(figure)


def beside(rows: pd.DataFrame, unit: str) -> go.Figure:
    """One's own curve over others', as serving/overlay.py gives them; `unit` says what the values are."""
    figure = _figure(410, xaxis_title="post-training tokens", yaxis_title=unit)
    others = list(rows[~rows["own"]].groupby("name", sort=False))
    for number, (name, run) in enumerate(others):
        figure.add_scatter(
            x=run["tokens"], y=run["value"], mode="lines+markers", name=escape(str(name)), marker={"size": 4},
            line={"color": _shade(number, 0, len(others) - 1), "width": 1},
            hovertemplate=_hover(f"{escape(str(name))}: %{{y:.3f}} after"),
        )  # fmt: skip
    own = rows[rows["own"]]
    figure.add_scatter(
        x=own["tokens"], y=own["value"], mode="lines", line={"color": PREDICTED, "width": 3}, name="yours",
        hovertemplate=_hover("yours: %{y:.3f} after"),
    )  # fmt: skip
    _token_axis(figure, float(rows["tokens"].min()), float(rows["tokens"].max()) * 1.1)
    return _with_legend(figure)


def _name(run: pd.DataFrame) -> str:
    return f"{words.count(run['n0'].iloc[0])} at {words.share(run['rate'].iloc[0])}"


def _with_legend(figure: go.Figure, **top: object) -> go.Figure:
    """The figure with what is what above it."""
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
    figure.update_layout(showlegend=True, legend=legend | top)
    return figure


def forecast(own: pd.DataFrame, ahead: Forecast) -> go.Figure:
    """A run's rows so far and its forecast, with the bands of one evaluation at 80 and 95 %."""
    figure = _figure(380, xaxis_title="post-training tokens", yaxis_title="held-out loss, nats per token")
    rows = own[own["tokens"] > 0]
    first, end = float(rows["tokens"].min()), max(ahead.planned or 0.0, 10 * ahead.last)
    grid = [t for t in np.geomspace(first, end, 80) if t <= ahead.last or ahead.state_at(t) != "too_far"]
    for level in (0.95, 0.8):
        low, high = (np.asarray(edge) for edge in ahead.interval(grid, level))
        figure.add_scatter(
            x=[*grid, *grid[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=BAND, line={"width": 0},
            hoverinfo="skip", mode="lines", showlegend=False,
        )  # fmt: skip
    figure.add_scatter(
        x=grid, y=np.asarray(ahead.predict(grid)), mode="lines", line={"color": PREDICTED, "width": 2.5},
        name="forecast", hovertemplate=_hover("forecast %{y:.3f} after"),
    )  # fmt: skip
    shown = rows.iloc[:: max(1, len(rows) // MOST_POINTS)]
    figure.add_scatter(
        x=shown["tokens"], y=shown["loss"], mode="markers", marker={"size": 5, "color": MEASURED}, name="measured",
        hovertemplate=_hover("measured %{y:.3f} after"),
    )  # fmt: skip
    _token_axis(figure, first, grid[-1] * 1.2)
    return _with_legend(figure)


def _hover(said: str) -> str:
    return said + " %{x:.3s}<extra></extra>"


COLUMNS = 3
LINES = ("solid", "dash")  # of the first law and the second


def curves(rows: pd.DataFrame, laws: tuple[str, ...], by: str = "rate", columns: int = COLUMNS) -> go.Figure:
    """Measured points of excess loss and the lines of one law or two, a panel a group, coloured by a key of BY.

    The laws' columns are `predicted_excess` and, of the second, `second_excess`.
    """
    figure = _multiples(rows, "loss above the unpruned model", columns)
    for (row, column), run, colour in _coloured(rows, by, columns):
        figure.add_scatter(
            x=run["tokens"], y=run["excess"], mode="markers", marker={"size": 4, "color": colour}, row=row, col=column,
            hovertemplate=_hover(f"{_name(run)}: %{{y:.3f}} after"), showlegend=False,
        )  # fmt: skip
        for name, dash in zip(("predicted_excess", "second_excess")[: len(laws)], LINES, strict=False):
            figure.add_scatter(
                x=run["tokens"], y=run[name], mode="lines", line={"color": colour, "width": 1.5, "dash": dash},
                hoverinfo="skip", row=row, col=column, showlegend=False,
            )  # fmt: skip
    figure.add_scatter(x=[None], y=[None], mode="markers", marker={"color": MEASURED, "size": 5}, name="measured")
    return _with_scale(figure, rows, laws, by)


def residuals(rows: pd.DataFrame, laws: tuple[str, ...], by: str = "rate", columns: int = COLUMNS) -> go.Figure:
    """Measured less predicted loss of one law or two (`residual`, `second_residual`), a panel a group."""
    figure = _multiples(rows, "measured less predicted, nats", columns)
    for (row, column), run, colour in _coloured(rows, by, columns):
        for name, dash in zip(("residual", "second_residual")[: len(laws)], LINES, strict=False):
            figure.add_scatter(
                x=run["tokens"], y=run[name], mode="lines", line={"color": colour, "width": 1.5, "dash": dash},
                row=row, col=column, hovertemplate=f"{_name(run)}: %{{y:.4f}}<extra></extra>", showlegend=False,
            )  # fmt: skip
    figure.add_hline(y=0, line={"color": MEASURED, "width": 1})
    return _with_scale(figure, rows, laws, by)


def _multiples(rows: pd.DataFrame, unit: str, columns: int) -> go.Figure:
    names = sorted(rows["panel"].unique())
    lines = -(-len(names) // columns)
    figure = make_subplots(
        rows=lines, cols=min(columns, len(names)), subplot_titles=[escape(name) for name in names], shared_yaxes=True,
        horizontal_spacing=0.03, vertical_spacing=0.34 / (lines + 1),
    )  # fmt: skip
    _styled(figure, 140 + 250 * lines)
    figure.update_layout(margin={"t": TOP})
    trained = rows.loc[rows["tokens"] > 0, "tokens"]
    _token_axis(figure, float(trained.min()), float(trained.max()) * 1.05)
    figure.update_yaxes(title_text=unit, col=1)
    figure.update_annotations(font={"size": 13})
    return figure


TOP = 110  # pixels above many panels, for legend and bar


def _with_scale(figure: go.Figure, rows: pd.DataFrame, laws: tuple[str, ...], by: str) -> go.Figure:
    """Above the panels: which line is which law, and which colour which rate or size."""
    for law, dash in zip(laws, LINES, strict=False):
        figure.add_scatter(x=[None], y=[None], mode="lines", line={"color": MEASURED, "dash": dash}, name=escape(law))
    values = _scaled(rows[by], by)
    low, high = float(values.min()), float(values.max())
    ticks = sorted({low, (low + high) / 2, high})
    write = words.share if by == "rate" else lambda v: words.count(10**v)
    figure.add_scatter(
        x=[None], y=[None], mode="markers", marker={"color": [low], "coloraxis": "coloraxis"}, showlegend=False
    )  # fmt: skip
    bar = {
        "orientation": "h", "thickness": 10, "len": 0.45, "x": 1,
        "xanchor": "right", "y": 1 - 20 / figure.layout.height, "yref": "container", "yanchor": "top",
        "tickvals": ticks, "ticktext": [write(tick) for tick in ticks], "outlinewidth": 0,
    }  # fmt: skip
    ends = {"cmin": low, "cmax": high if high > low else low + 1}
    figure.add_annotation(
        text=BY[by], x=1, y=1, xref="paper", yref="paper", xanchor="right", yanchor="bottom", yshift=TOP - 22,
        showarrow=False,
    )  # fmt: skip
    figure.update_layout(coloraxis={"colorscale": SCALE, "colorbar": bar, **ends})
    return _with_legend(figure, orientation="v", y=1, yref="container", yanchor="top")


def _scaled(values: pd.Series, by: str) -> pd.Series:
    """Rates as they are, sizes by their logarithm."""
    return values.astype(float) if by == "rate" else pd.Series(np.log10(values.astype(float)), values.index)


def _shade(value: float, low: float, high: float) -> str:
    """The colour of a value between two."""
    return str(sample_colorscale(SCALE, [(value - low) / (high - low) if high > low else 0.0])[0])


Curve = tuple[tuple[int, int], pd.DataFrame, str]


def _coloured(rows: pd.DataFrame, by: str, columns: int) -> list[Curve]:
    """The trained rows of every run with its panel's place and its colour."""
    names = sorted(rows["panel"].unique())
    place = {name: (i // columns + 1, i % columns + 1) for i, name in enumerate(names)}
    values = _scaled(rows[by], by)
    low, high = float(values.min()), float(values.max())
    trained = rows[rows["tokens"] > 0].assign(shade=values).sort_values("tokens")
    by_run = trained.groupby(["panel", "run_id", "contributor"], observed=True, sort=True)
    return [(place[str(key[0])], run, _shade(run["shade"].iloc[0], low, high)) for key, run in by_run]


def one_run(rows: pd.DataFrame) -> go.Figure:
    """One run as measured and predicted, and under it the residuals."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.08)
    _styled(figure, 420)
    trained = rows[rows["tokens"] > 0]
    figure.add_scatter(
        x=trained["tokens"], y=trained["loss"], mode="markers", marker={"size": 5, "color": MEASURED}, row=1, col=1,
        hovertemplate="%{y:.4f} after %{x:.3s}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=trained["tokens"], y=trained["predicted"], mode="lines", line={"color": PREDICTED, "width": 2}, row=1, col=1
    )
    figure.add_scatter(
        x=trained["tokens"], y=trained["residual"], mode="lines+markers", row=2, col=1,
        line={"color": MEASURED, "width": 1}, marker={"size": 4, "color": MEASURED},
    )  # fmt: skip
    figure.add_hline(y=float(rows["l0"].iloc[0]), line={"color": MEASURED, "width": 1, "dash": "dot"}, row=1, col=1)
    figure.add_hline(y=0, line={"color": PREDICTED, "width": 1}, row=2, col=1)
    _token_axis(figure, float(trained["tokens"].min()), float(trained["tokens"].max()) * 1.05)
    figure.update_xaxes(title_text="post-training tokens", row=2, col=1)
    figure.update_yaxes(title_text="held-out loss", row=1, col=1)
    figure.update_yaxes(title_text="difference", row=2, col=1)
    return figure


def pareto(models: pd.DataFrame) -> go.Figure:
    """Final loss against non-zero parameters; the front joined, methods told apart by colour and mark."""
    figure = _figure(420, xaxis_title="non-zero parameters", yaxis_title="held-out loss, nats per token")
    front = models[models["pareto"]].sort_values("parameters")
    figure.add_scatter(
        x=front["parameters"],
        y=front["loss"],
        mode="lines",
        line={"color": PREDICTED, "width": 2, "shape": "hv"},
        hoverinfo="skip",
        name="none better",
    )
    for method, own in models.groupby("method"):
        row = METHODS.get(str(method), OTHER_METHOD)
        figure.add_scatter(
            x=own["parameters"], y=own["loss"], mode="markers", name=escape(str(method)),
            text=[escape(str(model)) for model in own["model"]],
            marker={"size": 10, "color": row.color, "symbol": row.marker},
            hovertemplate="%{text}<br>%{y:.3f} at %{x:.3s}<extra></extra>",
        )  # fmt: skip
    low, high = float(models["parameters"].min()) / 1.2, float(models["parameters"].max()) * 1.2
    _token_axis(figure, low, high)
    return _with_legend(figure)
