"""A run to be watched: `train.report_to: trackio` plots it while it trains, in `trackio/` beside the run folder.

trackio:OWNER/SPACE plots on a Space of the Hub instead. Tokens are the steps of the plot, so runs of unlike batches
stand over one axis; a resumed or extended run goes on in its plot and repeats no point. Nothing that is plotted is
part of the experiment, and a plot that cannot be reached stops no training (trackio warns).
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from zoo.recipe.spec import Recipe, as_data

PROJECT = "p2zoo"
EVERY_S = 1.0  # between two points of the training loss

Report = Callable[[int, Mapping[str, Any]], None]


def check_installed(recipe: Recipe) -> None:
    """Refuse, before anything is done, a report to a package that is not there."""
    if recipe.train.report_to is not None and importlib.util.find_spec("trackio") is None:
        raise P2Error(
            "train.report_to: trackio is not installed; pip install 'p2zoo[watch]', or --set train.report_to=null."
        )


@contextmanager
def watched(recipe: Recipe, out: Path, on: bool, resumed: bool) -> Iterator[Report]:
    """Gives what takes (tokens, values) of a point; where the recipe has no report, or not `on`, that does nothing."""
    if recipe.train.report_to is None or not on:
        yield lambda tokens, values: None
        return
    os.environ.setdefault("TRACKIO_DIR", str(out.resolve().parent / "trackio"))  # read when it is imported
    with redirect_stdout(sys.stderr):  # where --json writes nothing
        import trackio

        plot = trackio.init(
            project=PROJECT,
            name=out.resolve().name,
            space_id=recipe.train.report_to.partition(":")[2] or None,
            config=as_data(recipe),
            resume="allow" if resumed else "never",
            embed=False,
        )
    known = plot._next_step - 1 if resumed else -1  # the last step that an earlier call reported

    def report(tokens: int, values: Mapping[str, Any]) -> None:
        if tokens > known:
            plot.log({name: value for name, value in values.items() if value is not None}, step=tokens)

    try:
        yield report
    finally:
        with redirect_stdout(sys.stderr):
            trackio.finish()


def ticks(report: Report) -> Callable[[int, float, float], None]:
    """Reports the loss of a step and the speed, at most once a second; takes (tokens, loss, seconds) of each step."""
    last = 0.0

    def tick(tokens: int, loss: float, seconds: float) -> None:
        nonlocal last
        if loss == loss and time.monotonic() - last >= EVERY_S:
            last = time.monotonic()
            report(tokens, {"step_loss": loss, "tokens_per_second": tokens / max(seconds, 1e-9)})

    return tick
