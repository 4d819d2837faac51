"""`p2zoo forecast`: where a run is going, from its own rows so far."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard import words
from leaderboard.errors import P2Error
from zoo.cli.options import Measured, On, count
from zoo.cli.output import Json, console, data_of, print_json, read_logs, status

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.planning.forecasting.forecast import Forecast

OF_STATE = {
    "inside": "Inside what such forecasts were tested on.",
    "beyond": "Beyond what such forecasts were tested on; the band is as wide as it must be.",
    "too_far": "Too far: these rows cannot tell. Let the run go on and ask again.",
}


def forecast(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or not, a log.parquet or a log.jsonl.")],
    logs: Annotated[
        str | None, typer.Option("--logs", help="Logs of other runs: file, folder, Hub dataset; default: bundled seed.")
    ] = None,
    at: Annotated[
        list[float] | None,
        typer.Option(
            parser=count, metavar="COUNT", help="Loss at so many tokens, e.g. 1e9; may be given several times."
        ),
    ] = None,
    target_loss: Annotated[float | None, typer.Option(help="Tokens to this loss.")] = None,
    excess: Annotated[float | None, typer.Option(help="Tokens to this far above l0.")] = None,
    gain: Annotated[float | None, typer.Option(help="Tokens from which a doubling wins less than this.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Also GPU-hours and cost on this GPU, e.g. h100.")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="With --gpu: US dollars an hour; default: typical.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the band into this PNG.")] = None,
    as_json: Json = False,
    on: On = Measured.OWN,
    schedule: Annotated[
        str | None, typer.Option(help="Learning rate, where the log does not say: constant, cosine, linear, wsd.")
    ] = None,
    planned: Annotated[
        float | None, typer.Option(parser=count, metavar="COUNT", help="Tokens at which the schedule ends.")
    ] = None,
    lr_peak: Annotated[float | None, typer.Option(help="Its peak.")] = None,
) -> None:
    """Where is my run going? Its rows so far and the laws of other runs, as one curve with its band.

    Examples:

    - `p2zoo forecast runs/depth --at 10M --out band.png`

    - `p2zoo forecast runs/depth/log.jsonl --target-loss 2.9 --gpu h100 --json`
    """
    from leaderboard.logs.frame import on_yardstick
    from leaderboard.planning.forecasting.answer import answer
    from leaderboard.planning.forecasting.forecast import forecast as look_ahead
    from leaderboard.planning.forecasting.own import read_own

    own = read_own(run)
    said = {"schedule": schedule, "tokens_planned": planned, "lr_peak": lr_peak}
    own = own.assign(**{name: value for name, value in said.items() if value is not None})
    own, read = (on_yardstick(own) if on == Measured.YARDSTICK else own), read_logs(logs, on)
    with status("fitting laws without this run"):
        ahead = look_ahead(read.frame, own)
        told = answer(ahead, at or (), target_loss, excess, gain, gpu, price)
    if out is not None:
        _draw(out, own, ahead, run.name)
    if as_json:
        print_json({"data": data_of(read)} | told)
    else:
        _show(told, on)


def _show(told: dict[str, Any], on: Measured) -> None:
    """State first, then the losses ahead, the goal, and whether going on pays."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from leaderboard.planning.recipe import recipe_words

    now = told["now"]
    print(OF_STATE[told["state"]])
    now_at = f"at {words.count(now['tokens'])} tokens, from {now['rows']} rows"
    print(on.said(f"Now {now['loss']:.4f} nats/token {now_at}."))
    table = Table(box=SIMPLE_HEAD)
    for name in ("tokens", "loss", "80 %", "95 %", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for place in told["at"]:
        bands = [_between(place[f"low_{p}"], place[f"high_{p}"]) for p in (80, 95)]
        loss = "" if place["loss"] is None else f"{place['loss']:.4f}"
        table.add_row(words.count(place["tokens"]), loss, *bands, place["state"].replace("_", " "))
    console().print(table)
    if told["goal"]:
        print(on.said(_goal_words(told["goal"])))
    twice = told["doubling"]
    print(
        f"Training as long again wins {twice['gain']:.4f} nats ({_between(twice['low_80'], twice['high_80'])}, 80 %)"
        f"{_cost_words(twice)}."
    )
    if recipe := recipe_words(told["recipe"]):
        print(f"  The run: {recipe}.")
    for line in told["why"]:
        print(on.said(f"  {line}"))


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _goal_words(goal: dict[str, Any]) -> str:
    what = f"a loss of {goal['target_loss']:.4f}" if "target_loss" in goal else f"doublings of under {goal['gain']:g}"
    if goal["tokens"] is None:
        return f"It does not come to {what} before it is too far to say."
    low, high = goal["tokens_80"]
    ends = f"{words.count(low) if low else 'unknown'} to {words.count(high) if high else 'too far to say'}"
    return f"It comes to {what} at {words.count(goal['tokens'])} tokens ({ends}, 80 %){_cost_words(goal)}."


def _cost_words(told: dict[str, Any]) -> str:
    if told["gpu_hours"] is None:
        return ""
    return f", for {words.time(told['gpu_hours'])} of GPU time, {words.price(told['cost'])}"


def _draw(out: Path, own: "pd.DataFrame", ahead: "Forecast", title: str) -> None:
    try:
        from zoo.run.plot import draw_band
    except ModuleNotFoundError as error:
        raise P2Error(f"forecast: {error.name} is missing; pip install 'p2zoo[train]'.") from error
    try:
        draw_band(out, own, ahead, title)
    except OSError as error:
        raise P2Error(f"forecast: {out} cannot be written: {error.strerror or error}; choose another --out.") from error


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(forecast)
