"""A forecast of a run's rows so far, and an import of 100,000 rows: CPU seconds, the median of five after a warm-up."""

import json
import tempfile
from pathlib import Path

import numpy as np

from leaderboard import forecast, load_logs
from leaderboard.importing import import_log, read_runs, write_imported
from tests.bench.bench_engine import clock, row

ROWS = 100_000
FACTS = {
    "tokens_per_step": 65_536, "n0": 1_240_000_000, "n_pruned": 930_000_000, "method": "depth", "eval_data": "wikitext",
}  # fmt: skip


def main() -> None:
    """Print the table."""
    print("| what | CPU seconds | target |\n|---|---|---|")
    frame = load_logs().frame
    own = frame[frame["run_id"] == frame["run_id"].iloc[0]].iloc[:12]
    taken = clock(lambda: forecast(frame, own).interval(1e7))
    row("a forecast over the bundled runs", f"{taken:.2f}", "0.5")
    with tempfile.TemporaryDirectory() as folder:
        taken = clock(lambda: _import(trainer_state(Path(folder)), Path(folder) / "log.parquet"))
    row(f"an import of a trainer_state.json with {ROWS:,} evaluations, checked and written", f"{taken:.2f}", "2")


def trainer_state(folder: Path) -> Path:
    """A trainer_state.json with as many evaluations, written once."""
    path = folder / "trainer_state.json"
    if not path.is_file():
        noise = np.random.default_rng(0).normal(0, 0.01, ROWS)
        steps = np.arange(1, ROWS + 1) * 10
        losses = 2.5 + 0.5 * (steps / 10) ** -0.3 + noise
        history = [{"step": int(s), "eval_loss": float(v)} for s, v in zip(steps, losses, strict=True)]
        path.write_text(json.dumps({"log_history": history, "global_step": int(steps[-1])}))
    return path


def _import(path: Path, out: Path) -> None:
    (run,) = read_runs(path)
    write_imported(out, import_log(run, **FACTS))


if __name__ == "__main__":
    main()
