"""Log formats: one row of `FORMATS` each, from the text of a file to the runs in it.

A format is tried in the order of the table; the first that knows the text reads it. Binary files are told by their
first bytes. Nothing is ever executed or unpickled, and nothing larger than MAX_BYTES is unpacked.
"""

import csv
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from leaderboard.importing.recorded import Recorded, number, recorded
from leaderboard.logs.findings import printable

MAX_BYTES = 64_000_000  # of text, unpacked; 100,000 rows of a Trainer take about 20 MB
MAX_RUNS = 1_000
LONGEST = 20_000  # characters of a line that holds one row
_MAGIC = {
    b"SQLite format 3\0": "an SQLite database; export its runs as CSV, JSON or parquet",
    b"PK\x03\x04": "a zip archive or a PyTorch file; unpack it and give the log inside",
    b"\x80\x02": "a pickle, which is never opened; save the history as JSON",
    b"\x80\x04": "a pickle, which is never opened; save the history as JSON",
    b"\x89PNG": "a picture; give the numbers behind it",
    b"%PDF": "a PDF; give the numbers behind it",
}
_DIGITS = r"(?:\d[\d_,]{0,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][-+]?\d{1,4})?"
_NUMBER = rf"[-+]?(?:{_DIGITS}|nan|inf|NaN|Infinity)"
_PRINTED = re.compile(r"\{'[^{}]*\}")
_PRINTED_PAIR = re.compile(rf"'([^']+)':\s*'?({_NUMBER})'?\s*(?=[,}}])")
_PAIR = re.compile(rf"([A-Za-z_][\w./]*)\s*[=:]\s*({_NUMBER})(?![\w.])")
_PROGRESS = re.compile(r"(\d+)/(\d+) \[")  # a progress bar's steps, printed before the row


@dataclass(frozen=True)
class Format:
    """One way to write a log: whether a text is of it, and its runs."""

    name: str
    knows: Callable[[str], bool]
    read: Callable[[str, str], list[Recorded]]  # text, name of the file -> runs
    example: str


def read_runs(source: str | os.PathLike[str] | bytes, name: str = "") -> list[Recorded]:
    """The runs in a log of another program. `name` is what messages call bytes; of a path its file name.

    A folder stands for the trainer_state.json in it. Raises P2Error on what is no log, too large or cut off.
    """
    name = printable(name or (Path(source).name if not isinstance(source, bytes) else "the file"))
    data = _unpacked(source if isinstance(source, bytes) else log_file(Path(source)).read_bytes(), name)
    if data[:4] == b"PAR1":
        from leaderboard.importing.tables import read_parquet

        return _some(read_parquet(data, name), name)
    text = _text(data, name)
    for format in FORMATS:
        if format.knows(text):
            return _some(format.read(text, name), name)
    shapes = "; ".join(f"{f.name} ({f.example})" for f in FORMATS)
    raise P2Error(f"{name}: no log that is known here. Read are: {shapes}; a trackio export (parquet).")


def _some(runs: list[Recorded], name: str) -> list[Recorded]:
    runs = [run for run in runs if run.size and run.columns]
    if not runs:
        raise P2Error(f"{name}: holds no row with a number; a log has a row an evaluation, with its step and its loss.")
    if len(runs) > MAX_RUNS:
        raise P2Error(f"{name}: holds {len(runs):,} runs, at most {MAX_RUNS:,} are read; split it.")
    return runs


def log_file(path: Path) -> Path:
    """The file that a path means, of a folder its trainer_state.json. Raises P2Error where none is, or it is large."""
    if path.is_dir():
        path = _state_in(path)
    try:
        if not path.is_file():
            raise P2Error(f"{path}: no such file; give a log, or a folder with a trainer_state.json.")
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(path.name, f"{path.stat().st_size:,}")
        with path.open("rb"):
            return path
    except OSError as error:
        raise P2Error(f"{path}: cannot be read: {error.strerror or error}.") from None


def _state_in(folder: Path) -> Path:
    """The trainer_state.json of a checkpoint, or of the last checkpoint of a Trainer's output folder."""
    if (folder / "trainer_state.json").is_file():
        return folder / "trainer_state.json"
    states = [(int(p.parent.name.rpartition("-")[2]), p) for p in folder.glob("checkpoint-[0-9]*/trainer_state.json")]
    if not states:
        raise P2Error(f"{folder}: no trainer_state.json in this folder or its checkpoints; name the log file.")
    return max(states)[1]


def _too_large(name: str, size: str) -> P2Error:
    return P2Error(
        f"{name}: {size} bytes, allowed are {MAX_BYTES:,}. A curve needs its evaluations only: keep the rows that have "
        "a held-out loss, or log less often."
    )


def _unpacked(data: bytes, name: str) -> bytes:
    """The bytes themselves, gzip unpacked within the limit."""
    if len(data) > MAX_BYTES:
        raise _too_large(name, f"{len(data):,}")
    if data[:2] != b"\x1f\x8b":
        return data
    unpack = zlib.decompressobj(wbits=31)
    try:
        whole = unpack.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise P2Error(f"{name}: a damaged gzip file ({error}); copy it again.") from None
    if len(whole) > MAX_BYTES:
        raise _too_large(name, f"unpacked more than {MAX_BYTES:,}")
    if not unpack.eof:
        raise P2Error(f"{name}: the gzip file is cut off; copy it again.")
    return whole


def _text(data: bytes, name: str) -> str:
    if not data.strip():
        raise P2Error(f"{name}: is empty.")
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            raise P2Error(f"{name}: is {kind}.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _lines(data.decode("utf-16", errors="replace"))
    if b"\0" in data[:4096]:
        if b"brain.Event" in data[:4096]:
            raise P2Error(f"{name}: is a TensorBoard event file; download the scalar as CSV there.")
        raise P2Error(f"{name}: is no text; a log is JSON, JSON lines, CSV or printed text.")
    return _lines(data.decode("utf-8-sig", errors="replace"))


def _lines(text: str) -> str:
    """The same with one kind of line end; a progress bar's carriage return is one."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise P2Error(f"{name}: nested too deeply; a log is a list of rows with numbers.") from None
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        what = "is cut off; copy it again" if len(rest) < 2 or error.pos >= len(text) * 0.99 else "is no JSON there"
        raise P2Error(f"{name}: line {error.lineno}: {error.msg}: the file {what}.") from None
    except ValueError:
        raise P2Error(f"{name}: holds a number of thousands of digits; it is no log.") from None


def _is_json(text: str) -> bool:
    """Whether it is one JSON value over the whole text; a line that is a row by itself is JSON lines."""
    head = text.lstrip()[:2]
    if head[:1] not in ("[", "{") or head == "{'":
        return False
    return head[0] == "[" or not _is_lines(text)


def _is_lines(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0].strip()
    if len(first) > LONGEST or not (first.startswith("{") and first.endswith("}")):
        return False
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and not any(isinstance(value, list | dict) for value in row.values())


def _read_json(text: str, name: str) -> list[Recorded]:
    data = _json(text, name)
    if isinstance(data, dict) and isinstance(data.get("log_history"), list):
        return [_trainer_state(data, name)]
    if isinstance(data, list):
        return _by_run(data, name, "log_history")
    if isinstance(data, dict) and isinstance(data.get("values"), list) and "metric" in data:  # `trackio get metric`
        rows = [{**row, str(data["metric"]): row.get("value")} for row in data["values"] if isinstance(row, dict)]
        return [recorded(str(data.get("run") or _stem(name)), "trackio", rows)]
    if isinstance(data, dict):
        runs = {str(key): value for key, value in data.items() if isinstance(value, list)}
        if runs and all(all(isinstance(row, dict) for row in value) for value in runs.values()):
            return [recorded(key, "log_history", value) for key, value in runs.items()]
        states = {str(k): v for k, v in data.items() if isinstance(v, dict) and isinstance(v.get("log_history"), list)}
        if states:
            return [_trainer_state(state, key) for key, state in states.items()]
        if any(number(value) is not None for values in runs.values() for value in values[:1]):
            return [_columnar(runs, name)]
    raise P2Error(
        f"{name}: JSON, but no log: expected is a trainer_state.json, a list of rows, or an object of such lists by "
        "run. This may be another file of the same folder."
    )


def _trainer_state(state: dict[str, Any], name: str) -> Recorded:
    run = recorded(_stem(name), "trainer_state", state["log_history"])
    told = ("best_metric", "best_global_step", "num_train_epochs", "max_steps", "train_batch_size", "global_step")
    run.facts = {key: float(state[key]) for key in told if type(state.get(key)) in (int, float)}
    return run


def _columnar(columns: dict[str, list[Any]], name: str) -> Recorded:
    """A list of values a key, as `pandas.DataFrame.to_dict("list")` writes."""
    size = max(map(len, columns.values()))
    rows = ({key: values[i] for key, values in columns.items() if i < len(values)} for i in range(size))
    return recorded(_stem(name), "columns", rows)


def _by_run(rows: list[Any], name: str, format: str) -> list[Recorded]:
    """Rows of one run, or of several that name theirs."""
    key = next((k for k in ("run_name", "run", "run_id") if any(isinstance(r, dict) and k in r for r in rows)), None)
    if key is None:
        return [recorded(_stem(name), format, rows)]
    lots: dict[str, list[Any]] = {}
    for row in rows:
        if isinstance(row, dict):
            lots.setdefault(str(row.get(key)), []).append(row)
    return [recorded(run, format, lot) for run, lot in lots.items()]


def _read_lines(text: str, name: str) -> list[Recorded]:
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        rows = json.loads("[" + ",".join(lines) + "]")
        return _by_run(rows, name, "JSON lines")
    except (ValueError, RecursionError):
        pass
    rows = []
    for place, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if place < len(lines) or not rows:
                why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise P2Error(f"{name}: line {place}: no JSON: {why}.") from None
    runs = _by_run(rows, name, "JSON lines")
    for run in runs:
        run.notes.append("The last line is cut off and was left out.")
    return runs


def _is_printed(text: str) -> bool:
    return any(_PRINTED_PAIR.search(found[0]) for found in _PRINTED.finditer(text[:1_000_000]))


def _read_printed(text: str, name: str) -> list[Recorded]:
    """Trainer's printed rows, wherever they stand in a line; a progress bar before one tells its step."""
    run, at, step = Recorded(_stem(name), "printed dicts"), 0, None
    for found in _PRINTED.finditer(text):
        row: dict[str, Any] = dict(_PRINTED_PAIR.findall(found[0]))
        for bar in _PROGRESS.finditer(text, at, found.start()):
            step = bar[1]
        if step is not None and "step" not in row:
            row["progress_bar_step"] = step
        at = found.end()
        run.add(row)
    return [run]


def _is_csv(text: str) -> bool:
    lines = [line for line in text.split("\n", 3)[:3] if line.strip()]
    if len(lines) < 2 or "=" in lines[0]:
        return False
    cut = _delimiter(lines[0])
    cells = [cell.strip(' "') for cell in lines[1].split(cut)]
    return all(line.count(cut) for line in lines) and any(number(_decimal(cell, cut)) is not None for cell in cells)


def _decimal(cell: str, delimiter: str) -> str:
    """A number as Python writes it: beside semicolons the comma is the point."""
    return cell.replace(",", ".") if delimiter == ";" else cell


def _delimiter(head: str) -> str:
    return max(",;\t", key=head.count)


def _read_csv(text: str, name: str) -> list[Recorded]:
    """Named columns; a tracker's `RUN - metric` columns are runs, its `__MIN` and `__MAX` left out."""
    head = text.split("\n", 1)[0]
    cut = _delimiter(head)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=cut)
    try:
        names = [cell.strip() for cell in next(table)]
        cells = [[_decimal(cell, cut) for cell in row] for row in table if row]
    except csv.Error as error:
        raise P2Error(f"{name}: line {table.line_num}: no CSV: {error}.") from None
    kept = [(i, key) for i, key in enumerate(names) if not key.endswith(("__MIN", "__MAX"))]
    rows: Iterable[dict[str, str]] = ({key: row[i] for i, key in kept if i < len(row) and row[i]} for row in cells)
    if not any(" - " in key for _, key in kept):
        return _by_run(list(rows), name, "CSV")
    return _split_columns(list(rows), [key for _, key in kept])


def _split_columns(rows: list[dict[str, str]], names: list[str]) -> list[Recorded]:
    shared = [key for key in names if " - " not in key]
    runs = list(dict.fromkeys(key.rpartition(" - ")[0] for key in names if " - " in key))
    out = []
    for run in runs:
        own = {key: key.rpartition(" - ")[2] for key in names if key.rpartition(" - ")[0] == run and " - " in key}
        mine = ({own.get(key, key): row[key] for key in (*shared, *own) if key in row} for row in rows)
        out.append(recorded(run, "tracker CSV", (row for row in mine if any(own[k] in row for k in own))))
    return out


def _is_pairs(text: str) -> bool:
    lines = text.split("\n", 2_000)[:2_000]
    return any(len(_PAIR.findall(line)) > 1 for line in lines if len(line) <= LONGEST)


def _read_pairs(text: str, name: str) -> list[Recorded]:
    rows = (_PAIR.findall(line) for line in text.split("\n") if len(line) <= LONGEST)
    return [
        recorded(
            _stem(name), "key=value text", ({k: v.replace(",", "") for k, v in row} for row in rows if len(row) > 1)
        )
    ]


def _stem(name: str) -> str:
    return name.removesuffix(".gz").rpartition("/")[2].partition(".")[0] or name


FORMATS: tuple[Format, ...] = (
    Format("JSON lines", _is_lines, _read_lines, '{"step": 10, "eval_loss": 3.2}'),
    Format("JSON", _is_json, _read_json, "a trainer_state.json, a log_history list, or such lists by run"),
    Format("printed dicts", _is_printed, _read_printed, "{'eval_loss': 3.2, 'epoch': 0.5}"),
    Format("CSV", _is_csv, _read_csv, "named columns"),
    Format("text", _is_pairs, _read_pairs, "step=10 tokens=20480 loss=3.2"),
)
