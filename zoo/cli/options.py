"""Options that several commands share, declared once: what makes a run, how its result is told, and counts and shares.

Counts and shares are read as people write them: 34M, 8B, 61_440, 1e9; 25%, 0.25.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from leaderboard import words as amounts


class Measured(StrEnum):
    """Whose loss is meant."""

    OWN = "own"
    YARDSTICK = "yardstick"

    def said(self, text: str) -> str:
        """Words on losses of a token, with the unit that these losses have."""
        if self is Measured.OWN:
            return text
        return text.replace("nats per token", "nats per byte").replace("nats/token", "nats/byte")


Corpus = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="CORPUS", exists=True, dir_okay=False,
        help="Text file that stands in for every data set of the Hub in the recipe.",
    ),
]  # fmt: skip
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; default runs/NAME.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value; may be given several times."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with a run that was cut off, or extend a finished one to more train.tokens."),
]
KeepOptimizer = Annotated[
    bool, typer.Option("--keep-optimizer", help="Leave the last checkpoint, so that an extension goes on exactly.")
]
Pilot = Annotated[
    str | None,
    typer.Option(metavar="SHARE|COUNT", help="Run just the beginning, 2% or 10M tokens, and forecast the rest."),
]
Gpus = Annotated[
    int | None, typer.Option(min=1, help="GPUs to share the model and each step, by FSDP2; default: the recipe's.")
]
OnJobs = Annotated[str | None, typer.Option(metavar="hf-jobs:FLAVOR", help="Run on Hugging Face Jobs: hf-jobs:h200.")]
Wheel = Annotated[
    str | None, typer.Option(metavar="FILE|URL", envvar="P2ZOO_WHEEL", help="With --on: p2zoo for the job.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done and what it costs, and stop.")]
ResultJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON; messages go to stderr.")]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="Hub to talk to; default $HF_ENDPOINT.")]
On = Annotated[
    Measured,
    typer.Option("--on", help="The loss that is meant: on each run's own text, or on the yardstick, in nats per byte."),
]


def count(text: str) -> float:
    """Parameters or tokens."""
    value = amounts.read_count(text)
    if value is None:
        raise typer.BadParameter(f"{text!r} is no count; write 34M, 8B, 61_440 or 1e9.")
    return value


def share(text: str) -> float:
    """A share of all parameters."""
    number = text.strip().removesuffix("%")
    try:
        return float(number) / 100 if text.strip().endswith("%") else float(number)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no share; write 25% or 0.25.") from None


Share = Annotated[
    float | None, typer.Option(parser=share, metavar="SHARE", help="Share of all parameters removed, e.g. 25%.")
]


def count_option(words: str) -> typer.models.OptionInfo:
    """An option that takes a count."""
    option: typer.models.OptionInfo = typer.Option(parser=count, metavar="COUNT", help=words)
    return option
