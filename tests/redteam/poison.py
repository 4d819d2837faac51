"""Sets of sound-looking run logs that somebody sends to move the answers of others: mutations of the bundled runs.

`sets(count, seed)`, always the same ones for a seed. Each is what one contributor sends: one log, or several. Of a log
its contract holds, run_id and all; what is bent is what it says. Losses are nats per token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.logs.check import log_files
from leaderboard.logs.contract import COLUMNS, build_table
from leaderboard.logs.load import SEED

WHO = "mallory"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Poison:
    """What is sent at once, by its kind and number."""

    name: str
    tables: tuple[pa.Table, ...]


@cache
def _seed() -> list[Rows]:
    """The bundled runs in which something was pruned, as rows."""
    runs = [pq.read_table(path).to_pylist() for path in log_files(SEED)]
    return [rows for rows in runs if rows[0]["method"] != "none"]


def _log(rows: Rows, seed: int, **run: Any) -> pa.Table:
    """The rows as another run of WHO: `run` sets what all rows have, run_id follows."""
    head = {c.name: rows[0].get(c.name) for c in COLUMNS if not c.curve and c.name not in ("run_id", "schema_version")}
    head |= {"contributor": WHO, "seed": seed, "model_repo": None, "model_revision": None} | run
    return build_table(head, [{c.name: row.get(c.name) for c in COLUMNS if c.curve} for row in rows])


def _bent(rows: Rows, bend: Callable[[float, dict[str, Any]], float]) -> Rows:
    """The rows with other losses after the first; `bend` gets how far the run is, 0 to 1, and the row."""
    last = rows[-1]["tokens"]
    return [row | ({"loss": bend(row["tokens"] / last, row)} if row["tokens"] else {}) for row in rows]


def _run(draw: Random) -> Rows:
    return draw.choice(_seed())


def _noisy(rows: Rows, draw: Random, by: float = 0.004) -> Rows:
    """Losses as another seed would have them."""
    level, dice = draw.gauss(0, by), np.random.default_rng(draw.randrange(2**32))
    return _bent(rows, lambda _, row: row["loss"] + level + float(dice.normal(0, by / 4)))


def _shifted(draw: Random) -> list[pa.Table]:
    """All losses too high or too low."""
    by = draw.choice([-1, 1]) * draw.choice([0.01, 0.02, 0.03, 0.05, 0.1, 0.3])
    return [_log(_noisy(_bent(_run(draw), lambda _, row: row["loss"] + by), draw), 900)]


def _tilted(draw: Random) -> list[pa.Table]:
    """A curve that falls faster or slower towards its end."""
    by = draw.choice([-1, 1]) * draw.choice([0.01, 0.02, 0.04, 0.08, 0.2])
    return [_log(_noisy(_bent(_run(draw), lambda far, row: row["loss"] + by * far), draw), 901)]


def _flat(draw: Random) -> list[pa.Table]:
    """Training that stops to help, or that never did."""
    rows, at = _run(draw), draw.choice([0.02, 0.1, 0.5])
    held = next(row["loss"] for row in rows if row["tokens"] >= at * rows[-1]["tokens"])
    return [_log(_noisy(_bent(rows, lambda far, row: max(row["loss"], held) if far > at else row["loss"]), draw), 902)]


def _rate(draw: Random) -> list[pa.Table]:
    """Another share of parameters removed than the curve is of."""
    rows, rate = _run(draw), draw.choice([0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9, 0.99, 0.9995])
    kept = max(1, round(rows[0]["n0"] * (1 - rate)))
    return [_log(_noisy(rows, draw), 903, n_pruned=kept, rate=1 - kept / rows[0]["n0"], rate_requested=rate)]


def _size(draw: Random) -> list[pa.Table]:
    """Another size than the curve is of."""
    rows, times = _run(draw), draw.choice([0.01, 0.3, 0.7, 1.5, 3.0, 30.0, 1000.0])
    n0, kept = (round(rows[0][name] * times) for name in ("n0", "n_pruned"))
    return [_log(_noisy(rows, draw), 904, n0=n0, n_pruned=kept, rate=1 - kept / n0, base_model=f"{WHO}/base-{n0}")]


def _tokens(draw: Random) -> list[pa.Table]:
    """Tokens counted in another unit."""
    times = draw.choice([0.001, 0.1, 0.5, 2, 8, 512])
    rows = [row | {"tokens": round(row["tokens"] * times)} for row in _noisy(_run(draw), draw)]
    return [_log(_rising(rows), 905)]


def _rising(rows: Rows) -> Rows:
    """Without rows that are no longer later than the one before."""
    kept = rows[:1]
    for row in rows[1:]:
        kept += [row] if row["tokens"] > kept[-1]["tokens"] else []
    return kept


def _damage(draw: Random) -> list[pa.Table]:
    """Another loss before or right after pruning."""
    rows, name = _run(draw), draw.choice(["l0", "l_pruned"])
    value = rows[0][name] + draw.choice([-1.0, -0.3, -0.05, 0.05, 0.3, 1.0])
    first = {"loss": value} if name == "l_pruned" else {}
    return [_log([rows[0] | first, *_noisy(rows, draw)[1:]], 906, **{name: value})]


def _family(draw: Random) -> list[pa.Table]:
    """A family of its own, which lends its rows to others, with a curve that climbs, stays or falls too far."""
    by = draw.choice([-0.5, -0.1, 0.1, 0.5])
    rows = _bent(_run(draw), lambda far, row: row["loss"] + by * far)
    return [_log(rows, 907, family=f"new-{draw.randrange(9)}", base_model=f"{WHO}/other")]


def _many_rows(draw: Random) -> list[pa.Table]:
    """A curve of thousands of rows, slightly off."""
    rows, by = _run(draw), draw.choice([-0.05, -0.02, 0.02, 0.05])
    tokens, loss = (np.array([row[name] for row in rows[1:]], dtype=float) for name in ("tokens", "loss"))
    batch = rows[0]["batch_tokens"]
    at = np.unique((np.geomspace(tokens[0], tokens[-1], draw.choice([400, 3_000])) / batch).round().astype(int)) * batch
    dense = np.interp(np.log(at), np.log(tokens), loss) + by
    fill = [rows[-1] | {"tokens": int(t), "loss": float(v)} for t, v in zip(at, dense, strict=True)]
    return [_log([rows[0], *fill], 908)]


def _copies(draw: Random) -> list[pa.Table]:
    """The same runs again under other seeds, with a little noise or none."""
    by = draw.choice([0.0, 1e-5, 0.002, 0.004])
    picked = draw.sample(_seed(), draw.choice([3, 8, 12]))
    return [_log(_noisy(rows, draw, by), 920 + i) for i, rows in enumerate(picked)]


def _crowd(draw: Random) -> list[pa.Table]:
    """Many runs of one hand that agree with each other, and not with the rest."""
    by, tilt = draw.choice([-0.05, -0.02, 0.02, 0.05]), draw.choice([-0.03, 0.0, 0.03])
    one = _run(draw)[0]
    alike = [rows for rows in _seed() if rows[0]["method"] == one["method"]]
    picked = draw.sample(alike, min(len(alike), draw.choice([4, 8, 12])))
    return [
        _log(_noisy(_bent(rows, lambda far, row: row["loss"] + by + tilt * far), draw, 0.003), 950 + i)
        for i, rows in enumerate(picked)
    ]


KINDS = {
    "shifted": _shifted, "tilted": _tilted, "flat": _flat, "rate": _rate, "size": _size, "tokens": _tokens,
    "damage": _damage, "family": _family, "many rows": _many_rows, "copies": _copies, "crowd": _crowd,
}  # fmt: skip


def sets(count: int, seed: int = 0) -> Iterator[Poison]:
    """`count` sets, the kinds in turn."""
    names = list(KINDS)
    for i in range(count):
        name = names[i % len(names)]
        yield Poison(f"{name} {i // len(names)}", tuple(KINDS[name](Random(f"{seed} {i}"))))
