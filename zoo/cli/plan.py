"""`p2zoo plan` and `p2zoo wanted`: what to deploy, and which experiment to run next."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard import words
from zoo.cli.options import count_option
from zoo.cli.output import Json, Logs, console, data_of, print_json, status, warn

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.planning.bases import Base

Bases = Annotated[
    list[str] | None,
    typer.Option("--base", metavar="ID[=L0]", help="Another base model, with its loss on the held-out text if known."),
]
Family = Annotated[str | None, typer.Option(help="Only this model family, e.g. llama-3.")]
Text = Annotated[str | None, typer.Option(help="Held-out text; default: the one with most runs.")]
OwnLaw = Annotated[str | None, typer.Option("--law", help="Law, or FILE.py:NAME; default: the best predictor here.")]
SHOWN = 15
INSIDE = 1.1


def plan(
    logs: Logs = None,
    *,
    deployed: Annotated[float, count_option("Parameters of the deployed model, e.g. 6B.")],
    tokens: Annotated[float, count_option("Post-training tokens, e.g. 1B.")],
    family: Family = None,
    base: Bases = None,
    eval_data: Text = None,
    law: OwnLaw = None,
    as_json: Json = False,
) -> None:
    """Which base, method and rate gives the lowest loss at a deployed size and token budget? Unpruned bases compete.

    Examples:

    - `p2zoo plan --deployed 25M --tokens 10M`

    - `p2zoo plan my-logs/ --deployed 6B --tokens 1B --family llama-3 --base meta-llama/Llama-3.1-8B=2.05 --json`
    """
    from leaderboard import load_logs
    from leaderboard.laws.user import find_law
    from leaderboard.planning.plan import plan as make_plan

    chosen = find_law(law, "plan") if law else None
    read = load_logs(logs)
    warn(read)
    with status("ranking laws and predicting every candidate"):
        table = make_plan(
            read.frame, deployed=deployed, tokens=tokens, family=family, bases=_bases(base, read.frame),
            eval_data=eval_data, law=chosen,
        )  # fmt: skip
    if as_json:
        asked = {"deployed": deployed, "tokens": tokens, "family": family}
        said = {"data": data_of(read), "asked": asked, "recipe": table.attrs["recipe"]}
        print_json(said | {"candidates": table.to_dict("records")})
    else:
        _show_plan(table)


def wanted(
    logs: Logs = None,
    *,
    gpu: Annotated[str, typer.Option(help="GPU to count hours on.")] = "h100",
    family: Family = None,
    base: Bases = None,
    eval_data: Text = None,
    law: OwnLaw = None,
    as_json: Json = False,
) -> None:
    """Which run would narrow the token budgets most? Candidates beside and one step beyond the logs, with GPU-hours.

    Examples:

    - `p2zoo wanted`

    - `p2zoo wanted my-logs/ --gpu a100 --base meta-llama/Llama-3.1-8B=2.05 --json`
    """
    from leaderboard import load_logs
    from leaderboard.laws.user import find_law
    from leaderboard.planning.wanted import offers, offers_words
    from leaderboard.planning.wanted import wanted as most_wanted

    chosen = find_law(law, "wanted") if law else None
    read = load_logs(logs)
    warn(read)
    with status("ranking laws and weighing every candidate"):
        table = most_wanted(
            read.frame, gpu=gpu, family=family, bases=_bases(base, read.frame), eval_data=eval_data, law=chosen
        )
    rows, said = offers(table), offers_words(table)
    if as_json:
        print_json({"data": data_of(read), "gpu": gpu, "recipe": table.attrs["recipe"], "said": said, "runs": rows})
    else:
        _show_wanted(rows, gpu, said)
        _show_recipe(table)


def _bases(named: list[str] | None, frame: "pd.DataFrame") -> "list[Base]":
    from leaderboard.planning.bases import measured_bases, read_base

    return [read_base(word, measured_bases(frame)) for word in named or ()]


def _show_plan(table: "pd.DataFrame") -> None:
    """A row a candidate, then what to make of the best one."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("base model", overflow="fold")
    for name in ("method", "rate", "size", "loss", "90 %", "beyond"):
        shown.add_column(name, no_wrap=True, justify="left" if name == "method" else "right")
    for row in table.head(SHOWN).to_dict("records"):
        half = (row["loss_high"] - row["loss_low"]) / 2
        own = "~" if row["l0_from"] != "measured" else ""
        loss = f"{own}{row['loss']:.3f}" if row["loss"] == row["loss"] else ""
        far = "too far" if row["state"] == "too_far" else _times(row["beyond"]) if row["beyond"] > INSIDE else ""
        rate = f"{row['rate']:.3f}" if row["rate"] else ""
        band = f"±{half:.3f}" if half == half else ""
        shown.add_row(row["base_model"], row["method"], rate, words.count(row["parameters"]), loss, band, far)
    console().print(shown)
    print("\n".join(plan_words(table)))
    _show_recipe(table)


def plan_words(table: "pd.DataFrame") -> list[str]:
    """What to make of the plan, a line each."""
    best, lines = table.iloc[0], []
    inside = table[(table["beyond"] <= INSIDE) & table["loss"].notna()]
    if best["loss"] != best["loss"]:
        return ["No candidate has a prediction that makes sense: all lie too far outside the measured runs."]
    if best["beyond"] > INSIDE:
        other = "none lies inside them" if inside.empty else f"the best inside is {_name(inside.iloc[0])}"
        lines.append(
            f"{_name(best)} comes first, but lies {_times(best['beyond'])} outside the measured runs: a guess."
        )
        lines.append(f"Intervals tell how sure the fit is, not whether its law holds out there; {other}.")
    else:
        lines.append(f"{_name(best)} comes first.")
    if best["method"] == "none":
        lines.append("Pruning a larger base is not predicted to beat it.")
    if (table["l0_from"] != "measured").any():
        lines.append(
            "~ rests on an l0 read off a power law through the family's other sizes; measure it: --base ID=L0."
        )
    lines += [f"{_name(row)}: {row['note']}" for _, row in table.head(SHOWN).iterrows() if row["note"]]
    return lines


def _show_recipe(table: "pd.DataFrame") -> None:
    from leaderboard.planning.recipe import recipe_words

    print(f"For runs trained like the measured ones: {recipe_words(table.attrs['recipe'])}.")


def _name(row: "pd.Series[Any]") -> str:
    return f"{row['base_model']} unpruned" if row["method"] == "none" else f"{row['base_model']} by {row['method']}"


def _times(factor: float) -> str:
    return f"{factor:.1f}x" if factor < 10 else f"{factor:,.0f}x"


def _show_wanted(rows: list[dict[str, Any]], gpu: str, said: str) -> None:
    """A row a candidate, what is cheapest for its gain, and the commands of each."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    print(said)
    if not rows:
        print("No base is known for any of them: name one with --base ID=L0.")
        return
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("")
    shown.add_column("base model", overflow="fold")
    for name in ("family", "method", "rate", "tokens", "narrower", f"{gpu} time"):
        shown.add_column(name, no_wrap=True, justify="left" if name in ("family", "method") else "right")
    for number, row in enumerate(rows[:SHOWN], 1):
        new = [word in row["new"] for word in ("base", "rate", "tokens")]
        marks = ["+" if beyond else "" for beyond in new]
        figures = [f"{row['rate']:.3f}{marks[1]}", f"{words.count(row['tokens'])}{marks[2]}"]
        figures += [f"{row['narrower']:.0%}", words.time(row["gpu_hours"])]
        shown.add_row(str(number), row["base"] + marks[0], row["family"], row["method"], *figures)
    console().print(shown)
    print("In the order of what they do for all budgets; narrower: the intervals of the run's own family and method.")
    print(
        "+ lies beyond the runs so far. The laws are taken for true: runs that test them are worth more than this says."
    )
    cheap = max(rows, key=lambda row: row["gain_per_gpu_hour"])
    tokens = words.count(cheap["tokens"])
    print(f"Most for a GPU-hour: {cheap['base']}, {cheap['method']} at {cheap['rate']:.3f}, {tokens} tokens.")
    made: set[str] = set()
    for number, row in enumerate(rows[:SHOWN], 1):  # a base is made once
        for line in row["commands"]:
            if line not in made:
                print(f"{number:>3}  {line}")
                made.add(line)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (plan, wanted):
        app.command()(command)
