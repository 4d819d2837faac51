"""How fast the embedded Hub serves a log dataset: `python tests/bench/bench_hub.py [FILES]`.

A folder of run files (1,000 by default, 20 kB each) is uploaded in one commit, then downloaded by a client process
with `snapshot_download`: cold with an empty cache, warm with a full one. Seconds of wall clock, import not counted.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zoo.devhub import client_env, serve

FILE_BYTES = 20_000
TOKEN = "hf_bench"
CLIENT = """
import json, sys, time
from huggingface_hub import HfApi, snapshot_download

def seconds(work):
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 3)

folder, cache = sys.argv[1:]
options = {"repo_id": "owner/logs", "repo_type": "dataset"}
HfApi().create_repo(**options)
read = lambda: snapshot_download(**options, cache_dir=cache)
print(json.dumps({
    "upload_s": seconds(lambda: HfApi().upload_folder(folder_path=folder, **options)),
    "cold_s": seconds(read),
    "warm_s": seconds(read),
}))
"""


def measure(files: int, folder: Path) -> dict[str, float]:
    """Seconds to upload, to read cold and to read warm."""
    logs = folder / "logs"
    for index in range(files):
        path = logs / "runs" / f"user{index % 16}" / f"{index:016x}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))
    with serve(folder / "hub", {"owner": TOKEN}) as url:
        env = os.environ | client_env(url, TOKEN) | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-c", CLIENT, str(logs), str(folder / "cache")]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(files, Path(folder))
    print(json.dumps({"files": files, **figures, "total_s": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
