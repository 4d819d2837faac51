"""`python -m tests.bench.gpu`: every speed and memory target on one GPU, in eight minutes, with random weights.

Prints a table with hardware and versions, and writes the same as JSON after every row, so nothing measured is
lost. A row that fails or runs out of memory says so and the others go on; a row that would begin after
`--minutes` is left out and says so. `--toy` runs the very same code at toy size, on a CPU too; its figures mean
nothing.
"""

import argparse
import datetime
import json
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

import torch

from leaderboard.errors import P2Error, unknown_name
from tests.bench.gpu_rows import REAL, ROWS, TINY, Bench, Row
from zoo.progress import quiet
from zoo.recipe.catalog import recipes_folder
from zoo.run.record import hardware, software
from zoo.training.autotune import out_of_memory, release

TOKENIZER = recipes_folder() / "quickstart" / "tiny-llama-3"  # only handed through; the tokens are random


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("rows", nargs="*", help="names of rows; none: all")
    parser.add_argument("--toy", action="store_true", help="toy sizes, for trying the code")
    parser.add_argument("--full", action="store_true", help="SparseGPT on all blocks")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins after this long")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.json"))
    chosen = parser.parse_args(words)
    known = {row.name: row for row in ROWS}
    for name in chosen.rows:
        if name not in known:
            print(unknown_name("row", name, known, "bench-gpu"), file=sys.stderr)
            return 2
    if not chosen.toy and not torch.cuda.is_available():
        print("bench-gpu: not run: PyTorch sees no GPU here. --toy tries the code at toy size on the CPU.")
        return 0
    quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(TINY if chosen.toy else REAL, device, TOKENIZER, chosen.full)
    end = time.monotonic() + (float("inf") if chosen.full else chosen.minutes * 60)
    results: list[dict] = []
    print(f"{hardware(1)}; {told(software())}{'; toy sizes: the figures mean nothing' * chosen.toy}", flush=True)
    for row in [known[name] for name in chosen.rows] or ROWS:
        results.append(run(row, bench, end, chosen.toy))
        write(chosen.out, results, chosen.toy)
        print(f"  {row.name:10} {results[-1]['told']}   [{results[-1]['took_s']:.0f} s]", flush=True)
    print("\n" + table(results))
    return 1 if any(result["status"] == "failed" for result in results) else 0


def run(row: Row, bench: Bench, end: float, toy: bool) -> dict:
    """One row as JSON-ready data, whatever happens in it."""
    about = {"name": row.name, "what": row.what, "target": row.target}
    start = time.monotonic()
    if start > end:
        return about | {"status": "not measured", "told": "not measured: the time was over", "took_s": 0.0}
    try:
        found = row.measure(bench)
        judged = None if toy or row.reached is None or found.value is None else row.reached(found)
        result = {"status": "measured", "reached": judged, **asdict(found)}
    except P2Error as error:
        missing = "unknown importance" in str(error)
        result = {"status": "not measured" if missing else "failed"}
        result["told"] = "not measured: not in this build" if missing else f"failed: {error}"
    except Exception as error:  # the other rows are worth measuring still
        full = isinstance(error, RuntimeError) and out_of_memory(error)
        told = "out of memory" if full else f"failed: {type(error).__name__}: {str(error)[:200]}"
        result = {"status": "failed", "told": told, "trace": traceback.format_exc()}
    torch.compiler.reset()  # or the blocks of all rows count together towards the compiler's limit of variants
    release()
    return about | result | {"took_s": time.monotonic() - start}


def write(path: Path, results: list[dict], toy: bool) -> None:
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    data = {"hardware": hardware(1), "software": software(), "made": made, "toy": toy, "rows": results}
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def table(results: list[dict]) -> str:
    """Markdown, as it goes into the README."""
    verdict = {True: "reached", False: "**not reached**", None: ""}
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    rows = [f"| {r['what']} | {r['told']} | {r['target']} | {verdict[r.get('reached')]} |" for r in results]
    return "\n".join([*lines, *rows])


def told(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl") if name in versions)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
