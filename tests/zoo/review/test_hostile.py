"""Hostile logs: none is accepted that breaks the contract, none stops the reader, and memory stays under 1 GB.

The fast suite takes 300 of them as files and 20 as pull requests on a real Hub, the slow one 2,000 as pull requests.
"""

import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leaderboard.logs.check import MAX_ROWS, MAX_UNPACKED, check_files, log_files
from leaderboard.logs.contract import COLUMNS, VOLATILE, run_id
from leaderboard.logs.hub import read_dataset
from leaderboard.logs.load import SEED, load_logs
from leaderboard.logs.rules.texts import longest
from tests.zoo.review import hostile
from zoo.devhub import serve

ROOT = Path(__file__).parents[3]
DATASET = "owner/logs"
GIGABYTE = 1_000_000_000


def breach(path: Path) -> str | None:
    """What of the contract a file breaks, judged row by row and apart from the check's own code; None for nothing."""
    rows = pq.read_table(path).to_pylist()
    later = {c.name for c in COLUMNS if c.later}  # logs from before they came have none
    if set(rows[0]) | later != {c.name for c in COLUMNS} or len(rows) > MAX_ROWS:
        return "columns"
    rows = [dict.fromkeys(later) | row for row in rows]
    for row, before in zip(rows, [{"tokens": -1}, *rows], strict=False):
        for c in COLUMNS:
            if said := _value_breach(c, row[c.name]):
                return f"{c.name}: {said}"
            if not c.curve and c.name not in VOLATILE and row[c.name] != rows[0][c.name]:
                return f"{c.name} varies"
        if row["tokens"] <= before["tokens"]:
            return "tokens do not rise"
        if row["run_id"] != run_id(row):
            return "run_id"
    return None if rows[0]["tokens"] == 0 else "no zero row"


def _value_breach(column, value) -> str | None:
    if value is None:
        return None if column.nullable else "null"
    kinds = {"int": int, "float": float, "text": str, "time": datetime}
    if type(value) is not kinds[column.kind]:
        return f"is a {type(value).__name__}"
    if column.kind == "text":
        return None if 0 < len(value) <= longest(column.name) and value.isprintable() else "text"
    if column.kind == "time":
        return None if 2020 <= value.astimezone(UTC).year <= 2100 else "time"
    if not math.isfinite(value):
        return "not finite"
    low, high = (-math.inf if column.low is None else column.low), (math.inf if column.high is None else column.high)
    return None if low <= value <= high else "out of range"


def judge(folder: Path, *hub_url: str) -> dict:
    """The verdict on a folder, from a process of its own whose memory is counted."""
    command = [sys.executable, "-m", "tests.zoo.review.hostile", str(folder), *hub_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=True)
    return json.loads(done.stdout)


def stand(folder: Path, *hub_url: str) -> None:
    verdict = judge(folder, *hub_url)
    assert verdict["seed_ok"]
    assert verdict["peak"] < GIGABYTE
    assert {p: why for p in verdict["passed"] if (why := breach(Path(p)))} == {}
    assert len(verdict["passed"]) < 0.2 * len(list(folder.iterdir()))


def test_300_hostile_logs(tmp_path):
    hostile.write(tmp_path, 300)
    stand(tmp_path)


@pytest.mark.slow
def test_2000_hostile_logs_as_pull_requests(tmp_path):
    """A hundred in each; all are judged, commented and none merged, and the seed is read between them."""
    hostile.write(tmp_path / "logs", 2_000, seed=1)
    with serve(tmp_path / "hub", hostile.HUB_USERS) as url:
        stand(tmp_path / "logs", url)


def test_the_oracle_sees_what_is_wrong(tmp_path):
    """It passes the seed and finds fault with a log in which one number is impossible."""
    assert [breach(p) for p in log_files(SEED)] == [None] * 37
    table = pq.read_table(log_files(SEED)[0])
    wrong = table.set_column(table.schema.names.index("loss"), "loss", pa.array([math.inf] * table.num_rows))
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    assert breach(tmp_path / "wrong.parquet") == "loss: not finite"


def test_a_bomb_is_refused_by_what_it_would_unpack_to_and_not_by_what_its_footer_says(tmp_path):
    path = tmp_path / "bomb.parquet"
    path.write_bytes(hostile._made(1, "hardware"))
    metadata = pq.read_metadata(path)
    assert path.stat().st_size < 50_000
    assert sum(metadata.row_group(0).column(c).total_uncompressed_size for c in range(47)) < 100_000
    (finding,) = check_files([path]).reports[0].findings
    assert finding.code == "too_large"
    assert int(finding.got.split()[0].replace(",", "")) > MAX_UNPACKED


def test_repeating_strings_and_a_billion_rows_are_refused_unread(tmp_path):
    for how, code in ((0, "row_count"), (2, "unreadable"), (3, "too_large"), (4, "too_large")):
        path = tmp_path / f"{how}.parquet"
        path.write_bytes(hostile._made(how, "hardware"))
        assert [f.code for f in check_files([path]).reports[0].findings] == [code]


def test_names_that_are_no_files_neither_block_nor_stop_the_reader(tmp_path):
    good = log_files(SEED)[0]
    reports = check_files([good, *hostile.odd_places(tmp_path)]).reports
    assert reports[0].ok
    assert {(len(r.findings), r.findings[0].code) for r in reports[1:]} == {(1, "unreadable")}


def test_hostile_pull_requests_change_nothing(owner, ann, log, send, check, tmp_path):
    """Each is checked, commented and, were it clean, merged: main stays as it was."""
    path, data = log()
    assert check(send(ann, {path: data}), merge_if_clean=True).merged
    for i, file in enumerate(hostile.write(tmp_path / "hostile", 20, seed=2)):
        name = f"runs/ann/{i:016x}.parquet"
        verdict = check(send(ann, {name: file.read_bytes()}), comment=True, merge_if_clean=True)
        assert not verdict.ok
    logs = read_dataset(DATASET, api=owner)
    assert logs.frame["run_id"].nunique() == 1
    assert logs.quarantined == ()
    assert load_logs().frame["run_id"].nunique() == 37
