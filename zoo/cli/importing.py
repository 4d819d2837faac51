"""`p2zoo import`: logs of other programs as run logs that `p2zoo check` accepts."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard.errors import P2Error
from leaderboard.logs.findings import ERROR, printable
from zoo.cli.options import count, share

if TYPE_CHECKING:
    from leaderboard.importing import Imported
    from leaderboard.importing.recorded import Recorded


def _count(help: str) -> Any:
    return typer.Option(parser=count, metavar="COUNT", help=help)


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="trainer_state.json (or its folder), a log_history list, JSON lines, CSV, printed text, a trackio "
        "export; also .gz.",
    ),
]
Log = Annotated[Path, typer.Option(metavar="LOG", help="Log to write; for several runs a folder, a log for each.")]
StepTokens = Annotated[float | None, _count("Tokens of one optimiser step, without padding.")]
EpochTokens = Annotated[float | None, _count("Tokens of the training text, where only epochs are logged.")]
BaseModel = Annotated[str | None, typer.Option(metavar="ID|DIR", help="The model before pruning.")]
PrunedModel = Annotated[str | None, typer.Option(metavar="ID|DIR", help="The pruned model.")]
N0 = Annotated[float | None, _count("Or: parameters before pruning.")]
NPruned = Annotated[float | None, _count("Or: parameters kept.")]
Rate = Annotated[
    float | None, typer.Option(parser=share, metavar="SHARE", help="Or: share removed or zeroed, e.g. 25%.")
]
Method = Annotated[str | None, typer.Option(help="How it was pruned; none for a control.")]
Family = Annotated[str | None, typer.Option(help="Model family; default: the config's.")]
L0 = Annotated[float | None, typer.Option(help="Held-out loss before pruning, nats/token.")]
LPruned = Annotated[float | None, typer.Option(help="Held-out loss after pruning, nats/token.")]
EvalData = Annotated[str | None, typer.Option(help="Name of the held-out text.")]
Objective = Annotated[str | None, typer.Option(help="What was trained on, e.g. clm.")]
Trainable = Annotated[float | None, _count("Parameters trained, where not all were (LoRA).")]
Unit = Annotated[str | None, typer.Option(help="Unit of the file's losses: nats, ppl or bits.")]
Per = Annotated[str | None, typer.Option(help="What they are per: token or byte.")]
BytesPerToken = Annotated[float | None, typer.Option(help="With --per byte: of the held-out text.")]
Contributor = Annotated[str | None, typer.Option(help="Hub name of who ran it.")]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="ROLE=COLUMN", help="Column of step, tokens, epoch, loss, train_loss or lr, by its name."
    ),
]
Run = Annotated[str | None, typer.Option(help="Only this run of a file that holds several.")]
FactsFile = Annotated[
    Path | None, typer.Option(metavar="YAML", help="The same and more by name; `runs:` has those of single runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def import_(
    files: Files,
    out: Log = Path("log.parquet"),
    tokens_per_step: StepTokens = None,
    tokens_per_epoch: EpochTokens = None,
    base: BaseModel = None,
    pruned: PrunedModel = None,
    n0: N0 = None,
    n_pruned: NPruned = None,
    rate: Rate = None,
    method: Method = None,
    family: Family = None,
    l0: L0 = None,
    l_pruned: LPruned = None,
    eval_data: EvalData = None,
    objective: Objective = None,
    trainable_params: Trainable = None,
    unit: Unit = None,
    per: Per = None,
    bytes_per_token: BytesPerToken = None,
    contributor: Contributor = None,
    map_: Roles = None,
    run: Run = None,
    facts: FactsFile = None,
    as_json: Json = False,
) -> None:
    """Read logs of other programs into checked run logs; what is noticed on the way is said.

    Nothing is guessed: tokens a step, models, method and held-out text come from the file or from you. Losses given as
    options are nats a token. The log's provenance is `imported`: a track of its own, which shares no fit with others.

    Examples: `p2zoo import out/checkpoint-500 --tokens-per-step 65536 --base meta-llama/Llama-3.2-1B --pruned ./cut
    --method depth --eval-data wikitext --out mine.parquet`,
    `p2zoo import wandb.csv --map "loss=eval/ppl" --unit ppl --n0 1.24B --rate 20% --method depth --eval-data c4`
    """
    said = {
        "tokens_per_step": tokens_per_step, "tokens_per_epoch": tokens_per_epoch, "base": base, "pruned": pruned,
        "n0": n0, "n_pruned": n_pruned, "rate": rate, "method": method, "family": family, "l0": l0,
        "l_pruned": l_pruned, "eval_data": eval_data, "objective": objective, "trainable_params": trainable_params,
        "unit": unit, "per": per, "bytes_per_token": bytes_per_token, "contributor": contributor,
    }  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    logs = _write(_recorded(files, run), out, said, _facts(facts), _columns(map_ or []))
    _tell(logs, as_json)


def _tell(logs: "list[tuple[Path, Imported]]", as_json: bool) -> None:
    if as_json:
        from zoo.cli.output import print_json

        print_json({"logs": [_as_dict(path, log) for path, log in logs]})
    else:
        for path, log in logs:
            _show(path, log)


def _recorded(files: list[Path], run: str | None) -> "list[Recorded]":
    from leaderboard.importing.apart import read_apart
    from leaderboard.importing.build import pick

    runs = [(file, read_apart(file)) for file in files]
    return [one for _, own in runs for one in ([pick(own, run)] if run is not None else own)]


def _write(
    runs: "list[Recorded]", out: Path, said: dict[str, Any], data: dict[str, Any], columns: dict[str, str]
) -> "list[tuple[Path, Imported]]":
    """Import every run before any log is written."""
    from leaderboard.importing import import_log, write_imported

    of_runs = data.pop("runs", {})
    if not isinstance(of_runs, dict) or not all(isinstance(own, dict) for own in of_runs.values()):
        raise P2Error("import: `runs:` of --facts holds facts by the name of a run.")
    logs = [import_log(one, columns=columns, **(data | of_runs.get(one.name, {}) | said)) for one in runs]
    if len(logs) > 1 and out.suffix == ".parquet":
        names = ", ".join(printable(one.name) for one in runs[:10])
        raise P2Error(f"import: {len(runs)} runs: {names}. Name one by --run, or give --out a folder for a log each.")
    paths = (
        [out]
        if out.suffix == ".parquet"
        else [out / f"{_file_name(i, one.name)}.parquet" for i, one in enumerate(runs)]
    )
    _refuse_repeats(logs)
    try:
        return [(write_imported(path, log), log) for path, log in zip(paths, logs, strict=True)]
    except OSError as error:
        raise P2Error(f"import: {out} cannot be written: {error.strerror or error}; choose another --out.") from error


def _refuse_repeats(logs: "list[Imported]") -> None:
    """Logs that pass alone must pass together: no run twice, no curve under two names."""
    from leaderboard.importing import write_imported
    from leaderboard.logs.check import check_files

    if len(logs) == 1:
        return
    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        paths = [write_imported(Path(work) / f"{i}.parquet", log) for i, log in enumerate(logs)]
        reports = check_files(paths, [log.run for log in logs], own=True).reports
    if bad := next((report for report in reports if not report.ok), None):
        found = next(finding for finding in bad.findings if finding.severity == ERROR)
        raise P2Error(f"import: {printable(bad.path)}: {found} Name the run that is meant by --run.")


def _file_name(number: int, name: str) -> str:
    """A file name of a run's, that no other run of this import has."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name).strip("-.")[:60]
    return f"{number + 1:02d}-{plain}" if plain else f"{number + 1:02d}"


def _columns(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for role, equals, column in pairs:
        if not (role and equals and column):
            raise P2Error(f"--map: expected ROLE=COLUMN, e.g. loss=eval/loss; got {role + equals + column!r}.")
    return {role: column for role, _, column in pairs}


def _facts(path: Path | None) -> dict[str, Any]:
    """The facts of a YAML file, as it has them."""
    if path is None:
        return {}
    from zoo.front_matter import plain_yaml

    try:
        data = plain_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise P2Error(f"--facts: {path} cannot be read: {error}.") from None
    if data is not None and not isinstance(data, dict):
        raise P2Error(f"--facts: {path} holds no keys; write e.g. `method: depth`.")
    return dict(data or {})


def _as_dict(path: Path, log: "Imported") -> dict[str, Any]:
    first, last = log.table.slice(0, 1).to_pylist()[0], log.table.slice(log.table.num_rows - 1).to_pylist()[0]
    told = ("run_id", "base_model", "family", "method", "rate", "n0", "n_pruned", "l0", "l_pruned", "eval_data")
    return {
        "path": str(path),
        "run": log.run,
        "rows": log.table.num_rows,
        **{name: first[name] for name in (*told, "provenance", "trainable_params")},
        "tokens": last["tokens"],
        "loss": last["loss"],
        "notes": [asdict(note) for note in log.notes],
    }


def _show(path: Path, log: "Imported") -> None:
    told = _as_dict(path, log)
    print(
        f"{path}: {told['rows']:,} rows to {told['tokens']:,} tokens, loss {told['loss']:.4f}; {told['method']}, "
        f"{told['rate']:.1%} of {told['n0']:,} parameters; provenance imported"
    )
    for note in log.notes:
        print(f"  {note.code}: {printable(note.words)}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)
