"""`import_log`: another program's log as a checked frame of the contract, provenance `imported`, and what was noticed.

Facts that nobody gave stay null; the row at 0 tokens stands only where the loss after pruning is known. What is
returned has passed the check that every log must pass.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from leaderboard.errors import P2Error
from leaderboard.importing.curve import Curve, beside, curve_of
from leaderboard.importing.facts import CONTROL, Facts, facts_of
from leaderboard.importing.models import Model, read_model
from leaderboard.importing.readers import read_runs
from leaderboard.importing.recorded import Recorded
from leaderboard.importing.traps import Note, mended, signs
from leaderboard.laws.law import Array
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import BY_NAME, COLUMNS, IMPORTED, SCHEMA_VERSION, run_id, schema, write_log
from leaderboard.logs.findings import ERROR, printable

ROUNDED = 0.005  # nats: how far a given l_pruned may be from the file's own row at 0 tokens


@dataclass(frozen=True)
class Imported:
    """A checked log: `frame` as load_logs gives it, `table` as it is written, `notes` in the order of the traps."""

    frame: pd.DataFrame
    table: pa.Table
    notes: tuple[Note, ...]
    run: str  # its name in the file


def import_log(
    source: str | os.PathLike[str] | bytes | Recorded,
    name: str = "",
    *,
    run: str | None = None,
    columns: Mapping[str, str] | None = None,
    **facts: Any,
) -> Imported:
    """Read one run of a log by other programs.

    `source` is a path, the bytes of a file (`name` is what messages call it) or a run of `read_runs`; `run` picks one
    of several. `columns` names the file's columns by role: step, tokens, epoch, loss, train_loss, lr. `facts` are
    those of `Facts`. Raises P2Error where a fact is missing, the file is no log, or the log would not pass the check.
    """
    recorded = source if isinstance(source, Recorded) else pick(read_runs(source, name), run)
    given = facts_of(facts)
    curve, notes = mended(recorded, given, curve_of(recorded, given, columns or {}))
    _require(given, recorded)
    given, told = _with_models(given)
    given, zero = _pruned_loss(given, curve, recorded)
    notes += zero + signs(recorded, given, curve) + told
    table = _table(_run_columns(given), _rows(given, curve, beside(recorded, columns or {}, curve)))
    return Imported(_checked(table, recorded.name), table, tuple(notes), recorded.name)


def write_imported(path: str | os.PathLike[str], imported: Imported) -> Path:
    """Write the log, whole or not at all."""
    return write_log(path, imported.table)


def pick(runs: list[Recorded], run: str | None) -> Recorded:
    """The run of that name, or the only one."""
    names = {r.name: r for r in runs}
    if run is None and len(runs) == 1:
        return runs[0]
    listed = ", ".join(printable(n)[:60] for n in list(names)[:10]) + (" ..." if len(names) > 10 else "")
    if run is None:
        raise P2Error(f"import: {len(runs)} runs are in this file: {listed}. Name one by --run.")
    if run not in names:
        raise P2Error(f"import: no run {printable(run)!r} in this file; there are {listed}.")
    return names[run]


def _require(facts: Facts, run: Recorded) -> None:
    """Every missing fact at once."""
    needed: dict[str, Any] = {"method": facts.method, "eval_data": facts.eval_data, "base": facts.base or facts.n0}
    if facts.method != CONTROL:
        needed["pruned"] = facts.pruned or facts.n_pruned or facts.rate
    words = {
        "method": "--method (depth, width, 2:4, unstructured, or its own name; none for a control)",
        "eval_data": "--eval-data (a name for the held-out text the losses are on)",
        "base": "--base (folder or Hub id of the model before pruning) or --n0",
        "pruned": "--pruned (folder or Hub id of the pruned model), --n-pruned or --rate",
    }
    if missing := [words[name] for name, value in needed.items() if value is None]:
        raise P2Error(f"{run.name}: the log does not say, and nothing here is guessed: {'; '.join(missing)}.")


def _with_models(facts: Facts) -> tuple[Facts, list[Note]]:
    """Counts, rate, family and vocabulary from the two models, where they were not said."""
    base = read_model(facts.base) if facts.base and facts.n0 is None else None
    if base is not None:
        facts = replace(
            facts, n0=base.n, base=base.label, family=facts.family or base.family,
            n0_nonembedding=facts.n0_nonembedding or base.n_nonembedding, vocab_size=facts.vocab_size or base.vocab,
        )  # fmt: skip
    pruned = read_model(facts.pruned) if facts.pruned and facts.n_pruned is None else None
    n0, n_pruned = facts.n0 or 0, _kept(facts, pruned)
    facts = replace(facts, n_pruned=n_pruned)
    outside, kept = facts.n0_nonembedding, pruned.n_nonembedding if pruned else None
    if facts.rate_nonembedding is None and outside and kept and n_pruned != n0:
        facts = replace(facts, rate_nonembedding=1 - kept / outside)
    if not 0 < n_pruned <= n0:
        raise P2Error(f"import: the pruned model keeps {n_pruned:,} of {n0:,} parameters; are they swapped?")
    if n_pruned == n0 and facts.method != CONTROL:
        raise P2Error(
            f"import: base and pruned model both have {n0:,} parameters. Where weights are zeroed and the shapes "
            "stay, give the share that is zero by --rate; a control is --method none."
        )
    notes = [] if base is None or base.family else [Note("family", "The family is not known; --family names it.")]
    return facts, notes


def _kept(facts: Facts, pruned: Model | None) -> int:
    """Parameters kept: as said, by the share that is removed, or those of the pruned model."""
    n0 = facts.n0 or 0
    if facts.method == CONTROL:
        return n0
    if facts.n_pruned is not None:
        return facts.n_pruned
    if facts.rate is not None:
        return round(n0 * (1 - facts.rate))
    assert pruned is not None
    return pruned.n


def _pruned_loss(facts: Facts, curve: Curve, run: Recorded) -> tuple[Facts, list[Note]]:
    """l_pruned is the loss at 0 tokens: of the file where it has that row."""
    if facts.unit == "ppl" and facts.l0 is not None and facts.l0 > curve.loss.max():
        raise P2Error(
            f"import: --l0 {facts.l0:g} lies above the whole curve. Losses given as options are nats a token, whatever "
            f"the unit of the file; the logarithm of {facts.l0:g} is {np.log(facts.l0):.4f}."
        )
    if round(curve.tokens[0]) != 0:
        return facts, []
    own = float(curve.loss[0])
    if facts.l_pruned is not None and abs(facts.l_pruned - own) > ROUNDED:
        raise P2Error(
            f"{run.name}: at 0 tokens the file says {own:.4f}, --l-pruned {facts.l_pruned:.4f}. One evaluation "
            "function must give l_pruned and the curve; leave --l-pruned out where the file is right."
        )
    return replace(facts, l_pruned=own), [Note("zero_row", f"l_pruned is the file's own loss at 0 tokens, {own:.4f}.")]


def _run_columns(facts: Facts) -> dict[str, Any]:
    n0, n_pruned = facts.n0 or 0, facts.n_pruned or 0
    own = facts.columns() | {
        "schema_version": SCHEMA_VERSION,
        "provenance": IMPORTED,
        "contributor": facts.contributor or "anonymous",
        "base_model": facts.base,
        "rate": 1 - n_pruned / n0,
        "batch_tokens": facts.batch_tokens or facts.tokens_per_step,
        "created_at": datetime.now(UTC),
    }
    if facts.method == CONTROL:
        own |= {"importance": CONTROL, "rate_nonembedding": 0.0}
    return {c.name: own.get(c.name) for c in COLUMNS if not c.curve}


def _rows(facts: Facts, curve: Curve, more: Mapping[str, Array]) -> dict[str, Array]:
    """The columns of the curve, shape (n,) each; a row at 0 tokens in front where l_pruned was given."""
    rows = {"tokens": np.round(curve.tokens), "loss": curve.loss, **more}
    if facts.l_pruned is not None and rows["tokens"][0] > 0:
        first = {"tokens": 0.0, "loss": facts.l_pruned}
        rows = {name: np.concatenate([[first.get(name, np.nan)], values]) for name, values in rows.items()}
    return rows


def _table(run: dict[str, Any], rows: Mapping[str, Array]) -> pa.Table:
    """The log as a table; run-level values are repeated, not copied."""
    n = len(rows["tokens"])
    digest = hashlib.sha256(b"".join(rows[name].astype("<f8").tobytes() for name in ("tokens", "loss")))
    run = {**run, "import_sha256": digest.hexdigest()}
    run["run_id"] = run_id(run)
    columns = []
    for field in schema(IMPORTED):
        if BY_NAME[field.name].curve:
            values = rows.get(field.name, np.full(n, np.nan))
            finite = np.isfinite(values)
            columns.append(pa.array(np.where(finite, values, 0), mask=~finite).cast(field.type))
        else:
            columns.append(pa.repeat(pa.scalar(run[field.name], field.type), n))
    return pa.Table.from_arrays(columns, schema=schema(IMPORTED))


def _checked(table: pa.Table, name: str) -> pd.DataFrame:
    """The frame that load_logs would give. Raises P2Error with the findings of a log that does not pass."""
    with tempfile.TemporaryDirectory(prefix="p2zoo-") as folder:
        checked = check_files([write_log(Path(folder) / "log.parquet", table)], [name], own=True)
    (report,) = checked.reports
    if not report.ok:
        found = "; ".join(str(f) for f in report.findings if f.severity == ERROR)
        raise P2Error(f"{name}: the log would not pass the check: {found}")
    return checked.frame.drop(columns="file")
