"""`p2zoo evidence`: published recoveries at real sizes, those nearest to a model, and where they say it would end."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard import words
from leaderboard.errors import unknown_name
from zoo.cli.options import count_option, share
from zoo.cli.output import Json, console, print_json

if TYPE_CHECKING:
    from leaderboard.evidence.recovery import Recovery

SHOWN = 8
NEEDED = ("method", "rate", "n0", "l0", "tokens")  # for a recovery
Rate = Annotated[
    float | None, typer.Option(parser=share, metavar="SHARE", help="Share of all parameters removed, e.g. 25%.")
]


def evidence(
    *,
    method: Annotated[str | None, typer.Option(help="depth, width or 2:4.")] = None,
    rate: Rate = None,
    n0: Annotated[float | None, count_option("Parameters before pruning, e.g. 8B.")] = None,
    tokens: Annotated[float | None, count_option("Post-training tokens, e.g. 100M.")] = None,
    l0: Annotated[float | None, typer.Option(help="Loss of the base model, nats per token.")] = None,
    l_pruned: Annotated[float | None, typer.Option(help="Loss of the pruned model before training.")] = None,
    l0_control: Annotated[
        float | None, typer.Option(help="Loss of the unpruned model trained the same way, if measured.")
    ] = None,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Instead: how well the recovery law predicts a model left out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Published recoveries at real sizes: all, or those nearest to a model and what they say of it.

    Any option about a model asks for the nearest. With method, rate, n0, l0 and tokens it also says where training
    would leave the model, from the published recoveries alone.

    Examples:

    - `p2zoo evidence`

    - `p2zoo evidence --method depth --rate 25% --n0 8B --l0 1.95 --l-pruned 3.6 --tokens 100M --json`
    """
    from leaderboard.evidence import load_evidence, nearest, records
    from leaderboard.evidence.recovery import METHODS

    if backtest:
        _show_backtest(as_json)
        return
    if method is not None and method not in METHODS:
        raise unknown_name("pruning method", method, METHODS, "evidence")
    near = {"method": method, "rate": rate, "n0": n0, "tokens": tokens, "l0": l0, "l_pruned": l_pruned}
    asked = {name: value for name, value in (near | {"l0_control": l0_control}).items() if value is not None}
    answer = _recovery(asked) if all(name in asked for name in NEEDED) else None
    given = {name: value for name, value in asked.items() if name in near}
    rows = nearest(count=SHOWN, **given) if asked else records(load_evidence())  # type: ignore[arg-type]
    if as_json:
        print_json({"asked": asked, "recovery": answer and _as_json(answer), "rows": rows, "sources": _sources(rows)})
        return
    _show_rows(rows)
    if answer:
        _show_recovery(answer)
    elif asked:
        missing = [f"--{name}" for name in NEEDED if name not in asked]
        print(f"Where training would leave it: needs {', '.join(missing)} too.")


def _recovery(asked: dict[str, Any]) -> "Recovery":
    from leaderboard.evidence.recovery import recovery

    return recovery(**asked)


def _sources(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    from dataclasses import asdict

    from leaderboard.evidence import load_sources

    named = {row["source"] for row in rows}
    return [asdict(source) for name, source in load_sources().items() if name in named]


def _as_json(answer: "Recovery") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(answer) | {"loss_80": answer.interval(0.8), "loss_95": answer.interval(0.95)}


def _show_rows(rows: list[dict[str, Any]]) -> None:
    """A row a figure, then the sources."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("model", overflow="fold")
    for name in ("cut", "tokens", "by", "before > pruned > after", "left"):
        shown.add_column(name, no_wrap=True, justify="right" if name in ("tokens", "left") else "left")
    for row in rows:
        left = "" if row["share_left"] is None else f"{row['share_left']:.0%}"
        shown.add_row(
            row["model"].rpartition("/")[2], f"{row['method']} {row['rate']:.0%}", words.count(row["tokens"]),
            "distil" if row["kind"] == "distillation" else row["kind"], _figures(row),
            left if row["healed"] is not False else f"{left} failed",
        )  # fmt: skip
    console().print(shown)
    print("Losses in nats per token. Left: the share of the damage, or of the accuracy lost, not won back.")
    for source in _sources(rows):
        print(f"{source['title']}: {source['where']}, {source['table']}. {source['note']}")


def _figures(row: dict[str, Any]) -> str:
    """Before pruning, pruned and recovered; "-" where the source has none."""
    if row["loss"] is not None:
        return " > ".join(f"{row[name]:.2f}" for name in ("l0", "l_pruned", "loss"))
    scores = (row[name] for name in ("score0", "score_pruned", "score"))
    return " > ".join("-" if score is None else f"{score:.1f}" for score in scores) + f" {row['unit']}"


def _show_recovery(answer: "Recovery") -> None:
    low, high = answer.interval(0.8)
    print(
        f"A recovery like the published ones ends at {answer.loss:.3f} nats per token ({low:.3f} to {high:.3f}, 80 %)."
    )
    print(" ".join([answer.source, *([answer.note] if answer.note else [])]))


def _show_backtest(as_json: bool) -> None:
    from leaderboard.evidence import backtest
    from leaderboard.serving.as_json import rows

    if as_json:
        print_json({"backtest": rows(backtest.backtest()), "failures": rows(backtest.failures())})
    else:
        backtest.main()


def show_retained(task: str | None, share_kept: float | None, as_json: bool) -> None:
    """Tokens to a share of the base's score in a task, as published models had them."""
    from leaderboard.errors import P2Error
    from leaderboard.evidence.retain import WARNING, as_dict, retained

    if task is None or share_kept is None:
        raise P2Error("budget: --retain and --task go together, e.g. --retain 95% --task mmlu.")
    found = retained(task, share_kept)
    if as_json:
        print_json(as_dict(task, share_kept, found))
        return
    print(f"Tokens to {words.share(share_kept)} of the base's score in {task}, as published:")
    for one in found:
        scores = f"{one.score:.1f} of {one.goal:.1f}"
        if one.tokens is None:
            said = f"not with {words.count(one.short)} ({scores})"
        elif one.tokens == 0:
            said = f"with none: the pruned model has {scores}"
        else:
            said = f"more than {words.count(one.short)}, at most {words.count(one.tokens)} ({scores})"
        was = f"{one.score0:.1f} before, {one.score_pruned:.1f} after it"
        print(f"  {one.model} less {words.share(one.rate)} ({was}): {said}")
    print("No run log has a score of a task along its curve: these tables are all there is.")
    print(WARNING)
