"""From an event of the Hub to a comment: the secret, what is worth a check, and a worker that nothing stops."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from leaderboard import P2Error
from zoo.devhub import client_env, serve
from zoo.devhub.webhook import Webhook
from zoo.publish.log_dataset import init
from zoo.review.webhook import Checker, create_app, pull_request_of

DATASET = "owner/logs"
KIND = {"repo_id": DATASET, "repo_type": "dataset"}
ROOT = Path(__file__).parents[3]
JOB = ROOT / "recipes" / "check_pr_job.py"


def event(scope: str, action: str = "create", status: str = "open", **parts) -> dict:
    repo = {"type": "dataset", "name": DATASET}
    about = {"num": 3, "isPullRequest": True, "status": status}
    return {"event": {"scope": scope, "action": action}, "repo": repo, "discussion": about} | parts


@pytest.mark.parametrize(
    ("payload", "num"),
    [
        (event("discussion"), 3),
        (event("discussion", "update"), 3),
        (event("repo.content", "update", updatedRefs=[{"ref": "refs/pr/7", "newSha": "a"}]), 7),
        (event("repo.content", "update", updatedRefs=[{"ref": "refs/heads/main", "newSha": "a"}]), None),
        (event("discussion.comment"), None),  # ours would start the next
        (event("discussion", "update", status="merged"), None),
        (event("discussion", "delete"), None),
        (event("discussion") | {"repo": {"type": "dataset", "name": "owner/other"}}, None),
        (event("discussion") | {"repo": {"type": "model", "name": DATASET}}, None),
        (event("discussion") | {"discussion": {"num": 3, "isPullRequest": False, "status": "open"}}, None),
        (event("discussion") | {"discussion": {"num": "x; rm", "isPullRequest": True, "status": "open"}}, None),
        ({}, None),
        ({"repo": [], "event": 1}, None),
    ],
)
def test_what_is_worth_a_check(payload, num):
    assert pull_request_of(payload, DATASET) == num


def test_the_endpoint_wants_the_secret_and_answers_at_once(tmp_path):
    httpx = pytest.importorskip("httpx")
    checked, gate = [], threading.Event()

    def check(num: int) -> None:
        gate.wait(10)
        checked.append(num)
        raise OSError("a check that fails stops no other")

    checker = Checker(check)
    app = create_app(DATASET, "s3cret", checker)

    async def talk() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hook") as client:
            right, out = {"X-Webhook-Secret": "s3cret"}, []
            for headers, body in [
                ({}, json.dumps(event("discussion"))),
                ({"X-Webhook-Secret": "S3cret"}, json.dumps(event("discussion"))),
                (right, "no json"),
                (right, "[" * 100_000),
                (right, "x" * 1_000_001),
                (right, "[]"),
                (right, json.dumps(event("discussion.comment"))),
                (right, json.dumps(event("discussion"))),
                (right, json.dumps(event("discussion") | {"discussion": {**event("x")["discussion"], "num": 4}})),
            ]:
                out.append((await client.post("/webhook", content=body, headers=headers)).status_code)
            return out

    import asyncio

    assert asyncio.run(talk()) == [403, 403, 400, 400, 413, 200, 200, 202, 202]
    gate.set()
    checker.close()
    assert checked == [3, 4]
    with pytest.raises(P2Error, match="the secret is empty"):
        create_app(DATASET, "", checker)


def test_a_pull_request_on_the_hub_reaches_the_checker(tmp_path, log, send):
    uvicorn = pytest.importorskip("uvicorn")
    found = threading.Event()
    nums: list[int] = []
    checker = Checker(lambda num: (nums.append(num), found.set()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(DATASET, "s3cret", checker), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        hook = Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/webhook", "s3cret")
        with serve(tmp_path / "hub", {"owner": "hf_o", "ann": "hf_a"}, hook) as url:
            init(HfApi(endpoint=url, token="hf_o"), DATASET)
            path, data = log()
            assert send(HfApi(endpoint=url, token="hf_a"), {path: data}) == 1
            assert found.wait(10)
        server.should_exit = True
        thread.join(10)
    checker.close()
    assert set(nums) == {1}


def test_the_job_script_says_what_it_needs():
    from huggingface_hub.cli._uv_script_header import parse_uv_script_header

    header = parse_uv_script_header(JOB.read_text(encoding="utf-8"))
    assert (header.flavor, header.timeout, header.secrets) == ("cpu-basic", "20m", ["HF_TOKEN"])


@pytest.mark.slow
def test_the_job_script_checks_what_the_hubs_events_name(tmp_path, log, send):
    """Events as the Hub sends them; the script in a process of its own: comments, merges, refuses, or has no work."""
    pytest.importorskip("datasets", reason="in the extra [train]")
    users = {"owner": "hf_owner", "ann": "hf_ann"}
    with collected_events() as (hook, events), serve(tmp_path / "hub", users, hook) as url:
        owner, ann = (HfApi(endpoint=url, token=token) for token in users.values())
        init(owner, DATASET)
        path, data = log()
        good, bad = send(ann, {path: data}), send(ann, {path: data[:-1]})

        def start(num: int, *options: str) -> tuple[int, str, str]:
            (told,) = [e for e in wait_for(events, num) if e["discussion"]["num"] == num and e["event"] == OPENED][:1]
            env = os.environ | client_env(url, users["owner"]) | {"WEBHOOK_PAYLOAD": json.dumps(told)}
            env |= {"WEBHOOK_REPO_ID": DATASET, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [sys.executable, str(JOB), *options], env=env, capture_output=True, text=True, timeout=800
            )
            assert "Traceback" not in done.stderr
            assert users["owner"] not in done.stdout + done.stderr
            said = owner.get_discussion_details(DATASET, num, repo_type="dataset")
            return done.returncode, said.status, said.events[-1].content if num == bad else done.stdout

        code, status, comment = start(bad, DATASET, "--merge-if-clean")
        assert (code, status) == (1, "open")
        assert "**p2zoo check: refused**" in comment
        code, status, said = start(good, "--merge-if-clean")
        assert (code, status) == (0, "merged")
        assert "merged as" in said
        assert [p for p in owner.list_repo_files(**KIND) if p.startswith("runs/")] == [path]
        told = next(e for e in wait_for(events, good) if e["event"]["scope"] == "discussion.comment")
        env = os.environ | {"WEBHOOK_PAYLOAD": json.dumps(told), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, str(JOB), DATASET], env=env, capture_output=True, text=True, timeout=800)
        assert (done.returncode, done.stdout) == (0, "No open pull request in this event.\n")


OPENED = {"action": "create", "scope": "discussion"}


@contextlib.contextmanager
def collected_events() -> Iterator[tuple[Webhook, list[dict]]]:
    """A receiver on this machine, and the events that came so far."""
    events: list[dict] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Webhook(f"http://127.0.0.1:{server.server_address[1]}/", "s3cret"), events
        server.shutdown()
        thread.join(60)


def wait_for(events: list[dict], num: int) -> list[dict]:
    """Those about discussions, once one about `num` is there."""
    for _ in range(500):
        about = [e for e in events if "discussion" in e]
        if any(e["discussion"]["num"] == num for e in about):
            return about
        time.sleep(0.02)
    raise AssertionError(f"no event about #{num}")
