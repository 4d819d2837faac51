"""A visitor's file as a run: read in a child, a run log or another program's log, and what it does not say.

The same for the page, REST and MCP. A model is named by a config that ships or by its numbers: nothing is fetched, and
no folder of this machine is opened, for a stranger.
"""

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard import child
from leaderboard.child import Limits
from leaderboard.errors import P2Error
from leaderboard.importing import Facts, import_log, read_runs
from leaderboard.importing.apart import why_unread
from leaderboard.importing.build import pick
from leaderboard.importing.curve import curve_of
from leaderboard.importing.facts import CONTROL, facts_of
from leaderboard.importing.recorded import Recorded
from leaderboard.logs.apart import packed, unpacked
from leaderboard.logs.check import ON_READ, check_files
from leaderboard.logs.contract import BY_NAME, write_log
from leaderboard.logs.findings import ERROR, printable
from leaderboard.planning.forecasting.own import json_rows
from leaderboard.shapes import bundled_config

MAX_BYTES = 20_000_000
LIMITS = Limits(memory=600_000_000, cpu_s=10.0, clock_s=40.0)
SHOWN = 100  # names of runs or columns that are told
FACTS = (  # that may be said of a file, by name
    "tokens_per_step", "tokens_per_epoch", "method", "base", "n0", "n_pruned", "rate", "family", "l0", "l_pruned",
    "eval_data", "unit",
)  # fmt: skip
MOST_LINE = 10_000  # bytes of a row of log.jsonl


@dataclass(frozen=True)
class Upload:
    """What was read: the rows as a table and a frame, or None where a fact is missing; then `words` says which.

    `missing` names facts (FACTS, `run` or `loss_column`), `runs` and `columns` are what can be chosen from.
    """

    name: str
    imported: bool
    table: pa.Table | None
    missing: tuple[str, ...] = ()
    words: str = ""
    runs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    notes: tuple[dict[str, str], ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The rows, in columns of a run log."""
        assert self.table is not None
        frame: pd.DataFrame = self.table.to_pandas()
        return frame


def read_upload(
    path: Path, name: str, facts: Mapping[str, Any], run: str | None = None, loss_column: str | None = None
) -> Upload:
    """Read a file; `name` is what it is called. Raises P2Error, in words, on what is no log of a run."""
    given = {key: value for key, value in facts.items() if value is not None}
    _refuse_to_fetch(given.get("base"), given)
    if path.stat().st_size > MAX_BYTES:
        raise P2Error(
            f"{printable(name)}: {path.stat().st_size:,} bytes, allowed are {MAX_BYTES:,}. A curve needs its "
            "evaluations only: keep the rows that have a held-out loss; `p2zoo import` on your machine takes more."
        )
    asked = (str(path.absolute()), printable(name), given, run, loss_column)
    try:
        value, tables = child.call("leaderboard.serving.upload:answer", *asked, limits=LIMITS)
    except child.Died as died:
        raise P2Error(f"{printable(name)}: cannot be read: {why_unread(died)}.") from None
    told: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
    return Upload(printable(name), table=unpacked(tables[0]) if tables else None, **told)


def _refuse_to_fetch(model: Any, facts: Mapping[str, Any]) -> None:
    if model is not None and "n0" not in facts and bundled_config(str(model)) is None:
        raise P2Error(
            f"import: the config of {printable(str(model))[:100]} does not ship with p2zoo; give n0, the number of its "
            "parameters. `p2zoo import` on your machine reads folders and the Hub."
        )


def answer(
    path: str, name: str, facts: Mapping[str, Any], run: str | None, loss_column: str | None
) -> Iterator[child.Answer]:
    """In a child: what `Upload` holds, and the table where nothing is missing."""
    own = _own(Path(path), name)
    if own is not None:
        yield {"imported": False}, [packed(own)]
        return
    runs = read_runs(Path(path).read_bytes(), name)
    names = [printable(one.name)[:200] for one in runs[:SHOWN]]
    if run is None and len(runs) > 1:
        words = f"{name}: {len(runs)} runs are in this file; say which."
        yield {"imported": True, "missing": ["run"], "words": words, "runs": names}, []
        return
    recorded = pick(runs, run)
    columns = {} if loss_column is None else {"loss": loss_column}
    missing = _missing(recorded, facts_of(facts), columns)
    if missing:
        words = f"{name}: the file does not say {', '.join(WORDS[one] for one in missing)}."
        told = {"missing": missing, "words": words, "columns": list(recorded.columns)[:SHOWN]}
        yield {"imported": True, "runs": names, **told}, []
        return
    made = import_log(recorded, columns=columns, **facts)
    yield {"imported": True, "runs": names, "notes": [asdict(note) for note in made.notes]}, [packed(made.table)]


WORDS = {
    "tokens_per_step": "how many tokens a step has",
    "loss_column": "which column is the held-out loss",
    "method": "how the model was pruned",
    "n0": "how many parameters it had before pruning",
    "rate": "which share of them was removed",
    "eval_data": "which text the losses are on",
    "run": "which run is meant",
}


def _missing(run: Recorded, facts: Facts, columns: Mapping[str, str]) -> list[str]:
    """Facts that an import needs and nobody gave."""
    needed = {
        "method": facts.method,
        "n0": facts.n0 or facts.base,
        "rate": facts.method == CONTROL or facts.rate or facts.n_pruned or facts.pruned,
        "eval_data": facts.eval_data,
    }
    return [*_of_the_curve(run, facts, columns), *(name for name, value in needed.items() if not value)]


def _of_the_curve(run: Recorded, facts: Facts, columns: Mapping[str, str]) -> list[str]:
    """Whether the curve lacks its tokens or its loss; a file that can have neither is refused by the import."""
    try:
        curve_of(run, facts, columns)
    except P2Error:
        try:
            curve_of(run, replace(facts, tokens_per_step=1), columns)
        except P2Error:
            return ["loss_column"] if not columns else []
        return ["tokens_per_step"] if facts.tokens_per_step is None else []
    return []


def _own(path: Path, name: str) -> pa.Table | None:
    """The rows of a run log of p2zoo, finished (log.parquet) or not (log.jsonl); None for any other file."""
    with path.open("rb") as file:
        begin = file.read(MOST_LINE)
    if begin[:4] == b"PAR1":
        return _finished(path, name)
    first = begin.partition(b"\n")[0]
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not {"tokens", "loss"} <= set(row) <= set(BY_NAME):
        return None
    own = json_rows(path)[["tokens", "loss"]].apply(pd.to_numeric, errors="coerce")
    return pa.Table.from_pandas(own, preserve_index=False)


def _finished(path: Path, name: str) -> pa.Table | None:
    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return None  # the import says what is wrong with it
    if not {"run_id", "l0"} <= names:
        return None
    checked = check_files([path], [name], own=True)
    if not checked.reports[0].ok:
        found = "; ".join(str(f) for f in checked.reports[0].findings if f.severity == ERROR)
        raise P2Error(f"{name}: the log does not pass the check: {found}")
    frame = checked.frame.drop(columns="file")
    return pa.Table.from_pandas(frame, schema=ON_READ, preserve_index=False)


def as_dict(upload: Upload) -> dict[str, Any]:
    """An import as plain data: what is missing, or the log (base64 of a parquet file) and what was noticed."""
    if not upload.imported:
        raise P2Error(f"import: {upload.name} is a run log of p2zoo already; nothing is to be imported.")
    told = {"ok": upload.table is not None, "missing": list(upload.missing), "words": upload.words}
    told |= {"runs": list(upload.runs), "columns": list(upload.columns), "notes": list(upload.notes)}
    if upload.table is None:
        return told
    last = upload.table.slice(upload.table.num_rows - 1).to_pylist()[0]
    return told | {
        "rows": upload.table.num_rows,
        **{name: last[name] for name in ("tokens", "loss", "method", "rate", "n0", "n_pruned", "eval_data")},
        "parquet_base64": base64.b64encode(parquet(upload)).decode(),
    }


def parquet(upload: Upload) -> bytes:
    """The log as a parquet file."""
    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        return write_log(Path(work) / "log.parquet", upload.table).read_bytes()
