"""How fast a log dataset is read: `python -m tests.bench.bench_remote [RUNS]`.

A dataset of run logs (1,000 by default) on the embedded Hub, read by a client process: cold with empty caches, which
downloads and judges every file, warm with full ones. Seconds of wall clock and of the client's processor, import not
counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # before the Hub's client is imported
from huggingface_hub import HfApi

from leaderboard.logs.check import log_files
from leaderboard.logs.contract import run_id, schema, write_log
from leaderboard.logs.load import SEED
from zoo.devhub import client_env, serve

TOKEN = "hf_bench"
CLIENT = """
import json, time
import pandas
from huggingface_hub import HfApi
from leaderboard.logs.hub import read_dataset

def seconds():
    wall, processor = time.perf_counter(), time.process_time()
    runs = read_dataset("owner/logs").frame["run_id"].nunique()
    return runs, round(time.perf_counter() - wall, 3), round(time.process_time() - processor, 3)

(runs, cold, cold_cpu), (_, warm, warm_cpu) = seconds(), seconds()
print(json.dumps({"runs": runs, "cold_s": cold, "cold_cpu_s": cold_cpu, "warm_s": warm, "warm_cpu_s": warm_cpu}))
"""


def write_runs(folder: Path, runs: int) -> None:
    """Logs of the seed under other seeds, their losses a little apart."""
    good = [pq.read_table(path).to_pylist() for path in log_files(SEED)]
    for i in range(runs):
        rows = [dict(row) for row in good[i % len(good)]]
        for row in rows:
            row |= {"seed": i, "contributor": f"user{i % 16}", "loss": row["loss"] + 1e-6 * i * (row["tokens"] > 0)}
        key = run_id(rows[0])
        table = pa.Table.from_pylist([row | {"run_id": key} for row in rows], schema=schema())
        write_log(folder / "runs" / f"user{i % 16}" / f"{key}.parquet", table)


def measure(runs: int, folder: Path) -> dict[str, float]:
    """The client's figures."""
    write_runs(folder / "logs", runs)
    with serve(folder / "hub", {"owner": TOKEN}) as url:
        api = HfApi(endpoint=url, token=TOKEN)
        api.create_repo("owner/logs", repo_type="dataset")
        api.upload_folder(repo_id="owner/logs", repo_type="dataset", folder_path=folder / "logs")
        own = {"P2ZOO_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        env = os.environ | client_env(url, TOKEN) | own
        done = subprocess.run([sys.executable, "-c", CLIENT], env=env, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(runs, Path(folder))))


if __name__ == "__main__":
    main()
