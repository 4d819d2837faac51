"""50 users beside a storm of hostile uploads: `python -m tests.bench.bench_storm [--seconds 60] [--senders 8]`.

A Space over the bundled runs, in a process of its own on loopback. Each user asks for a budget one second after the
last answer; each sender posts one hostile file after another to `check_log`, from another address each time, so that no
bound on the number of files helps. Prints what the users waited for, in seconds, how the files were answered, and the
load of the machine before it began. Target: 95 % of the answers within a second.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from tests.bench.bench_space import ASK, server, users
from tests.zoo.review import hostile

FILES = 100


async def storm(url: str, files: list[str], number: int, seconds: float, answers: Counter[str]) -> None:
    """One sender: how each file was answered, by the status or the kind of the event."""
    dice, end = random.Random(number), time.perf_counter() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        while time.perf_counter() < end:
            address = ".".join(str(dice.randrange(256)) for _ in range(4))
            body = {"parquet_base64": dice.choice(files)}
            begun = await http.post("/gradio_api/call/v2/check_log", json=body, headers={"X-Forwarded-For": address})
            if begun.status_code != 200:
                answers[str(begun.status_code)] += 1
                continue
            said = await http.get(f"/gradio_api/call/check_log/{begun.json()['event_id']}")
            answers["judged" if "event: complete" in said.text else "asked to come again"] += 1


async def both(url: str, files: list[str], senders: int, seconds: float) -> tuple[list[float], int, Counter[str]]:
    """What the users waited for, how many of their answers were none, and how files were answered."""
    answers: Counter[str] = Counter()
    sending = [asyncio.create_task(storm(url, files, n, seconds, answers)) for n in range(senders)]
    taken, errors = await users(url, seconds)
    await asyncio.gather(*sending)
    return taken, errors, answers


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--senders", type=int, default=8)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, server(Path(name), P2ZOO_OFFLINE="1") as one:
        files = [base64.b64encode(path.read_bytes()).decode() for path in hostile.write(Path(name) / "hostile", FILES)]
        one.ask("budget", rate=0.25, **ASK)
        taken, errors, answers = asyncio.run(both(one.url, files, asked.senders, asked.seconds))
        died = one.http.get("/healthz").json()["reading"]["died"]
        figures = {
            "load before": round(load, 1), "answers": len(taken), "errors": errors,
            "median": round(float(np.median(taken)), 3), "p95": round(float(np.quantile(taken, 0.95)), 3),
            "files": dict(answers), "children that died": died, "resident MB": one.megabytes(),
        }  # fmt: skip
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
