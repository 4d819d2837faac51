"""`p2zoo check|fit|rank|budget`: the leaderboard half from a terminal, for people (tables) and programs (`--json`)."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.logs.findings import UNUSUAL, WRONG, printable
from zoo.cli.options import Endpoint, Measured, On, Share, count_option, share
from zoo.cli.output import (
    Json,
    Logs,
    OverControl,
    console,
    data_of,
    print_json,
    read_logs,
    show_ablation,
    show_calibration,
    show_influence,
    show_metrics,
    status,
)

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.logs.findings import Report
    from leaderboard.logs.frame import Logs as Read
    from leaderboard.planning.budget import Budget
    from leaderboard.planning.distance import Beyond


def check(
    path: Annotated[Path, typer.Argument(help="A log, a run folder, a folder of logs; with --pr a Hub dataset id.")],
    pr: Annotated[int | None, typer.Option(metavar="N", help="Judge pull request N of the dataset.", min=1)] = None,
    comment: Annotated[bool, typer.Option("--comment", help="With --pr: say so on its page, in one comment.")] = False,
    merge_if_clean: Annotated[
        bool, typer.Option("--merge-if-clean", help="With --pr: merge it when nothing is wrong.")
    ] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Judge run logs beside the bundled runs, or a pull request with run logs: exit 1 when one is wrong, else 0, also
    for what is unusual, which a person should look at.

    Examples: `p2zoo check runs/depth/log.parquet`, `p2zoo check org/p2-logs --pr 7 --comment`
    """
    if pr is not None:
        from zoo.cli.dataset import check_pull

        raise typer.Exit(check_pull(path.as_posix(), pr, comment, merge_if_clean, endpoint, as_json))
    if comment or merge_if_clean:
        raise P2Error("check: --comment and --merge-if-clean need --pr N.")
    from leaderboard import child

    child.prepare()  # while this process imports
    from leaderboard import load_logs
    from leaderboard.logs.check import log_files
    from leaderboard.serving.judge import judged

    if not path.exists():
        raise P2Error(f"check: {path} does not exist; give a log file, a run folder or a folder of logs.")
    files = log_files(path)
    if not files:
        raise P2Error(f"check: no parquet file under {path}.")
    reports = judged(files, load_logs().frame)
    if as_json:
        print_json({"files": [r.as_dict() for r in reports]})
    else:
        _show_findings(reports)
        if any(r.ok for r in reports):
            from leaderboard.ranking.tracks import alone

            print("".join(f"{sentence}\n" for sentence in alone(load_logs(path).frame)), end="")
    raise typer.Exit(0 if all(r.ok for r in reports) else 1)


def fit(
    logs: Logs = None,
    law: Annotated[str, typer.Option(help="Name of the law, or FILE.py:NAME for one of your own.")] = "p2",
    loss: Annotated[str, typer.Option(help="ls, log-ls, huber or log-huber.")] = "ls",
    delta: Annotated[float, typer.Option(help="Width of the Huber loss.")] = 1e-3,
    over_control: OverControl = False,
    on: On = Measured.OWN,
    as_json: Json = False,
) -> None:
    """Fit one law for every group and show its numbers (for parameters and tokens in billions).

    A pooled law is fitted to the runs of other groups on the same text too; `runs` counts all of them.

    Examples: `p2zoo fit`, `p2zoo fit my-logs/ --law damage-drift --json`, `p2zoo fit --law my_laws.py:MY_LAW`
    """
    from leaderboard.errors import FitError
    from leaderboard.fitting.pooled import fit_group
    from leaderboard.laws.user import find_law
    from leaderboard.planning.recipe import recipe_differences, usual_recipe
    from leaderboard.ranking.tracks import groups, on_text

    chosen = find_law(law, "fit")
    read = read_logs(logs, on)
    read, controls = _controlled(read, over_control)
    rows: list[dict[str, Any]] = []
    pruned = read.frame[read.frame["method"] != "none"]
    if pruned.empty:
        raise P2Error(
            f"fit: {read.source} holds no run that can be fitted; `p2zoo check` says what is wrong with a log."
        )
    for key, own in groups(pruned):
        told: dict[str, Any] = {"group": key, "recipe": usual_recipe(own)}
        try:
            f = fit_group(chosen, on_text(pruned, key), key, loss, delta).fit
        except FitError as error:
            rows.append(told | {"status": error.code, "message": str(error)})
            continue
        rows.append(
            told | {"status": str(f.status), "params": f.params, "objective": f.objective, "rmse": f.rmse}
            | {"runs": f.n_runs, "pinned": f.pinned, "notes": [*f.notes, *recipe_differences(own)]}
        )  # fmt: skip
    if as_json:
        print_json(
            {"data": data_of(read), "law": chosen.name, "loss": loss, "latex": chosen.latex, "fits": rows} | controls
        )
    else:
        _show_fits(chosen.name, chosen.latex, rows)
        print(*controls.values(), sep="\n", end="\n" * bool(controls))


def rank(
    logs: Logs = None,
    law: Annotated[
        list[str] | None,
        typer.Option(help="Only this law (may be given several times); FILE.py:NAME adds one of your own."),
    ] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Instead: P² without each of its inputs.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Instead: which in-sample metric chooses well.")] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Instead: what the intervals of budgets cover, in minutes.")
    ] = False,
    influence: Annotated[
        bool, typer.Option("--influence", help="Instead: which run and contributor each group's budget hangs on.")
    ] = False,
    over_control: OverControl = False,
    on: On = Measured.OWN,
    as_json: Json = False,
) -> None:
    """Rank laws by how well they predict the slope of unseen curves (ASD).

    Examples: `p2zoo rank`, `p2zoo rank my-logs/ --json`, `p2zoo rank --law my_laws.py:MY_LAW`
    """
    from leaderboard import noise_floor, score_cells
    from leaderboard import rank as rank_laws
    from leaderboard.laws.user import choose_laws
    from leaderboard.ranking.tracks import alone

    laws = choose_laws(law or (), "rank")
    if ablate and (metrics or law):
        raise P2Error("rank: --ablate takes P² apart; it goes with neither --metrics nor --law.")
    if (calibration or influence) and (ablate or metrics or law or calibration == influence):
        name = "--calibration" if calibration else "--influence"
        raise P2Error(f"rank: {name} judges the budgets of these logs; it goes with no other option.")
    read = read_logs(logs, on)
    read, controls = _controlled(read, over_control)
    if calibration:
        _calibration(read, as_json)
        return
    if influence:
        show_influence(read, as_json)
        return
    if ablate or metrics:
        _evidence(read, laws if metrics else None, as_json)
        return
    runs = read.frame["run_id"].nunique()
    with status(f"fitting {len(laws)} laws to {runs} runs, on all of the rows and on three tracks of held-out ones"):
        cells = score_cells(read.frame, laws)
        table = rank_laws(read.frame, cells=cells)
    floor = noise_floor(read.frame)
    if as_json:
        from leaderboard.serving.as_json import ranking

        print_json({"data": data_of(read) | {"noise_floor": floor}, "laws": ranking(table, cells)} | controls)
    else:
        _show_rank(table, floor, on)
        print("".join(f"{sentence}\n" for sentence in alone(read.frame)), end="")
        print(*controls.values(), sep="\n", end="\n" * bool(controls))


def _controlled(read: "Read", over_control: bool) -> "tuple[Read, dict[str, str]]":
    """The logs with losses over their controls where that is wanted, and the sentence to say of it."""
    if not over_control:
        return read, {}
    from leaderboard.logs.controls import over_control as over

    frame, controls = over(read.frame)
    return replace(read, frame=frame), {"controls": controls}


def _calibration(read: Any, as_json: bool) -> None:
    """The answer of `rank --calibration`."""
    from leaderboard.studies.calibration import by_distance, calibrate, hold_outs, summary, widths

    with status("answering every hold-out of these logs"):
        trials = hold_outs(read.frame)
        judged = calibrate(trials)
    tables = {"kinds": summary(judged), "distances": by_distance(judged)}
    if as_json:
        tables["widths"] = widths(trials)
        print_json({"data": data_of(read)} | {name: table.to_dict("records") for name, table in tables.items()})
    else:
        for table in tables.values():
            show_calibration(table)


def _evidence(read: Any, laws: Any, as_json: bool) -> None:
    """The answer of `rank --metrics` over `laws`, or of `rank --ablate` where there are none."""
    from leaderboard.studies.ablation import ablate
    from leaderboard.studies.metric_choice import metric_choice

    with status("fitting laws on every track"):
        table = ablate(read.frame) if laws is None else metric_choice(read.frame, laws)
    if as_json:
        print_json({"data": data_of(read), "ablation" if laws is None else "metrics": table.to_dict("records")})
    elif laws is None:
        show_ablation(table)
    else:
        show_metrics(table)


def budget(
    logs: Logs = None,
    *,
    model: Annotated[
        str | None, typer.Option(help="Model whose config is at hand: a Hub id or a folder; gives --family and --n0.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Model family, e.g. llama-3.")] = None,
    method: Annotated[str | None, typer.Option(help="Pruning method, e.g. depth or 2:4.")] = None,
    rate: Share = None,
    n0: Annotated[float | None, count_option("Parameters before pruning, e.g. 8B.")] = None,
    l0: Annotated[float | None, typer.Option(help="Held-out loss before pruning, nats/token.")] = None,
    l_pruned: Annotated[float | None, typer.Option(help="Held-out loss right after pruning, when measured.")] = None,
    target_loss: Annotated[float | None, typer.Option(help="Goal: this loss.")] = None,
    excess: Annotated[float | None, typer.Option(help="Goal: this far above l0.")] = None,
    gain: Annotated[float | None, typer.Option(help="Goal: the next doubling wins less (default 0.01).")] = None,
    law: Annotated[str | None, typer.Option(help="Law, or FILE.py:NAME, to answer alone; default: several.")] = None,
    eval_data: Annotated[str | None, typer.Option(help="Held-out text; default: the one with most runs.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Also GPU-hours and cost on this GPU, e.g. h100.")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="With --gpu: US dollars an hour; default: typical.")
    ] = None,
    pilot: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Answer for this run, from its rows so far; see `forecast`.")
    ] = None,
    retain: Annotated[
        float | None,
        typer.Option(parser=share, metavar="SHARE", help="Goal: this share of the base's score."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --retain: mmlu, told by published tables.")] = None,
    on: On = Measured.OWN,
    as_json: Json = False,
) -> None:
    """How many post-training tokens does this pruned model need?

    Example: `p2zoo budget --family llama-3 --method depth --rate 25% --n0 34M --l0 2.72 --excess 0.05 --gpu h100`,
    of a known model `p2zoo budget --model meta-llama/Llama-3.1-8B --method 2:4 --l0 2.05`, or of a run that has begun
    `p2zoo budget --pilot runs/depth --excess 0.05`
    """
    from leaderboard.laws.user import find_law
    from leaderboard.logs.methods import least_rate, method_named, takes_rate
    from leaderboard.planning.bases import base_at_hand
    from leaderboard.planning.budget import Question, answer
    from leaderboard.planning.gpus import check_offer
    from leaderboard.planning.losses import check_losses
    from leaderboard.planning.outlook import beyond
    from leaderboard.planning.recommend import predictor

    if retain is not None or task is not None:
        from zoo.cli.evidence import show_retained

        show_retained(task, retain, as_json)
        return
    method = method_named(method) if method else None
    if price is not None and gpu is None:
        raise P2Error("budget: --price is that of a --gpu; name it too.")
    if pilot is not None:
        _of_pilot(pilot, logs, target_loss, excess, gain, gpu, price, as_json, on)
        return
    if model is not None:
        base = base_at_hand(model)
        family, n0 = family or base.family, n0 or float(base.n0)
        if rate is None and method is not None and not takes_rate(method):
            rate = least_rate(method, base.n0, base.n0_nonembedding)
    if family is None or method is None or rate is None or n0 is None or l0 is None:
        raise _lacking(family=family, method=method, rate=rate, n0=n0, l0=l0)
    chosen = find_law(law, "budget") if law else None
    gpu = check_offer(gpu, price)
    asked = Question(
        family=family, method=method, rate=rate, n0=n0, l0=l0, l_pruned=l_pruned,
        target_loss=target_loss, excess=excess, gain=gain,
    )  # fmt: skip
    read = read_logs(logs, on)
    check_losses(asked, read.frame)
    with status("ranking laws and fitting the best"):
        known = l_pruned is not None
        found = predictor(
            read.frame, family=family, method=method, eval_data=eval_data, law=chosen, l_pruned_known=known
        )
        told = answer(found, asked, gpu, price)
    if as_json:
        print_json(told.as_dict())
    else:
        _show_budget(told, beyond(found, asked, told.tokens), read.source, on)


def _lacking(**needed: object) -> P2Error:
    from leaderboard.logs.methods import takes_rate

    missing = [f"--{name}" for name, value in needed.items() if value is None]
    by_model = [name for name in missing if name in ("--family", "--n0")]
    pattern = needed["method"] is not None and not takes_rate(str(needed["method"]))
    by_model += ["--rate"] * (pattern and "--rate" in missing)
    known = f" --model, a Hub id or a folder with its config.json, gives {' and '.join(by_model)}." if by_model else ""
    return P2Error(f"budget: {', '.join(missing)} must be given, or --pilot with a run that has begun.{known}")


def _of_pilot(
    pilot: Path,
    logs: str | None,
    target_loss: float | None,
    excess: float | None,
    gain: float | None,
    gpu: str | None,
    price: float | None,
    as_json: bool,
    on: Measured,
) -> None:
    """The budget of a run that has begun is its forecast, by default to where a doubling wins less than `GAIN`."""
    from leaderboard.planning.budget import GAIN
    from zoo.cli.forecast import forecast

    gain = GAIN if target_loss is None and excess is None and gain is None else gain
    forecast(pilot, logs, None, target_loss, excess, gain, gpu, price, None, as_json, on)


def _show_findings(reports: "tuple[Report, ...]") -> None:
    """A line a finding, the file first, as compilers and linters do."""
    for report in reports:
        missing = [finding.where for finding in report.findings if finding.code == "missing_column"]
        for finding in report.findings:
            if finding.code != "missing_column" or len(missing) == 1:
                print(f"{printable(report.path)}: {finding}")
        if len(missing) > 1:
            names = printable(", ".join(missing))
            print(
                f"{printable(report.path)}: error missing_column: {len(missing)} columns are not there: {names}. "
                "A log of another program becomes a run log by `p2zoo import`."
            )
    bad, odd = (sum(r.verdict == verdict for r in reports) for verdict in (WRONG, UNUSUAL))
    unusual = f", {odd} unusual: look at them" if odd else ""
    print(f"{len(reports)} log(s) checked: {len(reports) - bad - odd} clean, {bad} with errors{unusual}")


def _show_fits(law: str, latex: str, rows: list[dict[str, Any]]) -> None:
    """A row a group; held parameters in brackets. Then the recipes behind, and in what they differ."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from leaderboard.planning.recipe import recipe_words

    print(f"{law}: L = {latex}")
    table = Table(box=SIMPLE_HEAD)
    which = ["family", "method", *(n for n in ("eval_data", "objective") if len({r["group"][n] for r in rows}) > 1)]
    for name in (*which, "runs", "RMSE", "status"):
        table.add_column(name, no_wrap=name != "eval_data")
    table.add_column("parameters")
    for row in rows:
        group, params, held = row["group"], row.get("params", {}), row.get("pinned", {})
        numbers = [f"({k}={v:.3g})" if k in held else f"{k}={v:.3g}" for k, v in params.items()]
        rmse = f"{row['rmse']:.4f}" if "rmse" in row else ""
        parameters = ", ".join(numbers) or row["message"]
        table.add_row(*(group[n] for n in which), str(row.get("runs", "")), rmse, row["status"], parameters)
    console().print(table)
    print("For parameters and tokens in billions; (held) ones cannot be told apart by these runs.")
    for recipe in dict.fromkeys(recipe_words(row["recipe"]) for row in rows):
        print(f"Trained with {recipe}.")
    for note in dict.fromkeys(note for row in rows for note in row.get("notes", []) if " " in note):
        print(note)


def _show_rank(table: "pd.DataFrame", floor: dict[str, float], on: Measured) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD)
    for name in ("rank", "law", "ASD ratio", "per doubling", "RMSE new", ""):
        shown.add_column(name, no_wrap=name in ("law", ""))
    for row in table.to_dict("records"):
        rank_of = "" if row["rank"] is None or row["rank"] != row["rank"] else str(int(row["rank"]))
        figures = [f"{row[k]:.3f}" if row[k] == row[k] else "" for k in ("score", "score_doubling", "rmse_heldout")]
        shown.add_row(rank_of, row["law"], *figures, "recommended" if row["recommended"] else "")
    console().print(shown)
    print("ASD ratio: a law's ASD over the best law's, mean over held-out cells; 1 would win them all.")
    print(on.said("RMSE new: nats per token on unseen sizes and rates; recommended = lowest."))
    if floor["asd"] == floor["asd"]:
        print(f"Noise floor (two seeds): ASD {floor['asd']:.2f} nats/Gtoken, {floor['asd_doubling']:.4f} per doubling")


def _show_budget(answer: "Budget", far: "list[Beyond]", source: str, on: Measured) -> None:
    """The answer for people, the state of distance first; one that is too far has no number."""
    from leaderboard.planning.recipe import recipe_words

    if answer.state == "too_far" and answer.status is None:
        print(on.said(f"too far to say: {answer.goal}."))
        print(on.said("\n".join(f"  {line}" for line in answer.why)))
        return
    where = _outside(answer, far)
    print(f"{answer.state}{': ' + where if where else ' what was measured'}.")
    print(on.said(" ".join(answer.sentence())))
    laws = ", ".join(f"{name} {share:.0%}" for name, share in answer.weights.items() if share >= 0.005)
    if answer.status == "already_met":
        print(on.said("".join(f"  {line}\n" for line in answer.why)), end="")
        return
    print(on.said(f"  predicted loss {answer.loss:.4f} nats/token, by {laws}; from {source}"))
    print(f"  trained like the runs: {recipe_words(answer.recipe)}")
    if answer.intervals:
        print(f"  a new run: {', '.join(f'{answer.interval_words(e)} ({p} %)' for e, p in answer.intervals)}")
    for line in answer.why:
        print(on.said(f"  {line}"))
    if answer.gpu_hours is not None and answer.cost is not None:
        print(f"  {words.time(answer.gpu_hours)} of GPU time, {words.price(answer.cost)}")


def _outside(answer: "Budget", far: "list[Beyond]") -> str:
    """In which ways the question lies outside the runs behind the answer."""
    said = [f"no run of the family {answer.group['family']} was measured"] if answer.extrapolation["family"] else []
    for out in far:
        if answer.tokens is None and out.what == "tokens":
            continue  # no count was told
        asked, low, high = (_amount(out.what, value) for value in (out.value, out.low, out.high))
        said.append(f"{out.what} {asked} is {out.factor:.3g} times outside what was measured, {low} to {high}")
    return "; ".join(said)


def _amount(what: str, value: float) -> str:
    return f"{value:.3g}" if what == "rate" else words.count(value)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (check, fit, rank, budget):
        app.command()(command)
