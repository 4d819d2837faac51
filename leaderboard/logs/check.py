"""Judging run logs: files in, one good frame and a report for every file out.

A log passes when it is readable, has exactly the contract's columns and types (schema), breaks no rule (rules.py) and
repeats no other log. A bad file is reported and left out; it never stops the good ones, as files are opened and judged
in a child (leaderboard/child.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from leaderboard import child
from leaderboard.logs.apart import Batch, deadly, few_rows, judged_apart, packed, told, unpacked
from leaderboard.logs.contract import (
    BY_NAME,
    COLUMNS,
    GROUP,
    IMPORTED,
    REQUIRED_OF_IMPORTED,
    UNKNOWN,
    curve_numbers,
    schema,
)
from leaderboard.logs.extensions import branched, replaced
from leaderboard.logs.findings import ERROR, Finding, Report
from leaderboard.logs.parquet_guard import footer_bytes, unpacked_bytes
from leaderboard.logs.repeats import CONFIRMATION, apart_from, repeats
from leaderboard.logs.rules import RULES
from leaderboard.logs.rules.rows import Rows
from leaderboard.logs.upgrade import past_version, upgraded

MAX_BYTES = 5_000_000
MAX_UNPACKED = 100_000_000  # a small file may unpack to more memory than a reader has
MAX_ROWS = 100_000
MAX_FOOTER = 100_000  # bytes that describe columns and row groups; a log's are 7,000
MAX_EXTRA = 10  # extra columns that are named
BATCH = 500  # files that are judged at once, or fewer where they are long
BATCH_ROWS = 100_000
BATCH_BYTES = 50_000_000
OURS = Path(__file__).parents[1] / "seed"  # files that come with the code are read in this process
_TEXT = [c.name for c in COLUMNS if c.kind == "text"]
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
ON_READ = pa.schema([pa.field(f.name, _DICTIONARY if f.name in _TEXT else f.type) for f in schema()])
_FILE = pa.field("file", pa.int64())
LENGTH = "length"  # of a log of which some rows are kept: how many it has
_NULLABLE_FLOATS = [c.name for c in COLUMNS if c.may_be_null and c.kind == "float"]
_REQUIRED = [c.name for c in COLUMNS if not c.nullable]
_NAMES = ("contributor", "base_model", *GROUP)  # what rows are told apart by: never null in a frame


@dataclass(frozen=True)
class Checked:
    """The good rows of many files with a column `file` (place in `reports`), a report for each file, and of files that
    are good by themselves, by file, `contributor` and `run_id`: also of those whose rows another stands for."""

    frame: pd.DataFrame
    reports: tuple[Report, ...]
    heads: pd.DataFrame


def log_files(path: Path) -> list[Path]:
    """The parquet files of a path, sorted; the path itself when it is a file. A run folder gives its log."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))


def check_files(
    paths: Sequence[Path],
    names: Sequence[str] | None = None,
    *,
    own: bool = False,
    known: pd.DataFrame | None = None,
    few: int = 0,
) -> Checked:
    """Read and judge log files. `names` are what reports call them (default: the paths), `known` runs that came before.

    Of the last `few` files each row is judged, but of long ones only some are kept, so that memory does not grow with
    their rows; the frame then has a column `length`, the rows of each file.

    `own` files, which this process wrote, are judged in this process, as are those that come with p2zoo; all others in
    a child.
    """
    names = [str(p) for p in paths] if names is None else names
    here = own or child.inside() or all(OURS in path.absolute().parents for path in paths)
    batches = (_here if here else _apart)(paths, few)
    tables, findings = [_schema(few).empty_table()], list[list[Finding]]()
    for rows, found in batches:
        if rows.num_rows:
            places = pc.add(rows["file"], len(findings))
            tables.append(rows.set_column(rows.num_columns - 1, "file", places))
        findings += found
    table, large = pa.concat_tables(tables).unify_dictionaries(), len(tables) > 2
    del tables
    frame: pd.DataFrame = table.to_pandas(split_blocks=large, self_destruct=large)  # column by column: half the memory
    del table
    return without_repeats(_named(frame), names, findings, known)


def _here(paths: Sequence[Path], few: int) -> Iterator[Batch]:
    whole = len(paths) - few
    for part, some in ((paths[:whole], False), (paths[whole:], True)):
        yield from (batch for batch in _batches(part, some, few > 0) if not isinstance(batch, int))


def _apart(paths: Sequence[Path], few: int) -> Iterator[Batch]:
    whole = len(paths) - few
    for part, some in ((paths[:whole], False), (paths[whole:], True)):
        yield from judged_apart(part, "leaderboard.logs.check:answers", some, few > 0) if part else ()


def answers(paths: Sequence[str], some: bool = False, length: bool = False) -> Iterator[child.Answer]:
    """What a child tells of files: all rows or `some`, with a column `length` or not."""
    return told(_batches([Path(path) for path in paths], some, length))


def _batches(paths: Sequence[Path], some: bool, length: bool) -> Iterator[int | Batch]:
    """The place of each file before it is read, and the files in batches, whose `file` counts from 0."""
    rows = size = 0
    read: list[tuple[pa.Table | None, list[Finding]]] = []
    for i, path in enumerate(paths):
        yield i
        table, findings = read_table(path)
        read.append((table, findings))
        if table is not None:
            rows, size = rows + table.num_rows, size + table.nbytes
        if len(read) == BATCH or rows >= BATCH_ROWS or size >= BATCH_BYTES or i == len(paths) - 1:
            yield _judged(read, some, length)
            rows, size, read = 0, 0, []


def without_repeats(
    frame: pd.DataFrame, names: Sequence[str], findings: list[list[Finding]], known: pd.DataFrame | None = None
) -> Checked:
    """The rows of files that have no error, repeat no other and are extended by none; `findings` so far, by file.

    `frame` holds rows of the contract's columns with a column `file`, the place of theirs in `names`; `known` rows of
    runs that came before.
    """
    heads = frame.drop_duplicates("file").set_index("file")[["contributor", "run_id"]].astype(str)
    rows = frame if known is None else _after(known, frame)
    shorter, told = replaced(rows)
    prefix, of_branches = branched(rows)
    once = set(shorter)  # files whose rows another stands for
    for i, finding in (*told, *of_branches, *repeats(rows[~prefix] if prefix.any() else rows, shorter)):
        if i >= 0:
            findings[i].append(finding)
            once |= {i} if finding.code == CONFIRMATION else set()
    reports = tuple(Report(name, tuple(found)) for name, found in zip(names, findings, strict=True))
    good = np.array([r.ok and i not in once for i, r in enumerate(reports)], dtype=bool)[frame["file"]]
    return Checked(frame if good.all() else frame[good].reset_index(drop=True), reports, heads)


def _after(known: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of files behind those of other runs on their texts, which are files too, numbered from -1 down."""
    known = apart_from(known[known["eval_data"].isin(frame["eval_data"].unique())], frame)
    return pd.concat([known.assign(file=-1 - curve_numbers(known)), frame], ignore_index=True) if len(known) else frame


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Names that imported logs lack read as `unknown`, so that who groups rows by them loses none."""
    for name in _NAMES:
        column = frame[name]
        if column.isna().any():
            known = column if UNKNOWN in column.cat.categories else column.cat.add_categories(UNKNOWN)
            frame[name] = known.fillna(UNKNOWN)
    return frame


def _schema(length: int) -> pa.Schema:
    """Of the rows of files."""
    return ON_READ.append(pa.field(LENGTH, pa.int64())).append(_FILE) if length else ON_READ.append(_FILE)


def _judged(read: Sequence[tuple[pa.Table | None, list[Finding]]], some: bool, length: bool) -> Batch:
    """Rows of the files that pass alone, with a column `file`, their place in `read`; the findings of each file."""
    findings = [list(found) for _, found in read]
    tables = {i: table for i, (table, _) in enumerate(read) if table is not None}
    if not tables:
        return _schema(length).empty_table(), findings
    table = pa.concat_tables(tables.values()).unify_dictionaries().combine_chunks()
    file = np.repeat(np.fromiter(tables, dtype=np.int64), [t.num_rows for t in tables.values()])
    for i, finding in (*_nan(table, file), *_judge(table.to_pandas(), file)):
        findings[i].append(finding)
    keep = np.array([Report("", tuple(found)).ok for found in findings], dtype=bool)[file]
    if length:
        table = table.append_column(LENGTH, pa.array(np.bincount(file)[file]))
    if some:
        keep &= few_rows(table["tokens"].to_numpy(), table["loss"].to_numpy(), file)
    kept = table if keep.all() else table.filter(pa.array(keep))
    return kept.append_column("file", pa.array(file[keep])), findings


def read_log(path: Path) -> tuple[pa.Table | None, list[Finding]]:
    """`read_table` in a child."""
    try:
        findings, tables = child.call("leaderboard.logs.check:answer", str(path.absolute()))
    except child.Died as died:
        return None, [deadly(died)]
    return unpacked(tables[0]) if tables else None, [Finding(**found) for found in findings]


def answer(path: str) -> Iterator[child.Answer]:
    """What a child tells of one file."""
    table, findings = read_table(Path(path))
    yield [asdict(found) for found in findings], [] if table is None else [packed(table)]


def read_table(path: Path) -> tuple[pa.Table | None, list[Finding]]:
    """A log as an arrow table in the contract's column order, or the findings that say why it is none.

    Nothing is unpacked before its size is known, so that a hostile file costs no more memory than MAX_UNPACKED.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError("not a file")  # a folder, a pipe or a device would block or never end
        if found := _too_large(path.stat().st_size, MAX_BYTES, "Evaluate less often."):
            return None, found
        data = path.read_bytes()
        if found := _too_large(footer_bytes(data), MAX_FOOTER, "Write one row group."):
            return None, found
        table, found = _parse(data)
        if table is None or found:
            return None, found
        table = _as_contract(table)
        table.validate(full=True)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return None, [_file("unreadable", reason, "a whole parquet file", "Write it again with `p2zoo run --resume`.")]
    nulls = [name for name, column in zip(table.column_names, table.columns, strict=True) if column.null_count]
    required: Sequence[str] = (
        REQUIRED_OF_IMPORTED if table["provenance"].unique().to_pylist() == [IMPORTED] else _REQUIRED
    )
    nulls = [name for name in nulls if name in required]
    return (None, [_null(name) for name in nulls]) if nulls else (table, [])


def _parse(data: bytes) -> tuple[pa.Table | None, list[Finding]]:
    """The table in the current version of the contract, or what forbids to read it."""
    with _opened(data) as file:
        metadata = file.metadata
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        found = _row_findings(metadata.num_rows) or _too_large(unpacked, MAX_UNPACKED, "Shorten the texts.")
        if found or (found := _too_large(unpacked_bytes(data, metadata), MAX_UNPACKED, "Shorten the texts.")):
            return None, found
        if (version := past_version(file)) is not None:
            table = upgraded(file.read(use_threads=False), version)
            return table, _schema_findings(table.schema)
        if found := _schema_findings(file.schema_arrow):
            return None, found
        return file.read(use_threads=False), []


def _opened(data: bytes) -> pq.ParquetFile:
    """A log whose texts are read as dictionaries, so that a repeated one costs nothing, where all are there."""
    try:
        return pq.ParquetFile(pa.BufferReader(data), read_dictionary=_TEXT)
    except KeyError:
        return pq.ParquetFile(pa.BufferReader(data))


def _as_contract(table: pa.Table) -> pa.Table:
    """Columns in the contract's order and types."""
    for column in COLUMNS:
        if column.later and column.name not in table.schema.names:
            table = table.append_column(column.name, pa.nulls(len(table)))
    if table.schema.names != ON_READ.names:
        table = table.select(ON_READ.names)
    pairs = zip(table.columns, ON_READ, strict=True)
    return pa.Table.from_arrays([c if c.type == f.type else c.cast(f.type) for c, f in pairs], schema=ON_READ)


def _file(code: str, got: str, allowed: str, fix: str) -> Finding:
    return Finding(code, ERROR, "file", got, allowed, fix)


def _too_large(size: int, most: int, fix: str) -> list[Finding]:
    return [_file("too_large", f"{size:,} bytes", f"{most:,} bytes", fix)] if size > most else []


def _null(name: str) -> Finding:
    return Finding("null", ERROR, name, "null", "a value in every row", f"{name}: {BY_NAME[name].meaning}.")


def _row_findings(rows: int) -> list[Finding]:
    allowed = f"1 to {MAX_ROWS:,} rows"
    return [] if 0 < rows <= MAX_ROWS else [_file("row_count", f"{rows:,} rows", allowed, "One row is one evaluation.")]


@lru_cache(maxsize=64)
def _schema_findings(found: pa.Schema) -> list[Finding]:
    """Columns that are missing, extra or of another type; most logs have one schema."""
    out = []
    if len(found.names) != len(set(found.names)):
        out.append(_file("repeated_column", "a column name twice", "each column once", "Drop the copy."))
    for name in sorted(set(found.names) - set(BY_NAME))[:MAX_EXTRA]:
        fix = "Drop it: one file with an extra column breaks the dataset for every reader."
        out.append(Finding("extra_column", ERROR, name[:80], "a column", "only the contract's columns", fix))
    for wanted in schema():
        if wanted.name not in found.names:
            if BY_NAME[wanted.name].later:
                continue
            meaning = f"Add it: {BY_NAME[wanted.name].meaning}."
            out.append(Finding("missing_column", ERROR, wanted.name, "no such column", str(wanted.type), meaning))
            continue
        got = found.field(found.get_field_index(wanted.name)).type if found.names.count(wanted.name) == 1 else None
        plain = _plain(got)
        untyped = pa.types.is_null(plain) and BY_NAME[wanted.name].may_be_null if plain is not None else True
        if plain != wanted.type and not untyped:
            out.append(Finding("column_type", ERROR, wanted.name, str(got), str(wanted.type), "Write that type."))
    return out


def _plain(got: pa.DataType | None) -> pa.DataType | None:
    return got.value_type if got is not None and pa.types.is_dictionary(got) else got


def _nan(table: pa.Table, file: NDArray[np.int64]) -> Iterable[tuple[int, Finding]]:
    """NaN where null was meant: pandas takes them for one, other readers of the dataset do not."""
    for name in _NULLABLE_FLOATS:
        for i in np.unique(file[pc.is_nan(table[name]).fill_null(False).to_numpy()]):
            yield int(i), Finding("not_finite", ERROR, name, "nan", "a finite number or null", "Write null.")


def _judge(frame: pd.DataFrame, file: NDArray[np.int64]) -> Iterable[tuple[int, Finding]]:
    """Findings of the rules: for each rule and file the first row that breaks it."""
    opens = np.flatnonzero(np.diff(file, prepend=-1))
    first = np.repeat(opens, np.diff(np.append(opens, len(file))))
    rows = Rows(frame, file, first)
    heads, places = rows.heads()
    with np.errstate(all="ignore"):
        for rule in RULES:
            at = np.flatnonzero(rule.broken(rows)) if rule.every_row else places[rule.broken(heads)]
            files, place = np.unique(file[at], return_index=True)
            for i, row in zip(files, at[place], strict=True):
                where, got = f"{rule.where}, row {row - first[row]}", _shown(frame[rule.where].iloc[row])
                yield int(i), Finding(rule.code, rule.severity, where, got, rule.allowed, rule.fix)


def _shown(value: object) -> str:
    """A value in words; a time in year 200,000 has no other text than numpy's."""
    plain = value.item() if isinstance(value, np.generic) else value
    return (str(value.asm8) if isinstance(value, pd.Timestamp) else repr(plain))[:120]
