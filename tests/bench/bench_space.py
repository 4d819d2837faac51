"""How fast the Space is, in Chromium and over HTTP: `python tests/bench/bench_space.py [--json] [--seconds 60]`.

Three servers, one after another, each a process of its own on loopback: the bundled runs with the network off (start,
first answer, warm answers, 50 users who ask one second after their last answer); a folder that gets one more run
(renewal while they ask); 2,000 runs made by jittering the seed (pages in fresh browser contexts). Times are seconds,
medians where there are several. Outside requests are what browser and servers asked of other hosts than this one.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq

from leaderboard.logs.check import log_files
from leaderboard.logs.contract import COLUMNS, build_table, write_log
from leaderboard.logs.load import SEED
from tests.space.child import free_port, healthy, until

CONTEXTS = 10
USERS = 50
MANY = 2_000
ASK = {"family": "llama-3", "method": "depth", "n0": 34e6, "l0": 2.72, "excess": 0.05}
TARGETS = {
    "start with the network off, first /healthz": 8.0,
    "start with the network off, first budget": None,
    "budget answer, warm": 0.2,
    "50 users, p95": 1.0,
    "50 users, errors": 0,
    "renewal while serving, failed requests": 0,
    "first paint, 2,000 runs": 0.6,
    "budget form usable, 2,000 runs": 1.5,
    "rows, 2,000 runs": 2.0,
    "filter, 2,000 runs": 0.3,
    "resident memory, bundled runs, MB": 700,
    "resident memory, 2,000 runs, MB": 700,
    "outside requests": 0,
}
SERVER = """
import sys
log = open(sys.argv[1], "a", buffering=1)

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in (None, "127.0.0.1", "localhost", "::1", b"127.0.0.1", b"localhost"):
        log.write(f"{event} {host}\\n")

sys.addaudithook(watch)
from space.__main__ import main
main(sys.argv[2:])
"""


class Server:
    """A running Space: its URL, process and what it asked of others."""

    def __init__(self, url: str, outside: Path):
        self.url, self._outside = url, outside
        self.http = httpx.Client(base_url=url, timeout=600)

    def ask(self, name: str, **arguments: Any) -> float:
        """Seconds that one call takes; raises where it is refused."""
        start = time.perf_counter()
        begun = self.http.post(f"/gradio_api/call/v2/{name}", json=arguments).raise_for_status()
        answer = self.http.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}")
        if "event: complete" not in answer.text:
            raise RuntimeError(answer.text)
        return time.perf_counter() - start

    @property
    def outside(self) -> int:
        return len(self._outside.read_text().splitlines())

    def megabytes(self) -> float:
        """Resident memory of the process that listens."""
        port = self.url.rpartition(":")[2]
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if f"--port\0{port}\0" in (status.parent / "cmdline").read_text():
                    (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmRSS")]
                    return int(line.split()[1]) / 1024
            except OSError:  # ended meanwhile
                continue
        return float("nan")


@contextmanager
def server(folder: Path, *options: str, **env: str) -> Iterator[Server]:
    """A Space in a child process."""
    port, outside = free_port(), folder / f"outside-{time.monotonic_ns()}.txt"
    outside.touch()
    command = [sys.executable, "-c", SERVER, str(outside), *options, "--port", str(port), "--host", "127.0.0.1"]
    with healthy(command, port, cwd=Path.cwd(), env=os.environ | {"P2ZOO_CACHE": str(folder / "cache"), **env}) as url:
        yield Server(url, outside)


def bundled(folder: Path, seconds: float) -> dict[str, float]:
    """Start without a network, then users."""
    start = time.perf_counter()
    with server(folder, "--logs", "nobody/here", P2ZOO_OFFLINE="1") as one:
        figures = {"start with the network off, first /healthz": time.perf_counter() - start}
        one.ask("budget", rate=0.25, **ASK)
        figures["start with the network off, first budget"] = time.perf_counter() - start
        one.ask("rank")  # the rest is worked out too
        rates = [0.15 + k / 100 for k in range(20)]
        figures["budget answer, warm"] = statistics.median(one.ask("budget", rate=rate, **ASK) for rate in rates)
        taken, errors = asyncio.run(users(one.url, seconds))
        figures["50 users, p95"] = float(np.quantile(taken, 0.95))
        figures["50 users, errors"] = errors
        figures["resident memory, bundled runs, MB"] = one.megabytes()
        figures["outside requests"] = one.outside
    return figures


async def users(url: str, seconds: float) -> tuple[list[float], int]:
    """What each of 50 users waited for each answer, and how many answers were none."""
    taken: list[float] = []
    errors = 0

    async def user(number: int) -> None:
        nonlocal errors
        dice = random.Random(number)
        await asyncio.sleep(dice.random())
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            while time.perf_counter() < end:
                start = time.perf_counter()
                body = ASK | {"rate": dice.uniform(0.1, 0.4)}
                try:
                    begun = await http.post("/gradio_api/call/v2/budget", json=body)
                    answer = await http.get(f"/gradio_api/call/budget/{begun.json()['event_id']}")
                    errors += "event: complete" not in answer.text
                except (httpx.HTTPError, KeyError, ValueError):
                    errors += 1
                taken.append(time.perf_counter() - start)
                await asyncio.sleep(1)

    end = time.perf_counter() + seconds
    await asyncio.gather(*(user(number) for number in range(USERS)))
    return taken, errors


def renewed(folder: Path) -> dict[str, float]:
    """A run is added while users ask, until it is served."""
    logs = log_files(SEED)
    source = folder / "renewed"
    source.mkdir()
    for path in logs[1:]:
        shutil.copy(path, source)
    with server(folder, "--logs", str(source), "--refresh", "2") as one:
        one.ask("budget", rate=0.25, **ASK)
        shutil.copy(logs[0], source)
        failed: list[int] = []

        def served() -> bool:
            _, errors = asyncio.run(users(one.url, 2))
            failed.append(errors)
            return bool(one.http.get("/healthz").json()["runs"] == len(logs))

        until(served, 180)
        return {"renewal while serving, failed requests": sum(failed), "outside requests": one.outside}


def many_runs(folder: Path) -> Path:
    """2,000 logs: the seed's with another seed and a little noise on each loss, valid in every rule."""
    dice = np.random.default_rng(0)
    tables = [pq.read_table(path).to_pylist() for path in log_files(SEED)]
    for number in range(MANY):
        rows = tables[number % len(tables)]
        run = {c.name: rows[0][c.name] for c in COLUMNS if not c.curve} | {
            "seed": 1_000 + number,
            "contributor": "bench",
        }
        level = dice.normal(0, 0.003)
        curve = [
            {c.name: row[c.name] for c in COLUMNS if c.curve}
            | ({"loss": row["loss"] + level + dice.normal(0, 0.001)} if row["tokens"] else {})
            for row in rows
        ]
        table = build_table(run, curve)
        write_log(folder / "bench" / f"{table['run_id'][0].as_py()}.parquet", table)
    return folder


def pages(folder: Path) -> dict[str, float]:
    """The pages over 2,000 runs, in fresh contexts of Chromium."""
    from playwright.sync_api import sync_playwright

    source = many_runs(folder / "many")
    with server(folder, "--logs", str(source)) as one, sync_playwright() as play:
        one.ask("budget", rate=0.25, **ASK)
        one.ask("rank")  # the rest is worked out too
        chromium = shutil.which("chromium")
        flags = ["--no-sandbox", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=chromium, args=flags)
        measured: dict[str, list[float]] = {}
        outside: list[str] = []

        def fresh(measure: Callable[[Any], dict[str, float]]) -> None:
            context = browser.new_context()
            page = context.new_page()
            page.on("request", lambda request: outside.append(request.url) if _is_outside(request.url) else None)
            for name, value in measure(page).items():
                measured.setdefault(name, []).append(value)
            context.close()

        for _ in range(CONTEXTS):
            fresh(lambda page: first_page(page, one.url))
            fresh(lambda page: curves_page(page, one.url))
        browser.close()
        figures = {name: statistics.median(values) for name, values in measured.items()}
        figures["resident memory, 2,000 runs, MB"] = one.megabytes()
        figures["outside requests"] = len(outside) + one.outside
    return figures


NOW = "performance.now() / 1000"


def first_page(page: Any, url: str) -> dict[str, float]:
    page.goto(url, wait_until="commit")
    page.locator("#budget-form input:enabled:visible").first.wait_for()
    usable = page.evaluate(NOW)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000")
    return {"first paint, 2,000 runs": paint, "budget form usable, 2,000 runs": usable}


def curves_page(page: Any, url: str) -> dict[str, float]:
    page.goto(f"{url}/curves", wait_until="commit")
    page.locator("#runs tbody tr").first.wait_for()
    rows = page.evaluate(NOW)
    page.wait_for_load_state("networkidle")
    box = page.locator("#search input, #search textarea").first
    before = page.locator("#runs").inner_text()
    start = page.evaluate(NOW)
    box.fill("qwen")
    box.press("Enter")
    page.wait_for_function("before => document.querySelector('#runs').innerText !== before", arg=before, polling=20)
    return {"rows, 2,000 runs": rows, "filter, 2,000 runs": page.evaluate(NOW) - start}


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=60, help="how long the users ask")
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (lambda: bundled(folder, asked.seconds), lambda: renewed(folder), lambda: pages(folder)):
            try:
                found = part()
            except Exception as error:  # one part that cannot be measured here does not hide the others
                print(f"not measured: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            found["outside requests"] += figures.get("outside requests", 0)
            figures |= found
    if asked.json:
        rows = {what: {"value": figures.get(what), "target": target} for what, target in TARGETS.items()}
        print(json.dumps(rows, indent=2))
        return
    for what, target in TARGETS.items():
        value = figures.get(what)
        said = "not measured" if value is None else f"{value:.3g}"
        verdict = "" if value is None or target is None else ("ok" if value <= target else "MISSED")
        print(f"{what:46s} {said:>12s}  {'' if target is None else f'<= {target:g}':>8s}  {verdict}")


if __name__ == "__main__":
    main()
