"""`p2zoo plot` and `p2zoo demo`: for people who would rather look."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Measured, On
from zoo.cli.output import OverControl


def plot(
    logs: Annotated[
        list[str], typer.Argument(help="Files, folders or Hub datasets of run logs; `seed` is the bundled one.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="PNG to write.")] = Path("curves.png"),
    law: Annotated[
        list[str] | None,
        typer.Option(help="Law to draw through groups of four runs or more (several times: several); damage-drift."),
    ] = None,
    over_control: OverControl = False,
    on: On = Measured.OWN,
) -> None:
    """Draw loss curves, a panel a group, with a fitted law through them.

    Examples: `p2zoo plot seed`, `p2zoo plot seed runs/ --out curves.png --law p2`
    """
    from leaderboard import LAWS, load_logs, on_yardstick
    from leaderboard.errors import P2Error, unknown_name
    from leaderboard.logs.load import join_logs
    from zoo.cli.output import warn, warn_left_out

    laws = law or ["damage-drift"]
    for name in laws:
        if name not in LAWS:
            raise unknown_name("law", name, LAWS, "plot")
    try:
        from zoo.sweep.gallery import draw_gallery
    except ModuleNotFoundError as error:
        raise P2Error(f"plot: {error.name} is missing; pip install 'p2zoo[train]'.") from error
    read = [load_logs(None if source == "seed" else source) for source in logs]
    for one in read:
        warn(one)
    frame, repeats = join_logs(read)
    warn_left_out(repeats)
    frame = on_yardstick(frame) if on == Measured.YARDSTICK else frame
    if over_control:
        from leaderboard.logs.controls import over_control as over

        frame, said = over(frame)
        print(said)
    try:
        titles = draw_gallery(out, frame, laws, "control" if over_control else "l0")
    except OSError as error:
        raise P2Error(f"plot: {out} cannot be written: {error.strerror or error}; choose another --out.") from error
    runs = frame.loc[frame["method"] != "none", "run_id"].nunique()
    controls = frame.loc[frame["method"] == "none", "run_id"].nunique()
    beside = f"; not drawn: {_count(controls, 'control')}, of models that were not pruned" if controls else ""
    print(f"{out}: {_count(runs, 'run')} in {_count(len(titles), 'group')}{beside}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where models, logs and pictures go.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Prune a real pretrained model three ways, post-train, log, fit, rank, and ask for a token budget: in minutes.

    Example: `p2zoo demo`
    """
    from zoo.cli.demo import play

    play(out)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(plot)
    app.command()(demo)
