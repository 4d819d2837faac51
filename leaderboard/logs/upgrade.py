"""How logs of past contract versions are read: each version's upgrade to the next, applied one after another.

A log is never rewritten, so every version ever accepted reads forever. An upgrade takes a whole table of its version,
before any check, and returns one of the next: columns renamed, added or converted, and `schema_version` raised.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

UPGRADES: dict[int, Callable[[pa.Table], pa.Table]] = {}  # version: what leads to the next one; version 1 is current


def past_version(file: pq.ParquetFile, upgrades: Mapping[int, object] = UPGRADES) -> int | None:
    """The version of a log that needs an upgrade; None where it is current, or says nothing usable."""
    if not upgrades or "schema_version" not in file.schema_arrow.names or not file.num_row_groups:
        return None
    column = file.read_row_group(0, columns=["schema_version"], use_threads=False)["schema_version"]
    version = column[0].as_py() if len(column) else None
    return version if version in upgrades else None


def upgraded(table: pa.Table, version: int) -> pa.Table:
    """The table in the current version."""
    while version in UPGRADES:
        table, version = UPGRADES[version](table), version + 1
    return table
