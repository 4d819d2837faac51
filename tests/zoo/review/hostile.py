"""Hostile run logs, made from good ones: `write(folder, count)`; run as a program it judges them and counts memory.

Four kinds in turn: broken bytes, other schemas, other values, and bombs that unpack to far more than they are.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.logs.check import check_files, log_files
from leaderboard.logs.contract import COLUMNS, run_id
from leaderboard.logs.load import SEED

TEXTS = [c.name for c in COLUMNS if c.kind == "text"]
NUMBERS = [c.name for c in COLUMNS if c.kind in ("int", "float")]
WORDS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "| a | b |\n|---|---|",
    "`code` ``` fence", "@owner", "\u202egnp", "ll\u0430ma-3", "llama-3\u200b", "\x00", "\x1b[2J", "\ud7ff\uffff",
    "../../etc/passwd", "runs/owner/x", "", " ", "None", "nan", "1e999", "=cmd|' /C calc'!A0", "x" * 3_000_000,
    '{"a":' * 900 + "1" + "}" * 900, "[" * 1_900, "9" * 1_900, "\U0001f600" * 1_000,
]  # fmt: skip
VALUES: list[Any] = [
    float("nan"), float("inf"), float("-inf"), -1, 0, 1, 1e308, -1e308, 5e-324, 2**63 - 1, -(2**63), 2**53 + 1, 25, 0.1,
]  # fmt: skip
TYPES = [
    pa.int8(), pa.int32(), pa.uint64(), pa.float32(), pa.string(), pa.large_string(), pa.binary(), pa.null(),
    pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("ms", tz="UTC"), pa.timestamp("us", tz="+14:00"), pa.date32(),
    pa.duration("us"), pa.decimal128(38, 2), pa.list_(pa.float64()), pa.struct([("a", pa.int64())]),
    pa.map_(pa.string(), pa.int64()), pa.dictionary(pa.int32(), pa.int64()),
]  # fmt: skip


def _bytes(data: bytes, draw: Random) -> bytes:
    """Flipped, cut, doubled, zeroed or exchanged bytes, most often where the structure is: at the end."""
    work = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        at = draw.randrange(len(work)) if draw.random() < 0.5 else max(0, len(work) - 1 - draw.randrange(8_000))
        n = draw.choice([1, 1, 4, 16, 400])
        how = draw.randrange(6)
        if how == 0:
            work[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            del work[at : at + n]
        elif how == 2:
            work[at:at] = draw.randbytes(n)
        elif how == 3:
            work[at : at + n] = bytes(len(work[at : at + n]))
        elif how == 4:
            work[at:at] = work[at // 2 : at // 2 + n]
        else:
            work[at : at + 4] = draw.choice([b"\xff\xff\xff\x7f", b"PAR1", b"\xff" * 4, b"\x80" * 12])
        if not work:
            return b"PAR1"
    return bytes(work)


def _packed(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def _schema(data: bytes, draw: Random) -> bytes:
    """A column dropped, renamed, doubled, added, moved, of another type, or all of one kind."""
    table = pq.read_table(io.BytesIO(data))
    i = draw.randrange(table.num_columns)
    name = table.column_names[i]
    how = draw.randrange(7)
    if how == 0:
        table = table.drop_columns([name])
    elif how == 1:
        table = table.rename_columns([draw.choice(WORDS[:16]) if n == name else n for n in table.column_names])
    elif how == 2:
        table = table.append_column(draw.choice([name, "extra", draw.choice(WORDS[:16])]), table[name])
    elif how == 3:
        table = table.slice(0, draw.choice([0, 1, 2]))
    elif how == 4:
        nested = pa.array([[[[1]]]] * table.num_rows)
        for _ in range(draw.choice([1, 20, 80])):
            nested = pa.ListArray.from_arrays(pa.array(range(table.num_rows + 1), pa.int32()), nested)
        table = table.set_column(i, name, nested)
    else:
        kind = draw.choice(TYPES)
        try:
            table = table.set_column(i, name, table[name].cast(kind, safe=False))
        except pa.ArrowException:
            table = table.set_column(i, name, pa.nulls(table.num_rows, kind))
    return _packed(table, store_schema=draw.random() < 0.7, compression=draw.choice(["zstd", "snappy", "none", "gzip"]))


def _values(data: bytes, draw: Random) -> bytes:
    """Numbers no run has and texts no run should, in one row or in all, with the run_id that follows or without."""
    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    for _ in range(draw.choice([1, 1, 3])):
        name = draw.choice(TEXTS if draw.random() < 0.5 else [*NUMBERS, "created_at"])
        value: Any = draw.choice(WORDS) if name in TEXTS else draw.choice(VALUES)
        value = None if draw.random() < 0.1 else value
        for row in rows if draw.random() < 0.6 else [draw.choice(rows)]:
            row[name] = value
    if draw.random() < 0.1:
        draw.shuffle(rows)
    arrays = [_array([row[f.name] for row in rows], f) for f in table.schema]
    if draw.random() < 0.5:
        arrays[table.schema.names.index("run_id")] = pa.array([_own_id(row) for row in rows])
    return _packed(pa.Table.from_arrays(arrays, names=table.column_names), store_schema=False)


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        micros = [v if isinstance(v, int) else 0 if v is None or isinstance(v, float) else _micros(v) for v in values]
        return pa.array(micros, pa.int64()).cast(field.type)
    if pa.types.is_integer(field.type):
        whole = [int(v) if isinstance(v, int) or (v is not None and abs(v) < 2**63) else None for v in values]
        return pa.array(whole, field.type)
    if pa.types.is_floating(field.type):
        return pa.array([None if v is None else float(v) for v in values], field.type)
    return pa.array(values, field.type)


def _micros(time: Any) -> int:
    return int(time.timestamp() * 1e6)


def _own_id(row: dict[str, Any]) -> str:
    try:
        return run_id(row)
    except (ValueError, TypeError, OverflowError):
        return "0" * 16


def _bomb(data: bytes, draw: Random) -> bytes:
    """Far more rows, dictionary, text, row groups or columns than the file is long."""
    return _made(draw.randrange(6), draw.choice(["hardware", "eval_data", "software", "model_repo"]))


@cache
def _made(how: int, name: str) -> bytes:
    table = pq.read_table(log_files(SEED)[0])
    i = table.column_names.index(name)
    if how == 0:
        return _many_rows(table)
    if how == 1:  # one string that packs to thousandths, the footer telling of one byte
        huge = table.slice(0, 1).set_column(i, name, pa.array(["a" * 110_000_000]))
        return _understated(_packed(huge, use_dictionary=False, write_statistics=False))
    if how == 2:  # each value repeats the one before: 150 MB in a few kB
        rows = table.take(np.zeros(1_500, np.int64))
        same = pa.array(["a" * 100_000] * 1_500)
        encoding = {name: "DELTA_BYTE_ARRAY"}
        return _packed(rows.set_column(i, name, same), use_dictionary=False, column_encoding=encoding)
    if how == 3:
        return _packed(pa.table({f"c{j}": [1] for j in range(3_000)}))
    if how == 4:
        return _packed(table, row_group_size=1)
    return _packed(table.set_column(i, name, pa.array([str(j) * 2_000 for j in range(table.num_rows)])))


def _many_rows(table: pa.Table) -> bytes:
    """A billion rows by the footer: 70,001 rows of one value, their count overwritten wherever it stands."""
    data = _packed(table.take(np.zeros(70_001, np.int64)), store_schema=False)
    size = pq.read_metadata(io.BytesIO(data)).serialized_size
    body, foot = data[: -8 - size], data[-8 - size : -8]
    foot = foot.replace(bytes([_I64, *_varint(2 * 70_001)]), bytes([_I64, *_varint(2 * 1_000_000_000)]))
    return body + foot + len(foot).to_bytes(4, "little") + b"PAR1"


_I64 = 0x16  # Thrift compact: the next field, a 64-bit number


def _varint(n: int) -> list[int]:
    out = []
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return [*out, n]


def _understated(data: bytes) -> bytes:
    """The footer's unpacked sizes, wherever a large one stands, told as small ones of the same length in bytes."""
    metadata = pq.read_metadata(io.BytesIO(data))
    group = metadata.row_group(0)
    sizes = {group.total_byte_size} | {group.column(c).total_uncompressed_size for c in range(group.num_columns)}
    head, foot = data[: -8 - metadata.serialized_size], data[-8 - metadata.serialized_size :]
    for size in sorted(s for s in sizes if s > 1_000_000):
        true = bytes(_varint(2 * size))
        small = bytes([0x82, *[0x80] * (len(true) - 2), 0])  # 1, in as many bytes
        foot = foot.replace(true, small)
    return head + foot


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "bytes": _bytes, "schema": _schema, "values": _values, "bomb": _bomb,
}  # fmt: skip
_TURNS = ["bytes"] * 8 + ["schema"] * 5 + ["values"] * 6 + ["bomb"]


def write(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`count` hostile logs, always the same ones for a seed."""
    good = [p.read_bytes() for p in log_files(SEED)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        draw = Random(f"{seed} {i}")
        kind = _TURNS[i % len(_TURNS)]
        path = folder / f"{i:05d}-{kind}.parquet"
        path.write_bytes(KINDS[kind](draw.choice(good), draw))
        paths.append(path)
    return paths


def odd_places(folder: Path) -> list[Path]:
    """Names that are no files: folders, links to devices, to nothing and to themselves, pipes."""
    folder.mkdir(parents=True, exist_ok=True)
    links = {"device": "/dev/zero", "secret": "/etc/passwd", "nowhere": "nowhere", "loop": "loop.parquet"}
    for name, target in links.items():
        (folder / f"{name}.parquet").symlink_to(target)
    (folder / "folder.parquet").mkdir()
    os.mkfifo(folder / "pipe.parquet")
    return sorted(folder.iterdir())


def main() -> None:
    """Judge a folder of hostile logs beside the seed, as files or, with a hub's URL, as pull requests; memory in bytes.

    Prints what passed, whether the seed stayed readable throughout, and the most memory this process took.
    """
    hostile = sorted(Path(sys.argv[1]).glob("*.parquet"))
    judge = _as_pull_requests(sys.argv[2]) if len(sys.argv) > 2 else _as_files
    passed, seed_ok = [], True
    for start in range(0, len(hostile), 100):
        part = hostile[start : start + 100]
        beside, readable = judge(part)
        passed += beside
        seed_ok &= readable
        alone = check_files(part).reports  # without the originals that they would be duplicates of
        passed += [r.path for r in alone if r.ok]
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent before exec
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"passed": sorted(set(passed)), "seed_ok": seed_ok, "peak": peak}))


def _as_files(part: list[Path]) -> tuple[list[str], bool]:
    """Which pass, and whether the seed beside them does."""
    seed = log_files(SEED)
    reports = check_files([*seed, *part]).reports
    return [r.path for r in reports[len(seed) :] if r.ok], all(r.ok for r in reports[: len(seed)])


def _as_pull_requests(url: str) -> Callable[[list[Path]], tuple[list[str], bool]]:
    """The same for files that the seed's own contributor sends to a data set with the seed, on a hub at `url`."""
    from huggingface_hub import CommitOperationAdd, HfApi

    from leaderboard.logs.hub import read_dataset
    from zoo.publish.log_dataset import init
    from zoo.review.check import check_pull_request

    owner, author = (HfApi(endpoint=url, token=token) for token in HUB_USERS.values())
    init(owner, HUB_LOGS, seed=True)

    def judge(part: list[Path]) -> tuple[list[str], bool]:
        sent: dict[str, Path] = {}
        for path in part:
            own, other = f"runs/p2lab/{_run_id(path)}.parquet", f"runs/p2lab/{path.stem.split('-')[0]:0>16}.parquet"
            sent[other if own in sent else own] = path
        done = author.create_commit(
            HUB_LOGS,
            [CommitOperationAdd(name, path) for name, path in sent.items()],
            commit_message="logs",
            repo_type="dataset",
            create_pr=True,
        )
        verdict = check_pull_request(owner, HUB_LOGS, int(done.pr_num or 0), comment=True, merge_if_clean=True)
        runs = read_dataset(HUB_LOGS, api=owner).frame["run_id"].nunique()
        return [str(sent[r.path]) for r in verdict.reports if r.ok], runs == 37 and verdict.merged is None

    return judge


def _run_id(path: Path) -> str:
    """The run_id that a log claims, where it claims one that can be a file name; else another."""
    try:
        told = pq.read_table(path, columns=["run_id"]).slice(0, 1).to_pylist()[0]["run_id"]
    except Exception:
        told = None
    return told if isinstance(told, str) and re.fullmatch("[0-9a-f]{16}", told) else "f" * 16


HUB_USERS = {"owner": "hf_owner_token", "p2lab": "hf_p2lab_token"}
HUB_LOGS = "owner/logs"

if __name__ == "__main__":
    main()
