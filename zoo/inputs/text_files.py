"""Text files of this machine: each read as what its name says it is, and refused with the line where it is not that.

JSON lines and arrays, CSV, TSV, parquet, arrow and plain text, each also packed as .gz, .bz2, .xz or .zst; of a folder
or a pattern all files, in the order of their names. The builders of the data set library read the Hub's data sets
(text_stream.py), not these: they guess a column's type from its first rows, take numbers for text, know no lines, and
load PyTorch for a dry run.
"""

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.errors import P2Error, unknown_name

SOURCE = "source"  # column
POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that git did not fetch
_ABOUT = ("readme", "license", "licence", "notice", "copying")  # files of a folder that are about its text
_FAILURES = (OSError, EOFError, ValueError, RecursionError, pa.ArrowException, lzma.LZMAError, zlib.error, csv.Error)

Row = tuple[Any, Any, int]  # what stands for the text, the source or None, and the line or the row


@dataclass(frozen=True)
class Texts:
    """The documents of some files in order, None for a row without text; `sources` where the files tell them."""

    texts: list[str | None]
    sources: list[str | None] | None


class _Fault(Exception):  # noqa: N818 - what is wrong in a file, to be told with its name
    """`what` is wrong at a line (or row) of a file; `advice` says what to do."""

    def __init__(self, what: str, line: int | None = None, advice: str = "", unit: str = "line"):
        super().__init__(what)
        self.what, self.at, self.advice = what, "" if line is None else f", {unit} {line:,}", advice


def find_files(written: str, folder: Path, where: str) -> list[Path]:
    """The files that a path, a folder or a pattern (`texts/*.jsonl`) of a recipe names, sorted. P2Error for none."""
    path = folder / written
    if path.is_file():
        return [path]
    if path.is_dir():
        return _of_folder(path, written, where)
    fixed = next((n for n, part in enumerate(path.parts) if "*" in part), len(path.parts))
    start, pattern = Path(*path.parts[:fixed]), path.parts[fixed:]
    found = sorted(start.glob("/".join(pattern))) if pattern else []
    files = [file for file in found if file.is_file() and not _hidden(file.relative_to(start))]
    if not files:
        raise P2Error(
            f"{where}.file: {written} is not a file beside the recipe, nor a folder or a pattern of some; paths "
            "start at the file that names them."
        )
    return files


def _of_folder(path: Path, written: str, where: str) -> list[Path]:
    """All files of a folder, which must be of one kind, so that none is passed over in silence."""
    inside = (file for file in sorted(path.rglob("*")) if file.is_file())
    files = [
        file for file in inside if not _hidden(file.relative_to(path)) and not file.name.lower().startswith(_ABOUT)
    ]
    kinds = sorted({_suffixes(file)[0] for file in files})
    if len({READERS.get(kind) for kind in kinds}) > 1:
        raise P2Error(
            f"{where}.file: the folder {written} holds files of several kinds: {', '.join(kinds)}; name those that are "
            f"meant by a pattern, e.g. {written.rstrip('/')}/*{kinds[0]}"
        )
    if not files:
        raise P2Error(f"{where}.file: the folder {written} holds no files of text.")
    return files


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) and part != ".." for part in path.parts)


def sha256_of(files: Iterable[Path]) -> str:
    """The sha256 of a file's content; of several that of their hashes, in order."""
    hashes = []
    for path in files:
        stat = path.stat()
        hashes.append(_sha256(path.resolve(), stat.st_size, stat.st_mtime_ns))
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


@lru_cache(maxsize=1_024)  # one file may be both to train and to measure on
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_files(files: Iterable[Path], column: str, where: str) -> Texts:
    """All documents of some files. Raises P2Error with the file, and the line where there is one."""
    texts: list[str | None] = []
    sources: list[str | None] = []
    for path in files:
        try:
            for value, source, line in _rows(path, column, where):
                texts.append(checked(value, column, partial(_Fault, line=line)))
                sources.append(None if source is None else str(source))
        except _Fault as fault:
            raise P2Error(f"{where}.file: {path.name}{fault.at}: {fault.what}{fault.advice or '.'}") from None
        except P2Error:
            raise
        except _FAILURES as error:
            raise _unreadable(path, where, error) from error
    return Texts(texts, sources if any(source is not None for source in sources) else None)


def checked(value: Any, column: str, fault: Callable[[str], Exception]) -> str | None:
    """A text as it can be tokenized, None for none; raises `fault` of what it is in place of text."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise fault(f"column {column!r} holds {type(value).__name__}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise fault(f"half a character (the surrogate {half}) at place {error.start:,} of its text") from None
    return value


def _suffixes(path: Path) -> tuple[str, str]:
    """What a file is and how it is packed ('' for not), by its name in any case: ('.jsonl', '.gz')."""
    last = path.suffix.lower()
    return (path.with_suffix("").suffix.lower(), last) if last in OPENERS else (last, "")


def _rows(path: Path, column: str, where: str) -> Iterator[Row]:
    kind, packed = _suffixes(path)
    if kind not in READERS:
        raise unknown_name("suffix", kind or path.name, READERS, f"{where}.file: {path.name}")
    content = OPENERS[packed](path)
    if content.startswith(POINTER):
        raise _Fault("is the pointer of a large file that git did not fetch; run `git lfs pull`")
    return READERS[kind](content, column, f"{where}.column")


def _unreadable(path: Path, where: str, error: Exception) -> P2Error:
    kind = path.suffix.lstrip(".") or "text"
    if isinstance(error, OSError) and error.strerror:
        return P2Error(
            f"{where}.file: {path.name} cannot be read: {error.strerror}; mend the file or its rights, or name another."
        )
    at = f" (line {error.lineno:,})" if isinstance(error, json.JSONDecodeError) else ""
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return P2Error(f"{where}.file: {path.name} cannot be read as {kind}{at}: {why}. Is it cut off?")


def _zstd(path: Path) -> bytes:
    with pa.input_stream(str(path), compression="zstd") as file:
        return file.read()


OPENERS: dict[str, Callable[[Path], bytes]] = {
    "": Path.read_bytes,
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".bz2": lambda path: bz2.decompress(path.read_bytes()),
    ".xz": lambda path: lzma.decompress(path.read_bytes()),
    ".zst": _zstd,
}


def _decoded(content: bytes) -> str:
    """UTF-8, with or without a mark of byte order."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line:,} is not UTF-8 text ({error.reason} at byte {error.start:,})") from None


def _read_json(content: bytes, column: str, where: str) -> Iterator[Row]:
    """An array of objects, an object a line, or one object; only a line feed ends a line."""
    text = _decoded(content)
    if text.lstrip().startswith("[") or (text.lstrip().startswith("{\n") and "}\n{" not in text):
        rows = json.loads(text)
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
            yield _of_object(row, column, number, "object")
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(error.msg, "\n" * (number - 1) + line, number - 1 + error.pos) from None
        yield _of_object(row, column, number, "line")


def _of_object(row: Any, column: str, number: int, unit: str) -> Row:
    if not isinstance(row, dict):
        raise _Fault(f"{type(row).__name__} where an object with the key {column!r} is due", number, unit=unit)
    if column not in row:
        keys = ", ".join(list(row)[:8]) or "nothing"
        raise _Fault(f"no text under {column!r}; it has {keys}", number, "; name the column that is text.", unit)
    return row[column], row.get(SOURCE), number


def _read_csv(content: bytes, column: str, where: str, delimiter: str = ",") -> Iterator[Row]:
    """Rows under a first line that names the columns; all of them text, whatever they look like."""
    csv.field_size_limit(sys.maxsize)  # a document is one field
    reader = csv.reader(io.StringIO(_decoded(content), newline=""), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        if names.count(column) != 1:
            raise unknown_name("column", column, names, where)
        at, source = names.index(column), names.index(SOURCE) if SOURCE in names else None
        for row in reader:
            if row and len(row) != len(names):
                raise _Fault(f"{len(row)} fields where the first line names {len(names)}", reader.line_num)
            if row:
                yield row[at], None if source is None else row[source], reader.line_num
    except csv.Error as error:
        words = "tabs" if delimiter == "\t" else "commas"
        raise _Fault(f"no rows with {words} between their fields: {error}", reader.line_num) from None


def _read_tsv(content: bytes, column: str, where: str) -> Iterator[Row]:
    return _read_csv(content, column, where, "\t")


def _read_parquet(content: bytes, column: str, where: str) -> Iterator[Row]:
    file = pa.BufferReader(content)
    _check_column(pq.read_schema(file), column, where)
    names = [name for name in (column, SOURCE) if name in pq.read_schema(file).names]
    return _of_table(pq.read_table(file, columns=names), column)


def _read_arrow(content: bytes, column: str, where: str) -> Iterator[Row]:
    """As the data set library saves it: a stream; or a file."""
    opens = pa.ipc.open_file if content.startswith(b"ARROW1") else pa.ipc.open_stream
    table = opens(pa.BufferReader(content)).read_all()
    _check_column(table.schema, column, where)
    return _of_table(table, column)


def _check_column(schema: pa.Schema, column: str, where: str) -> None:
    if column not in schema.names:
        raise unknown_name("column", column, schema.names, where)
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
        raise _Fault(f"column {column!r} holds {kind}, not text", advice=f"; text: {', '.join(texts) or 'none'}.")


def _of_table(table: pa.Table, column: str) -> Iterator[Row]:
    sources = table.column(SOURCE).to_pylist() if SOURCE in table.column_names else [None] * len(table)
    table.validate(full=True)  # offsets that lead outside are found before they are followed
    rows = zip(table.column(column).to_pylist(), sources, strict=True)
    return ((text, source, number) for number, (text, source) in enumerate(rows, 1))


def _read_plain(content: bytes, column: str, where: str) -> Iterator[Row]:
    """NUL bytes part the documents; one file without any is one document."""
    text = _decoded(content).replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\0") * 4 > len(text) > 0:
        raise _Fault("every other byte is NUL: this is UTF-16, or no text; save it as UTF-8")
    if _looks_like_json(text):
        raise _Fault("is JSON, not plain text", 1, "; call it .jsonl or .json.")
    return ((document, None, 1) for document in text.split("\0") if document.strip())


def _looks_like_json(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return first.startswith(("{", "[{")) and isinstance(json.loads(first), dict | list)
    except (ValueError, RecursionError):
        return False


READERS: dict[str, Callable[[bytes, str, str], Iterator[Row]]] = {
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".txt": _read_plain,
    ".text": _read_plain,
    ".md": _read_plain,
    ".rst": _read_plain,
}
