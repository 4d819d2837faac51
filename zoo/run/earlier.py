"""What earlier logs say of this base on this text: the same base, text and protocol have the same l0.

Read are the logs of the runs beside this one and the bundled ones, their first row alone.
"""

from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.logs.load import BUNDLED, SEED
from leaderboard.ranking.neighbours import SAME_L0
from zoo.run.job import Inputs, Job

MOST = 500  # runs beside this one that are looked at


def what_defines_l0(job: Job, inputs: Inputs) -> dict[str, Any]:
    """Columns of the log that must be alike."""
    recipe, pinned = job.recipe, job.folder.state["inputs"]
    return {
        "base_model": inputs.source.label,
        "base_revision": pinned["model"],
        "eval_data": f"{recipe.data.heldout.label}@{pinned['heldout'][:12]}",
        "eval_tokens": inputs.materials.heldout.tokens,
        "seq_len": recipe.train.seq_len,
        "packing": recipe.train.packing,
    }


def doubt(run: Path, alike: dict[str, Any], l0: float) -> str | None:
    """In words, that earlier logs beside folder `run` have another l0; None where they agree, or there are none."""
    known = earlier_l0(run, alike)
    if not known or abs(l0 - (usual := median(known.values()))) <= SAME_L0:
        return None
    return (
        f"l0 is {l0:.4f}, where {len(known)} earlier logs of this base, text and protocol have {usual:.4f} (such as "
        f"{next(iter(known))}): is the software another, or were its files changed?"
    )


def earlier_l0(run: Path, alike: dict[str, Any]) -> dict[str, float]:
    """The l0 of logs that are `alike`, by their files; those of the run itself and unreadable ones left out."""
    beside = sorted(path for path in run.parent.glob("*/log.parquet") if path.parent != run)[:MOST]
    files = [
        *beside,
        *(file for folder in (SEED, *BUNDLED.values()) for file in sorted(Path(folder).rglob("*.parquet"))),
    ]
    found = {}
    for file in files:
        try:
            row = pq.read_table(file, columns=[*alike, "l0"]).slice(0, 1).to_pylist()[0]
        except (OSError, ValueError, KeyError, IndexError, pa.ArrowException):
            continue
        if row["l0"] is not None and all(row[name] == value for name, value in alike.items()):
            found[str(file)] = float(row["l0"])
    return found
