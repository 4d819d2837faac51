"""What `p2zoo rank --ablate`, `--metrics` and `--calibration` print: which inputs matter, which in-sample metric
chooses well, what intervals cover."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def show_ablation(table: "pd.DataFrame") -> None:
    """A row an input taken away from P²."""
    rows = []
    for r in table.to_dict("records"):
        figures = (r["asd_ratio"], r["doubling_ratio"], r["rmse"])
        ratio, doubling, rmse = (f"{v:.{n}f}" for v, n in zip(figures, (2, 2, 4), strict=True))
        rows.append([r["without"], ratio, f"{r['low']:.2f} to {r['high']:.2f}", doubling, rmse])
    _print(["P² without", "ASD ratio", "90 %", "per doubling", "RMSE held out"], rows)
    print("ASD ratio: held-out ASD without it over that of the whole law; 1 = it adds nothing.")


def show_metrics(table: "pd.DataFrame") -> None:
    """A row an in-sample metric."""
    rows = []
    for r in table.to_dict("records"):
        sure = (f"{r[a]:.2f} to {r[b]:.2f}" for a, b in (("low", "high"), ("regret_low", "regret_high")))
        rows.append([r["metric"], f"{r['hits']:.2f}", next(sure), f"{r['regret']:.2f}", next(sure)])
    _print(["chosen in sample by", "best held out", "90 %", "regret", "90 %"], rows)
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
    _print(["held out", "l_pruned", "curves", "RMSE", "loss 80 %", "95 %", "tokens 80 %", "95 %"], rows)
    print("Shares of held-out losses, and of tokens to a measured loss, that the intervals cover.")


def _print(head: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
