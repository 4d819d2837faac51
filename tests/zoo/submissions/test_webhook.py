"""From an event of the Hub to a comment: the secret, what is worth a check, and a worker that nothing stops."""

import json
import runpy
import socket
import threading
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from leaderboard import P2Error
from zoo.dataset_repo import init
from zoo.hub import serve
from zoo.hub.webhook import Webhook
from zoo.webhook_app import Checker, create_app, pull_request_of

DATASET = "owner/logs"
KIND = {"repo_id": DATASET, "repo_type": "dataset"}
ROOT = Path(__file__).parents[3]


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


def test_the_job_script_checks_what_its_event_names(monkeypatch, capsys):
    job = runpy.run_path(str(ROOT / "recipes" / "check_pr_job.py"))
    monkeypatch.setattr("sys.argv", ["check_pr_job.py", DATASET])
    monkeypatch.setenv("WEBHOOK_PAYLOAD", json.dumps(event("discussion.comment")))
    assert job["main"]() == 0
    assert "No open pull request" in capsys.readouterr().out
    from huggingface_hub.cli._uv_script_header import parse_uv_script_header

    header = parse_uv_script_header((ROOT / "recipes" / "check_pr_job.py").read_text(encoding="utf-8"))
    assert (header.flavor, header.timeout, header.secrets) == ("cpu-basic", "20m", ["HF_TOKEN"])
