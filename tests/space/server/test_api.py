"""The functions as programs meet them: plain HTTP, Gradio's client, an MCP client, over a real server."""

import asyncio
import base64
import contextlib
import csv
import gc
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from leaderboard import load_logs, recommend_tokens
from leaderboard.logs.check import MAX_BYTES, check_files
from leaderboard.logs.frame import Logs, as_logs
from leaderboard.logs.load import SEED
from leaderboard.serving.board import Board
from leaderboard.serving.upload import MAX_BYTES as UPLOAD_BYTES
from space.app import MOST_SENT
from space.server.store import Store
from space.server.uploads import base64_length
from tests.commands import p2zoo
from tests.hostile import encrypted
from tests.space.serving import serving

ROOT = Path(__file__).parents[3]
ASK = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72}
EIGHT = ["rank", "budget", "runs", "models", "predict", "check_log", "import_log", "forecast"]
PUBLIC = "https://OWNER-NAME.hf.space"


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Gradio's client leaves sockets to the collector


@pytest.fixture(autouse=True)
def collected():
    """What a test's clients left behind ends with the test."""
    yield
    gc.collect()


def few_runs() -> Logs:
    """The seed's llama-3 depth runs: quick to fit."""
    frame = load_logs().frame
    own = frame[(frame["family"] == "llama-3") & (frame["method"] == "depth")].reset_index(drop=True)
    return as_logs(own, (), source="a few runs")


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(None, Board(few_runs()))


@pytest.fixture(scope="module")
def url(store):
    with serving(store) as address:
        yield address


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def call(http):
    """call(name, **arguments): the event that ends the answer, and its data."""

    def post(name: str, **arguments: object) -> tuple[str, object]:
        # json= of httpx refuses NaN, the one thing that a careless client does send
        begun = http.post(f"/gradio_api/call/v2/{name}", content=json.dumps(arguments), headers=JSON)
        assert begun.status_code == 200, begun.text
        return event(http.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}"))

    return post


JSON = {"Content-Type": "application/json"}


def event(answer: httpx.Response) -> tuple[str, object]:
    """The last server-sent event: its name and its data, which is the one answer or the sentence of a refusal."""
    name, data = re.findall(r"^event: (\w+)\ndata: (.*)$", answer.text, re.MULTILINE)[-1]
    return (name, json.loads(data)[0]) if name == "complete" else (name, json.loads(data)["error"])


def test_the_api_is_the_eight_functions_with_their_units_described(http, url):
    listed = http.get("/gradio_api/info").json()
    assert sorted(listed["named_endpoints"]) == sorted(f"/{name}" for name in EIGHT)
    assert listed["unnamed_endpoints"] == {}

    async def tools():
        async with session(url) as mcp:
            return (await mcp.list_tools()).tools

    described = {tool.name: tool for tool in asyncio.run(tools())}
    assert sorted(described) == sorted(EIGHT)
    budget = described["budget"].inputSchema["properties"]
    assert "a count" in budget["n0"]["description"]
    assert all("nats per token" in budget[name]["description"] for name in ("l0", "l_pruned", "target_loss", "excess"))


@contextlib.asynccontextmanager
async def session(url):
    """An initialized MCP session over streamable HTTP."""
    async with streamable_http_client(f"{url}/gradio_api/mcp/") as (read, write, _), ClientSession(read, write) as mcp:
        await mcp.initialize()
        yield mcp


def test_every_way_gives_the_library_s_budget(call, url, store):
    expected = recommend_tokens(store.board.frame, **ASK, excess=0.05, gpu="h100").as_dict()
    asked = ASK | {"excess": 0.05, "gpu": "h100"}
    _, over_http = call("budget", **asked)
    over_client = Client(url, verbose=False).predict(**asked, api_name="/budget")

    async def over_mcp():
        async with session(url) as mcp:
            return await mcp.call_tool("budget", asked)

    answered = asyncio.run(over_mcp())
    assert not answered.isError
    for got in (over_http, over_client, json.loads(answered.content[0].text)):
        assert list(got) == list(expected)
        assert got == json.loads(json.dumps(expected))


def test_a_price_moves_the_cost_only(call):
    _, free = call("budget", **ASK, gpu="h100", price=0)
    _, dear = call("budget", **ASK, gpu="h100", price=10)
    assert (free["cost"], dear["cost"]) == (0, pytest.approx(10 * dear["gpu_hours"]))
    assert free["tokens"] == dear["tokens"]


def test_predict_meets_the_goal_at_the_budget_s_tokens(call):
    _, budget = call("budget", **ASK, excess=0.05)
    _, predicted = call("predict", **ASK, tokens=[budget["tokens"], 1e8])
    first, later = predicted["losses"]
    assert first["loss"] == pytest.approx(budget["loss"], abs=1e-6)
    assert first["low"] < first["loss"] < first["high"]
    assert later["loss"] < first["loss"]
    assert predicted["law"] == budget["law"]


def test_runs_say_which_filter_leaves_nothing(call, store):
    _, all_of_them = call("runs", limit=2)
    assert all_of_them["found"] == len(store.board.runs)
    assert len(all_of_them["runs"]) == 2
    assert {"run_id", "n0", "loss", "recovered", "created_at"} <= set(all_of_them["runs"][0])
    _, none = call("runs", search="no such run", method="depth")
    assert none["runs"] == []
    assert "without search" in none["note"]


@pytest.mark.slow
def test_rank_is_the_command_line_s_json(call, tmp_path):
    """Of the same files; the subset is written as a folder for the command."""
    runs = few_runs().frame["run_id"].unique()
    for run in runs:
        (tmp_path / f"{run}.parquet").symlink_to(SEED / "p2lab" / f"{run}.parquet")
    done = p2zoo("rank", tmp_path, "--json")
    printed = json.loads(done.stdout)
    _, answered = call("rank")
    assert answered["laws"] == printed["laws"]
    assert answered["data"] | {"source": ""} == printed["data"] | {"source": ""}


def test_a_log_is_judged_and_not_kept(call):
    good = next(iter(sorted(SEED.rglob("*.parquet")))).read_bytes()
    assert call("check_log", parquet_base64=base64.b64encode(good).decode()) == (
        "complete",
        {"ok": True, "verdict": "clean", "findings": []},
    )
    broken = base64.b64encode(good[:-9]).decode()
    _, verdict = call("check_log", parquet_base64=broken)
    sizes = [_size(path) for path in Path(tempfile.gettempdir()).glob("p2zoo-*/*")]
    assert len(good) - 9 not in sizes  # others of this name may be at work beside us
    assert not verdict["ok"]
    assert verdict["findings"][0]["code"] == "unreadable"


def test_a_file_that_ends_its_reader_is_a_finding_and_healthz_counts_it(call, http, tmp_path):
    deadly = encrypted(tmp_path / "log.parquet", pq.read_table(next(iter(sorted(SEED.rglob("*.parquet"))))))
    before = http.get("/healthz").json()["reading"]["died"].get("crash", 0)
    _, verdict = call("check_log", parquet_base64=base64.b64encode(deadly.read_bytes()).decode())
    health = http.get("/healthz").json()
    assert (verdict["verdict"], health["status"]) == ("wrong", "ok")
    assert health["reading"]["died"]["crash"] == before + 1
    assert health["reading"]["last_death_s_ago"] >= 0


def _size(path: Path) -> int:
    """Bytes of a file; -1 where it has just gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def test_a_log_is_measured_before_it_is_decoded(call):
    """Not base64 either, so that a decoder would have said something else."""
    name, words = call("check_log", parquet_base64="!" * (base64_length(MAX_BYTES) + 1))
    assert name == "error"
    assert "more than 5,000,000 bytes" in words


REFUSED = [
    ("budget", {"rate": 7}, "rate"),
    ("budget", {"rate": "a quarter"}, "rate is 'a quarter'"),
    ("budget", {"rate": True}, "rate is True"),
    ("budget", {"rate": float("nan")}, "rate is nan"),
    ("budget", {"rate": None}, "rate is None"),
    ("budget", {"n0": 10**400}, "n0 is"),
    ("budget", {"n0": -5}, "n0 is -5"),
    ("budget", {"l0": [2.7]}, "l0 is list"),
    ("budget", {"family": "\ud800"}, "half a surrogate pair"),
    ("budget", {"l0": float("inf")}, "l0 is inf"),
    ("budget", {"family": "lama-3"}, "Did you mean 'llama-3'?"),
    ("budget", {"family": 3}, "family is 3"),
    ("budget", {"family": "x" * 100_000}, "100,000 characters"),
    ("budget", {"method": "dept"}, "Did you mean 'depth'?"),
    ("budget", {"law": "../../etc/passwd"}, "unknown law"),
    ("budget", {"law": {"name": "p2"}}, "law is dict"),
    ("budget", {"eval_data": "another text"}, "unknown eval_data"),
    ("budget", {"gpu": "h1000"}, "Did you mean 'h100'?"),
    ("budget", {"gpu": "h100", "price": -1}, "price is -1"),
    ("budget", {"gain": 0.01, "excess": 0.1}, "one goal"),
    ("budget", {"law": "damage"}, "needs l_pruned"),
    ("predict", {"tokens": []}, "tokens is list"),
    ("predict", {"tokens": [1e6, "many"]}, "tokens[1] is 'many'"),
    ("predict", {"tokens": [0]}, "0 tokens"),
    ("predict", {"tokens": [1e6] * 1_001}, "1,001 token counts"),
    ("predict", {"tokens": [1e6], "level": 2}, "level is 2"),
    ("runs", {"limit": 10**9}, "limit is"),
    ("runs", {"limit": 1.5}, "limit is 1.5"),
    ("runs", {"family": "gpt"}, "unknown family"),
    ("runs", {"rate_from": 25}, "rate_from is 25"),
    ("check_log", {"parquet_base64": "not base64!"}, "not base64"),
    ("check_log", {"parquet_base64": 5}, "parquet_base64 is 5"),
]


@pytest.mark.parametrize(("name", "wrong", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_bad_value_gets_a_sentence(name, wrong, words, call):
    known = ASK if name in ("budget", "predict") else {}
    ended, said = call(name, **known | wrong)
    assert ended == "error"
    assert words in said
    assert said.startswith(f"{name}: ") or name == "predict"  # asked as a budget is
    assert len(said) < 500
    assert "Traceback" not in said


def test_a_bad_value_gets_the_same_sentence_every_way(call, url):
    asked = ASK | {"rate": 7}
    _, said = call("budget", **asked)
    with pytest.raises(AppError, match=re.escape(said)):
        Client(url, verbose=False).predict(**asked, api_name="/budget")

    async def over_mcp():
        async with session(url) as mcp:
            return await mcp.call_tool("budget", asked)

    answered = asyncio.run(over_mcp())
    assert answered.isError
    assert answered.content[0].text == said


def test_a_call_that_cannot_be_read_is_refused_in_words(http):
    """Gradio alone answers these with 500 and a traceback."""
    asked = {
        "/gradio_api/call/v2/budget": {"family": "llama-3"},
        "/gradio_api/call/v2/rank": {"nonsense": 1},
        "/gradio_api/call/v2/nothing": {},
        "/gradio_api/call/nothing": {"data": []},
    }
    for address, body in asked.items():
        refused = http.post(address, json=body)
        assert refused.status_code in (404, 422), address
        assert refused.json()["error"]
    short = http.post("/gradio_api/call/budget", json={"data": ["llama-3"]}).json()
    ended, said = event(http.get(f"/gradio_api/call/budget/{short['event_id']}"))
    assert (ended, said.partition(":")[0]) == ("error", "budget")
    assert "13 values are expected" in said


def test_refusals_are_no_fault_of_the_server_and_a_body_has_a_bound(http):
    """Gradio and its MCP server answer the first two with 500."""
    refused = http.post("/gradio_api/run/predict", json={"data": ["llama-3"]})
    accept = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    deep = http.post("/gradio_api/mcp/", content="[" * 100_000, headers=accept)
    large = http.post("/gradio_api/call/v2/check_log", content=b"A" * (MOST_SENT + 1))
    assert [answer.status_code for answer in (refused, deep, large)] == [422, 422, 413]
    assert all(answer.json()["error"] for answer in (refused, deep, large))
    assert f"a log may have {UPLOAD_BYTES:,}" in large.json()["error"]


def test_downloads_are_the_tables(http, store):
    for name in ("ranking", "runs", "models", "cells", "ablation"):
        answer = http.get(f"/download/{name}.csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
        header, *rows = csv.reader(io.StringIO(answer.text))
        assert all(len(row) == len(header) for row in rows), name
    read = pd.read_csv(io.StringIO(http.get("/download/runs.csv").text))
    assert list(read["run_id"]) == list(store.board.runs["run_id"])
    assert list(read["loss"]) == pytest.approx(list(store.board.runs["loss"]))
    wanted = http.get("/download/wanted.json").json()
    assert "cannot be had" in wanted["said"]
    assert all(run["commands"][-1].startswith("p2zoo run ladder/") for run in wanted["runs"])
    ranking = http.get("/download/ranking.json")
    assert ranking.headers["content-type"] == "application/json"
    assert [law["law"] for law in ranking.json()["laws"]] == list(store.board.ranking[0]["law"])
    assert http.get("/download/secrets.csv").status_code == 404
    few = http.get("/download/runs.json", params={"rate_to": 0.2, "search": "s3"}).json()
    assert [run["run_id"] for run in few] == list(store.board.runs.query("rate <= 0.2 and n0 > 3e7")["run_id"])
    for wrong in ({"rate_to": "x"}, {"method": "nobody's"}, {"colour": "red"}):
        assert http.get("/download/runs.csv", params=wrong).status_code == 422


def test_the_log_of_a_bundled_run_is_a_log(http, store, tmp_path):
    run = store.board.runs["name"].iloc[0]
    (tmp_path / "log.parquet").write_bytes(http.get(f"/download/log/{run}.parquet").content)
    checked = check_files([tmp_path / "log.parquet"])
    assert checked.reports[0].ok
    assert checked.frame["loss"].tolist() == store.board.run(run)["loss"].tolist()
    read = pd.read_csv(io.StringIO(http.get(f"/download/log/{run}.csv").text))
    assert read["loss"].tolist() == pytest.approx(checked.frame["loss"].tolist())
    for name in ("p2lab/none.parquet", f"{run}.exe", f"nobody/{run.rpartition('/')[2]}.csv"):
        assert http.get(f"/download/log/{name}").status_code == 404


# -- the documented examples ---------------------------------------------------------------------------------------


def documented(language: str) -> list[str]:
    text = (ROOT / "space" / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_documented_commands_work(url, tmp_path):
    log = next(iter(sorted(SEED.rglob("*.parquet"))))
    (tmp_path / "log.parquet").symlink_to(log)
    code = "\n".join(documented("sh")).replace(PUBLIC, url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("event: complete") == 7
    assert "event: error" not in done.stdout
    assert (tmp_path / "ranking.csv").read_text().startswith("law,")


def test_the_documented_python_works(url):
    (code,) = documented("python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace(PUBLIC, url)],
        capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
    timeout=200)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0].replace(",", "")) > 0


def test_the_documented_mcp_address_answers(url):
    (text,) = documented("json")
    (server,) = json.loads(text)["mcpServers"].values()
    assert server["url"].replace(PUBLIC, url) == f"{url}/gradio_api/mcp/"  # the address of every MCP test here


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_another_program_s_log_is_imported_and_forecast_in_two_calls(call, store):
    rows = [{"step": n, "eval_loss": 3.9 - 0.9 * n / (n + 200)} for n in range(50, 1001, 50)]
    file = base64_of(json.dumps({"log_history": rows}).encode())
    _, asked = call("import_log", file_base64=file, file_name="mine.json")
    assert not asked["ok"]
    assert asked["missing"] == ["tokens_per_step", "method", "n0", "rate", "eval_data"]
    facts = {"tokens_per_step": 65536, "method": "depth", "base": "meta-llama/Llama-3.2-1B", "rate": 0.25}
    _, log = call("import_log", file_base64=file, **facts, eval_data="mine", l0=2.8)
    assert (log["ok"], log["rows"], log["tokens"], log["n0"]) == (True, 20, 65_536_000, 1_235_814_400)
    assert call("check_log", parquet_base64=log["parquet_base64"])[1]["ok"]
    _, ahead = call("forecast", log_base64=log["parquet_base64"], at=[1e8], target_loss=3.1)
    (place,) = ahead["at"]
    assert place["low_95"] < place["low_80"] < place["loss"] < place["high_80"] < place["high_95"]
    assert ahead["goal"]["tokens"] > 65_536_000
    name, words = call("forecast", log_base64=file)
    assert (name, "import_log" in words) == ("error", True)


def test_a_visitor_can_name_neither_a_folder_nor_a_model_that_would_be_fetched(call):
    file = base64_of(b'{"step": 1, "eval_loss": 3}\n' * 9)
    for base in ("/etc", "..", "somebody/private"):
        facts = {"tokens_per_step": 1000, "method": "depth", "base": base, "rate": 0.25, "eval_data": "mine"}
        name, words = call("import_log", file_base64=file, **facts)
        assert (name, "does not ship" in words) == ("error", True)
