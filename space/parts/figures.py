"""Plotly figures. Measured points are grey, predictions in the accent; text and grid take the page's own colours.

Curves are labelled where they end, token axes are logarithmic with ticks at 1, 2, 5 of every decade. style.css gives
text and grid lines their colour in light and dark.
"""

import math
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from leaderboard import words
from leaderboard.logs.methods import METHODS, OTHER_METHOD
from leaderboard.planning.forecasting.forecast import Forecast

PREDICTED, MEASURED, SOFT = "#c95a22", "#7d776c", "#a9a397"  # readable on paper and on night
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
    figure = _figure(380, xaxis_title="post-training tokens", yaxis_title="held-out loss, nats per token")
    for _, run in near.groupby("distance", sort=False):
        shown = run[run["tokens"] > 0]
        name = f"{words.count(run['n0'].iloc[0])} at {words.share(run['rate'].iloc[0])}"
        figure.add_scatter(
            x=shown["tokens"], y=shown["loss"], mode="lines+markers", line={"color": SOFT, "width": 1},
            marker={"size": 4, "color": MEASURED}, name=name, hovertemplate=_hover(f"{name}: %{{y:.3f}} after"),
        )  # fmt: skip
        _label(figure, shown["tokens"].iloc[0], shown["loss"].iloc[0], name, MEASURED, "left")
    if curve["low"].notna().all():
        figure.add_scatter(
            x=[*curve["tokens"], *curve["tokens"][::-1]], y=[*curve["high"], *curve["low"][::-1]], fill="toself",
            fillcolor=BAND, line={"width": 0}, hoverinfo="skip", mode="lines",
        )  # fmt: skip
    figure.add_scatter(
        x=curve["tokens"], y=curve["loss"], mode="lines", line={"color": PREDICTED, "width": 2.5},
        hovertemplate="predicted %{y:.3f} after %{x:.3s}<extra></extra>",
    )  # fmt: skip
    above = "high" if curve["high"].notna().all() else "loss"
    _label(figure, curve["tokens"].iloc[-1], curve[above].iloc[-1], "predicted", PREDICTED)
    figure.add_hline(y=l0, line={"color": MEASURED, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=0, xref="paper", y=l0, text="before pruning", showarrow=False, xanchor="left", yanchor="top"
    )
    if target is not None:
        figure.add_hline(y=target, line={"color": PREDICTED, "width": 1, "dash": "dash"})
    if tokens:
        at = float(tokens)
        figure.add_vline(x=at, line={"color": PREDICTED, "width": 1, "dash": "dash"})
    lows = [curve["tokens"].min(), *near.loc[near["tokens"] > 0, "tokens"]]
    _token_axis(figure, min(lows), curve["tokens"].max() * 1.6)
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
            hoverinfo="skip", mode="lines",
        )  # fmt: skip
    figure.add_scatter(
        x=grid, y=np.asarray(ahead.predict(grid)), mode="lines", line={"color": PREDICTED, "width": 2.5},
        hovertemplate=_hover("forecast %{y:.3f} after"),
    )  # fmt: skip
    shown = rows.iloc[:: max(1, len(rows) // MOST_POINTS)]
    figure.add_scatter(
        x=shown["tokens"], y=shown["loss"], mode="markers", marker={"size": 5, "color": MEASURED},
        hovertemplate=_hover("measured %{y:.3f} after"),
    )  # fmt: skip
    _token_axis(figure, first, grid[-1] * 1.2)
    return figure


def _hover(said: str) -> str:
    return said + " %{x:.3s}<extra></extra>"


def _label(figure: go.Figure, x: float, y: float, text: str, color: str, side: str = "right") -> None:
    figure.add_annotation(
        x=math.log10(x),
        y=y,
        text=text,
        showarrow=False,
        xanchor=side,
        yanchor="bottom",
        xshift=6 if side == "left" else 0,
        font={"color": color, "size": 11},
    )


COLUMNS = 3


def curves(rows: pd.DataFrame) -> go.Figure:
    """Measured points and predicted lines of excess loss, a panel a group; each curve labelled by size and rate."""
    figure = _multiples(rows, "loss above the unpruned model")
    for (row, column), run in _curves_of(rows):
        shade = _shade(run)
        label = f"{words.count(run['n0'].iloc[0])} at {words.share(run['rate'].iloc[0])}"
        figure.add_scatter(
            x=run["tokens"], y=run["excess"], mode="markers",
            marker={"size": 4, "color": MEASURED}, row=row, col=column,
            hovertemplate=_hover(f"{label}: %{{y:.3f}} after"),
        )  # fmt: skip
        figure.add_scatter(
            x=run["tokens"], y=run["predicted_excess"], mode="lines", line={"color": PREDICTED, "width": shade},
            hoverinfo="skip", row=row, col=column,
        )  # fmt: skip
    for (row, column), starts in _starts(rows).items():
        for tokens, excess, n0, rate in starts[["tokens", "excess", "n0", "rate"]].itertuples(index=False):
            label = f"{words.count(n0)} at {words.share(rate)}"
            _start_label(figure, tokens, excess, label, row, column)
    return figure


def residuals(rows: pd.DataFrame) -> go.Figure:
    """Measured less predicted loss, a panel a group."""
    figure = _multiples(rows, "measured less predicted, nats")
    for (row, column), run in _curves_of(rows):
        label = f"{words.count(run['n0'].iloc[0])} at {words.share(run['rate'].iloc[0])}"
        figure.add_scatter(
            x=run["tokens"], y=run["residual"], mode="lines+markers", marker={"size": 3, "color": MEASURED},
            line={"color": SOFT, "width": 1}, row=row, col=column, hovertemplate=f"{label}: %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": PREDICTED, "width": 1.5})
    return figure


def _multiples(rows: pd.DataFrame, unit: str) -> go.Figure:
    names = sorted(rows["panel"].unique())
    lines = -(-len(names) // COLUMNS)
    figure = make_subplots(
        rows=lines, cols=min(COLUMNS, len(names)), subplot_titles=[escape(name) for name in names], shared_yaxes=True,
        horizontal_spacing=0.03, vertical_spacing=0.34 / (lines + 1),
    )  # fmt: skip
    _styled(figure, 80 + 250 * lines)
    trained = rows.loc[rows["tokens"] > 0, "tokens"]
    _token_axis(figure, float(trained.min()), float(trained.max()) * 1.05)
    figure.update_yaxes(title_text=unit, col=1)
    figure.update_annotations(font={"size": 13})
    return figure


def _curves_of(rows: pd.DataFrame) -> list[tuple[tuple[int, int], pd.DataFrame]]:
    names = sorted(rows["panel"].unique())
    place = {name: (i // COLUMNS + 1, i % COLUMNS + 1) for i, name in enumerate(names)}
    trained = rows[rows["tokens"] > 0].sort_values("tokens")
    by_run = trained.groupby(["panel", "run_id", "contributor"], observed=True, sort=True)
    return [(place[str(key[0])], run) for key, run in by_run]


def _shade(run: pd.DataFrame) -> float:
    """Larger models have thicker lines."""
    return 1 + min(1.6, 0.4 * math.log10(max(10.0, run["n0"].iloc[0] / 1e6)))


def _starts(rows: pd.DataFrame) -> dict[tuple[int, int], pd.DataFrame]:
    """The first points of curves that lie far enough apart to be labelled, by panel."""
    heads: dict[tuple[int, int], list[pd.Series]] = {}
    for place, run in _curves_of(rows):
        heads.setdefault(place, []).append(run.iloc[0])
    apart = 0.09 * float(rows["excess"].max() - rows["excess"].min())
    out = {}
    for place, points in heads.items():
        kept: list[pd.Series] = []
        for point in sorted(points, key=lambda p: -p["excess"]):
            if not kept or kept[-1]["excess"] - point["excess"] > apart:
                kept.append(point)
        out[place] = pd.DataFrame(kept)
    return out


def _start_label(figure: go.Figure, x: float, y: float, text: str, row: int, column: int) -> None:
    figure.add_annotation(
        x=math.log10(x), y=y, text=text, showarrow=False, xanchor="left", yanchor="bottom", xshift=6,
        font={"size": 10}, row=row, col=column,
    )  # fmt: skip


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
        line={"color": SOFT, "width": 1}, marker={"size": 4, "color": MEASURED},
    )  # fmt: skip
    figure.add_hline(y=float(rows["l0"].iloc[0]), line={"color": MEASURED, "width": 1, "dash": "dot"}, row=1, col=1)
    figure.add_hline(y=0, line={"color": PREDICTED, "width": 1}, row=2, col=1)
    _token_axis(figure, float(trained["tokens"].min()), float(trained["tokens"].max()) * 1.05)
    figure.update_xaxes(title_text="post-training tokens", row=2, col=1)
    figure.update_yaxes(title_text="held-out loss", row=1, col=1)
    figure.update_yaxes(title_text="difference", row=2, col=1)
    return figure


def pareto(models: pd.DataFrame) -> go.Figure:
    """Final loss against non-zero parameters; the front joined, models named."""
    figure = _figure(420, xaxis_title="non-zero parameters", yaxis_title="held-out loss, nats per token")
    front = models[models["pareto"]].sort_values("parameters")
    figure.add_scatter(
        x=front["parameters"],
        y=front["loss"],
        mode="lines",
        line={"color": PREDICTED, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )
    for method, own in models.groupby("method"):
        row = METHODS.get(str(method), OTHER_METHOD)
        figure.add_scatter(
            x=own["parameters"], y=own["loss"], mode="markers", name=escape(str(method)),
            text=[escape(str(model)) for model in own["model"]],
            marker={"size": 10, "color": row.color, "symbol": row.marker},
            hovertemplate="%{text}<br>%{y:.3f} at %{x:.3s}<extra></extra>",
        )  # fmt: skip
        best = own.sort_values("loss").iloc[0]
        _label(figure, best["parameters"], best["loss"], escape(str(method)), row.color)
    low, high = float(models["parameters"].min()) / 1.2, float(models["parameters"].max()) * 1.2
    _token_axis(figure, low, high)
    return figure
