"""Documents streamed from a data set on the Hub through the data set library, or read from its cache without a network.

A stream that breaks off is opened again where it was; whatever else is wrong with somebody's data set is one message.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error, RunFailed, unknown_name
from zoo.inputs.text_files import SOURCE, checked
from zoo.recipe.spec import TextSpec

GONE = {"cerebras/SlimPajama-627B": "DKYoon/SlimPajama-6B"}  # data sets that left the Hub, and the closest copy
SUGGESTED = "HuggingFaceFW/fineweb-edu (subset sample-10BT) or DKYoon/SlimPajama-6B"
_SHUFFLE_BUFFER = 10_000  # documents
_PAUSES_S = (1, 2, 4)  # before a broken stream is opened again; the Hub's client has waited by itself before
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\..+)")  # how parts of a split are named


def check_not_gone(dataset: str, where: str) -> None:
    """Refuse a data set that is known to have left the Hub."""
    if dataset in GONE:
        raise P2Error(
            f"{where}.dataset: {dataset} is not on the Hub (it was removed); use {GONE[dataset]}, or "
            f"{SUGGESTED.split(' or ')[0]}."
        )


def newest_commit(spec: TextSpec, where: str) -> str:
    """The commit of a data set that its revision means now; without a network the one in the cache."""
    from huggingface_hub import HfApi

    from leaderboard.logs.hub_errors import Patience, offline

    assert spec.dataset is not None
    if offline():
        return cached_folder(spec, where).name
    try:
        ask = lambda: HfApi().dataset_info(spec.dataset, revision=spec.revision).sha  # noqa: E731
        return str(Patience(attempts=4).insist(ask))
    except Exception as error:
        raise _refused(spec, where, error) from None


def cached_folder(spec: TextSpec, where: str) -> Path:
    """The snapshot of a data set in the Hub's cache, with every part that its files say they are one of."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(str(spec.dataset), repo_type="dataset", revision=spec.revision, local_files_only=True)
        )
    except Exception as error:
        raise _refused(spec, where, error) from None
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for found in filter(None, map(_SHARD.fullmatch, sorted(names))):
        stem, _, count, suffix = found.groups()
        missing = [n for n in range(int(count)) if f"{stem}-{n:05d}-of-{count}{suffix}" not in names]
        if missing:
            raise P2Error(
                f"{where}.dataset: offline, and of {spec.dataset} the cache lacks {len(missing)} of {int(count)} parts "
                f"({stem}-…{suffix}); fetch all with `hf download {spec.dataset} --repo-type dataset`."
            )
    return folder


def rows(spec: TextSpec, where: str, seed: int | None, commit: str | None) -> Iterator[tuple[str | None, str | None]]:
    """Texts and sources of a slice, None for a row without text. `commit` pins the data set."""
    done = failures = 0
    stream: Iterator[Any] | None = None
    while True:
        try:
            with _library():
                stream = stream or islice(_open(spec, where, seed, commit), done, None)
                row = next(stream, None)
        except P2Error:
            raise
        except Exception as error:
            if not _may_pass(error):
                raise _refused(spec, where, error, done) from None
            if failures == len(_PAUSES_S):
                raise _broke_off(spec, where, done, error) from None
            time.sleep(_PAUSES_S[failures])
            stream, failures = None, failures + 1
            continue
        if row is None:
            return
        done, failures = done + 1, 0
        yield _checked(row, spec, where, done)


def _checked(row: Any, spec: TextSpec, where: str, number: int) -> tuple[str | None, str | None]:
    if spec.column not in row:
        raise unknown_name("column", spec.column, row, f"{where}.column")
    refuse = lambda what: P2Error(  # noqa: E731
        f"{where}.dataset: {spec.label}, document {spec.skip + number:,}: {what}; text stands in: "
        f"{', '.join(name for name, value in row.items() if isinstance(value, str)) or 'no column'}."
    )
    source = row.get(SOURCE)
    return checked(row[spec.column], spec.column, refuse), None if source is None else str(source)


def _open(spec: TextSpec, where: str, seed: int | None, commit: str | None) -> Iterator[Any]:
    """The rows of a slice from its start; the same seed gives the same order each time."""
    import datasets

    from leaderboard.logs.hub_errors import offline

    # its own patience would be minutes without a word; `rows` has some
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 1
    # `hf://`: a folder of that name beside us is not meant
    path = str(cached_folder(spec, where)) if offline() else f"hf://datasets/{spec.dataset}"
    revision = None if offline() else commit or spec.revision
    stream = datasets.load_dataset(path, spec.subset, split=spec.split, revision=revision, streaming=True)
    if stream.column_names and spec.column not in stream.column_names:
        raise unknown_name("column", spec.column, stream.column_names, f"{where}.column")
    stream = stream.skip(spec.skip)
    stream = stream if spec.take is None else stream.take(spec.take)
    return iter(stream if seed is None else stream.shuffle(seed=seed, buffer_size=_SHUFFLE_BUFFER))


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """The data set library, able to read .zst, and quiet: what it would log is raised, and told once."""
    import datasets
    import fsspec
    import pyarrow as pa

    if "zstd" not in fsspec.available_compressions():
        fsspec.compression.register_compression(
            "zstd", lambda file, mode="rb", **_: pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"), "zst"
        )
    level = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)


def _may_pass(error: Exception) -> bool:
    """Whether it is the line that broke, and not what is sent over it."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    from leaderboard.logs.hub_errors import cause_of, passing

    cause = cause_of(error)
    if cause is None:
        return isinstance(error, ConnectionError | TimeoutError)
    if isinstance(cause, GatedRepoError | RepositoryNotFoundError | OfflineModeIsEnabled):
        return False
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return passing(cause) or status == 404  # a part that is missing now was listed a moment ago


def _refused(spec: TextSpec, where: str, error: Exception, done: int = 0) -> P2Error:
    """What an error of the Hub, of the library or of the data means; addresses and signatures are not repeated."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    from leaderboard.logs.hub_errors import cause_of, link, unreadable

    name, cause = f"{where}.dataset: {spec.dataset}", cause_of(error)
    instead = f"or use {SUGGESTED}, or a local `file`"
    if cause is None and isinstance(error, LocalEntryNotFoundError):
        cause = error
    if cause is not None:
        return unreadable(cause, name, link(f"datasets/{spec.dataset}"), instead, spec.revision)
    from datasets.exceptions import DatasetNotFoundError
    from datasets.table import CastError

    if isinstance(error, DatasetNotFoundError):
        return P2Error(f"{name} is not on the Hub, or is private: see {link(f'datasets/{spec.dataset}')}; {instead}.")
    words = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("scripts are no longer supported" in line for line in words):
        return P2Error(
            f"{name} is made by a script, which is not run; name a data set whose files are data, or download its text "
            "and name it as `file`."
        )
    why = words[0] if words else type(error).__name__
    if isinstance(error, CastError):
        why = f"its files do not have the same columns: {error.details()}"
    after = f" after {done:,} documents" if done else ""
    return P2Error(f"{name} ({spec.label}) cannot be read{after}: {_short(why)} ({type(error).__name__}).")


def _short(why: str) -> str:
    plain = re.sub(r"(?:https?|hf|gzip|zstd|xz|bz2)://\S+", lambda found: found[0].split("?")[0], why)
    return plain if len(plain) <= 400 else plain[:400] + " …"


def _broke_off(spec: TextSpec, where: str, done: int, error: Exception) -> RunFailed:
    """It does not repeat the error's own words, which may hold signed addresses."""
    from leaderboard.logs.hub_errors import by_proxy, cause_of

    error = cause_of(error) or error
    answer = getattr(error, "response", None)
    why = type(error).__name__ if answer is None else f"HTTP {answer.status_code}"
    return RunFailed(
        f"{where}.dataset: the stream of {spec.label} broke off after {done:,} documents and could not be opened again "
        f"({why}).{by_proxy()} Nothing is lost: run again with --resume once the Hub answers."
    )
