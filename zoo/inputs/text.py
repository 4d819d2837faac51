"""Documents: from a text, jsonl or parquet file (.xz too), or streamed from a data set on the Hub.

In a text file NUL bytes part the documents; one without any is one document. The order is the file's own, or shuffled
by a seed; the same seed gives the same documents, also where a stream broke off and was opened again. Only the
data set library is heavy here, and it is imported when a Hub data set is read.
"""

import hashlib
import json
import lzma
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.errors import P2Error, RunFailed, unknown_name
from zoo.recipe.spec import TextSpec

GONE = {"cerebras/SlimPajama-627B": "DKYoon/SlimPajama-6B"}  # data sets that left the Hub, and the closest copy
SUGGESTED = "HuggingFaceFW/fineweb-edu (subset sample-10BT) or DKYoon/SlimPajama-6B"
SOURCE = "source"  # column
_SHUFFLE_BUFFER = 10_000  # documents
_TOGETHER = 64  # documents tokenized in one call
_PAUSES_S = (1, 2, 4)  # before a broken stream is opened again; the Hub's client has waited by itself before


def check_text(spec: TextSpec, folder: Path, where: str) -> None:
    """Refuse what can be known without a network: a file that is missing, empty or lacks the column."""
    if spec.dataset in GONE:
        raise _gone(spec.dataset, where)
    if spec.file is not None and not any(text.strip() for text in documents(spec, folder, where)):
        raise P2Error(f"{where}: {spec.label} holds no text in this slice; give a file with text in it.")


def fingerprint(spec: TextSpec, folder: Path, where: str) -> str:
    """What pins the text: the sha256 of a file, or the commit of a data set."""
    if spec.file is not None:
        return hashlib.sha256(_local(spec.file, folder, where).read_bytes()).hexdigest()
    from huggingface_hub import HfApi

    from leaderboard.logs.hub_errors import OF_THE_HUB, unreadable

    assert spec.dataset is not None
    try:
        return str(HfApi().dataset_info(spec.dataset, revision=spec.revision).sha)
    except (*OF_THE_HUB, OSError) as error:
        name, page = f"{where}.dataset: {spec.dataset}", f"https://huggingface.co/datasets/{spec.dataset}"
        instead = f"or use {GONE.get(spec.dataset) or SUGGESTED}, or a local `file`"
        raise unreadable(error, name, page, instead, spec.revision) from error


def documents(
    spec: TextSpec, folder: Path, where: str, seed: int | None = None, commit: str | None = None
) -> Iterator[str]:
    """The texts of a slice; `seed` shuffles them, None keeps their order. `where` is the key for messages."""
    return (text for text, _ in labelled(spec, folder, where, seed, commit))


def labelled(
    spec: TextSpec, folder: Path, where: str, seed: int | None = None, commit: str | None = None
) -> Iterator[tuple[str, str | None]]:
    """`documents`, each with its source: the column `source` of a parquet file or a Hub data set, None without one."""
    chosen = _streamed(spec, where, seed, commit) if spec.dataset is not None else _chosen(spec, folder, where, seed)
    for text, source in chosen:
        yield (text if spec.noise is None else shuffle_lines(text, spec.noise, seed or 0)), source


def _chosen(spec: TextSpec, folder: Path, where: str, seed: int | None) -> Iterator[tuple[str, str | None]]:
    path = _local(str(spec.file), folder, where)
    texts, sources = _read(path, spec.column, where, path.stat().st_mtime_ns)
    places = range(len(texts))[spec.skip :][: spec.take]
    order = places if seed is None else np.random.default_rng(seed).permutation(places)
    yield from ((texts[i], sources[i] if sources else None) for i in order)


def shuffle_lines(text: str, share: float, seed: int) -> str:
    """The document with `share` of its lines in random order among themselves; the others stay where they are.

    Depends on the document and the seed alone, whatever stands around it.
    """
    lines = text.split("\n")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    draw = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    places = draw.choice(len(lines), round(share * len(lines)), replace=False)
    moved = {int(to): lines[at] for to, at in zip(places, draw.permutation(places), strict=True)}
    return "\n".join(moved.get(i, line) for i, line in enumerate(lines))


class Hashed:
    """Passes texts on and hashes them, each with its length: `sha256` is that of all that were taken so far."""

    def __init__(self, texts: Iterable[str]):
        self.texts = texts
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            content = text.encode()
            self._digest.update(len(content).to_bytes(8, "little"))
            self._digest.update(content)
            yield text

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def tokenize(texts: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    """Token ids of each document, its end marked by the end-of-text token."""
    end = tokenizer.eos_token_id
    if end is None:
        raise P2Error(
            "model: its tokenizer has no end-of-text token, so documents cannot be told apart; set eos_token."
        )
    texts = iter(texts)
    while batch := list(islice(texts, _TOGETHER)):
        for ids in tokenizer(batch, return_attention_mask=False, verbose=False)["input_ids"]:
            yield ids if ids and ids[-1] == end else [*ids, end]


def _local(written: str, folder: Path, where: str) -> Path:
    path = folder / written
    if not path.is_file():
        raise P2Error(
            f"{where}.file: {written} is not a file beside the recipe; paths start at the file that names them."
        )
    return path


def forget() -> None:
    """Let go of the texts that were read, once nobody will ask for them again: a corpus is large beside its blocks."""
    _read.cache_clear()


@lru_cache(maxsize=2)  # a run reads its file for several purposes, and a packed corpus takes seconds
def _read(path: Path, column: str, where: str, changed_ns: int) -> tuple[Sequence[str], Sequence[str] | None]:
    """All documents of a file, and their sources where it tells them.

    `changed_ns` tells another state of the file from the one that is remembered.
    """
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl}
    inner = path.with_suffix("") if path.suffix == ".xz" else path
    try:
        texts = readers.get(inner.suffix, _read_plain)(path, column, where)
        told = path.suffix == ".parquet" and SOURCE in pq.read_schema(path).names
        return texts, _read_parquet(path, SOURCE, where) if told else None
    except (UnicodeDecodeError, json.JSONDecodeError, pa.ArrowInvalid, lzma.LZMAError, EOFError) as error:
        kind = path.suffix.lstrip(".") or "text"
        raise P2Error(f"{where}.file: {path.name} cannot be read as {kind}: {error}. Is it cut off?") from error
    except OSError as error:
        raise P2Error(
            f"{where}.file: {path.name} cannot be read: {error.strerror or error}; mend the file or its rights, or "
            "name another."
        ) from error


def _read_parquet(path: Path, column: str, where: str) -> list[str]:
    names = pq.read_schema(path).names
    if column not in names:
        raise unknown_name("column", column, names, f"{where}.column")
    return [str(text or "") for text in pq.read_table(path, columns=[column]).column(column).to_pylist()]


def _read_jsonl(path: Path, column: str, where: str) -> list[str]:
    rows = [json.loads(line) for line in _text(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            raise P2Error(f"{where}.column: {path.name}, object {number}: no text under {column!r}.")
    return [row[column] for row in rows]


def _read_plain(path: Path, column: str, where: str) -> list[str]:
    return [document for document in _text(path).split("\0") if document.strip()]


def _text(path: Path) -> str:
    if path.suffix != ".xz":
        return path.read_text(encoding="utf-8")
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        return file.read()


def _streamed(spec: TextSpec, where: str, seed: int | None, commit: str | None) -> Iterator[tuple[str, str | None]]:
    """Texts from the Hub. A stream that breaks off is opened again where it was; in the end the run stops in words."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    done = failures = 0
    rows: Iterator[Any] | None = None
    while True:
        try:
            rows = rows or islice(_open(spec, where, seed, commit), done, None)
            row = next(rows, None)
        except (OSError, httpx2.TransportError, HfHubHTTPError) as error:
            if failures == len(_PAUSES_S):
                raise _broke_off(spec, where, done, error) from error
            time.sleep(_PAUSES_S[failures])
            rows, failures = None, failures + 1
            continue
        if row is None:
            return
        done, failures = done + 1, 0
        yield row[spec.column] or "", row.get(SOURCE)


def _open(spec: TextSpec, where: str, seed: int | None, commit: str | None) -> Iterator[Any]:
    """The rows of a slice from its start; the same seed gives the same order each time."""
    import datasets

    assert spec.dataset is not None
    # its own patience would be minutes without a word; `_streamed` has some
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 1
    try:
        stream = datasets.load_dataset(
            spec.dataset, spec.subset, split=spec.split, revision=commit or spec.revision, streaming=True
        )
    except datasets.exceptions.DatasetNotFoundError as error:
        raise _gone(spec.dataset, where) from error
    except ValueError as error:  # an unknown subset or split; the text names the known ones
        raise P2Error(f"{where}: {spec.dataset}: {error}") from error
    if stream.column_names and spec.column not in stream.column_names:
        raise unknown_name("column", spec.column, stream.column_names, f"{where}.column")
    stream = stream.skip(spec.skip)
    stream = stream if spec.take is None else stream.take(spec.take)
    return iter(stream if seed is None else stream.shuffle(seed=seed, buffer_size=_SHUFFLE_BUFFER))


def _broke_off(spec: TextSpec, where: str, done: int, error: Exception) -> RunFailed:
    """It does not repeat the error's own words, which may hold signed addresses."""
    answer = getattr(error, "response", None)
    why = type(error).__name__ if answer is None else f"HTTP {answer.status_code}"
    return RunFailed(
        f"{where}.dataset: the stream of {spec.label} broke off after {done:,} documents and could not be opened again "
        f"({why}). Nothing is lost: run again with --resume once the Hub answers."
    )


def _gone(dataset: str, where: str) -> P2Error:
    other = GONE.get(dataset) or SUGGESTED
    return P2Error(
        f"{where}.dataset: {dataset} is not on the Hub (removed, renamed or private); use {other}, "
        f"and look at https://huggingface.co/datasets/{dataset} if you may have access."
    )
