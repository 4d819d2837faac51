"""What commands on run logs read and print alike: their options, the logs with what is wrong said, JSON, tables."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard.logs.findings import ERROR, printable
from zoo.cli.options import Measured

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.logs.findings import Report
    from leaderboard.logs.frame import Logs as Read

Logs = Annotated[str | None, typer.Argument(help="File, folder or Hub dataset id of run logs; default: bundled seed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OverControl = Annotated[
    bool, typer.Option("--over-control", help="Losses over those of each run's control; runs without one left out.")
]


def data_of(read: "Read") -> dict[str, Any]:
    from leaderboard.serving.as_json import data

    return data(read)


def print_json(data: Any) -> None:
    """JSON on standard output; NaN is null."""
    from leaderboard.serving.as_json import plain

    print(json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def console() -> Any:
    from rich.console import Console

    return Console()


def status(doing: str) -> Any:
    from rich.console import Console

    return Console(stderr=True).status(doing)


def read_logs(source: str | None, on: Measured = Measured.OWN) -> "Read":
    """The logs, what is wrong with them said, by the losses that are meant."""
    from leaderboard import load_logs

    read = load_logs(source)
    warn(read)
    return read.on_yardstick() if on == Measured.YARDSTICK else read


def warn(read: "Read") -> None:
    """Say what is not fresh and what was left out."""
    if read.note:
        print(f"note: {read.note}", file=sys.stderr)
    warn_left_out(read.quarantined)


def warn_left_out(reports: "tuple[Report, ...]") -> None:
    """Say which logs were left out and why, on standard error."""
    for report in reports:
        print(
            f"left out: {printable(report.path)}: {next(f for f in report.findings if f.severity == ERROR)}",
            file=sys.stderr,
        )


def show_ablation(table: "pd.DataFrame") -> None:
    """A row an input taken away from P²."""
    rows = []
    for r in table.to_dict("records"):
        figures = (r["asd_ratio"], r["doubling_ratio"], r["rmse"])
        ratio, doubling, rmse = (f"{v:.{n}f}" for v, n in zip(figures, (2, 2, 4), strict=True))
        rows.append([r["without"], ratio, f"{r['low']:.2f} to {r['high']:.2f}", doubling, rmse])
    _table(["P² without", "ASD ratio", "90 %", "per doubling", "RMSE held out"], rows)
    print("ASD ratio: held-out ASD without it over that of the whole law; 1 = it adds nothing.")


def show_metrics(table: "pd.DataFrame") -> None:
    """A row an in-sample metric."""
    rows = []
    for r in table.to_dict("records"):
        sure = (f"{r[a]:.2f} to {r[b]:.2f}" for a, b in (("low", "high"), ("regret_low", "regret_high")))
        rows.append([r["metric"], f"{r['hits']:.2f}", next(sure), f"{r['regret']:.2f}", next(sure)])
    _table(["chosen in sample by", "best held out", "90 %", "regret", "90 %"], rows)
    first = table.iloc[0]
    print(f"Best held out: share of {first['n_cells']} cells where the law it picks has the lowest held-out RMSE;")
    print(f"by chance {first['by_chance']:.2f}. Regret: the pick's held-out RMSE over the lowest.")


def show_calibration(table: "pd.DataFrame") -> None:
    """A row a kind of hold-out, or a distance, with and without l_pruned."""
    rows = []
    for r in table.to_dict("records"):
        shares = [f"{r[name]:.0%}" for name in ("loss_80", "loss_95", "tokens_80", "tokens_95")]
        known = "known" if r["l_pruned_known"] else "unknown"
        rows.append([r["kind"], known, str(r["curves"]), f"{r['rmse']:.4f}", *shares])
    _table(["held out", "l_pruned", "curves", "RMSE", "loss 80 %", "95 %", "tokens 80 %", "95 %"], rows)
    print("Shares of held-out losses, and of tokens to a measured loss, that the intervals cover.")


def show_influence(read: "Read", as_json: bool) -> None:
    """The answer of `rank --influence`: of each group the run and the contributor it hangs on most; as JSON all."""
    from leaderboard import words
    from leaderboard.studies.influence import influence, most_telling

    with status("answering without each run") as shown:
        table = influence(read.frame, lambda group: shown.update(f"answering {group} without each run"))
    if as_json:
        print_json({"data": data_of(read), "influence": table.to_dict("records")})
        return
    rows = [
        [r["family"], r["method"], r["left_out"], printable(r["name"]),
         *(words.count(r[n]) if r[n] == r[n] else "none" for n in ("tokens", "tokens_without")), f"{r['factor']:.2f}"]
        for r in most_telling(table).to_dict("records")
    ]  # fmt: skip
    _table(["family", "method", "without the", "", "tokens", "without it", "times"], rows)
    print("Tokens from which a doubling wins less than .01 nats, for the group's largest model at its highest rate.")
    if not (table["left_out"] == "contributor").any():
        print("All runs are of one contributor, so everything hangs on that one.")


def _table(head: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(*head, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    console().print(table)
