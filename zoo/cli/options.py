"""Options that several commands share, declared once: what makes a run, and how its result is told."""

from pathlib import Path
from typing import Annotated

import typer

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
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")]
Gpus = Annotated[
    int | None, typer.Option(min=1, help="GPUs to share the model and each step, by FSDP2; default: the recipe's.")
]
OnJobs = Annotated[str | None, typer.Option(metavar="hf-jobs:FLAVOR", help="Run on Hugging Face Jobs: hf-jobs:h200.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done and what it costs, and stop.")]
ResultJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON; messages go to stderr.")]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="Hub to talk to; default $HF_ENDPOINT.")]
