"""What the Hub will not give, asked over real HTTP by the stock client: each refusal has its words, no weights move.

The client reads its endpoint on import, so each test asks in a process of its own.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import HfApi

from zoo.devhub import client_env, serve

TOKEN = "hf_owner_token"
REMOTE_CODE = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
ASK = """
import json, pathlib, sys
from leaderboard.errors import P2Error
from zoo.inputs.base_model import resolve
from zoo.recipe.spec import ModelSpec, TextSpec
from zoo.inputs.text import fingerprint

for kind, spec in json.loads(sys.argv[1]):
    try:
        if kind == "model":
            resolve(ModelSpec(**spec), pathlib.Path())
        else:
            fingerprint(TextSpec(**spec), pathlib.Path(), "data.train")
        print("given")
    except P2Error as error:
        print(str(error).replace(chr(10), " "))
"""


@pytest.fixture
def ask(tmp_path):
    """ask(url, token, *(kind, spec)): what p2zoo says about each, and the files it fetched."""

    def answers(url: str, token: str | None, *wanted: tuple[str, dict[str, str]]) -> tuple[list[str], list[str]]:
        environment = os.environ | client_env(url, token or "") | {"HF_HOME": str(tmp_path / "home")}
        if token is None:
            del environment["HF_TOKEN"]
        done = subprocess.run(
            [sys.executable, "-c", ASK, json.dumps(wanted)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines(), [p.name for p in (tmp_path / "home").rglob("*") if p.is_symlink()]

    return answers


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[str]:
    """A Hub with a model that needs remote code and a private one."""
    with serve(tmp_path_factory.mktemp("hub"), {"owner": TOKEN}) as url:
        api = HfApi(endpoint=url, token=TOKEN)
        for name, private in (("owner/strange", False), ("owner/secret", True)):
            api.create_repo(name, private=private)
            for path, content in (("config.json", json.dumps(REMOTE_CODE)), ("model.safetensors", "weights")):
                api.upload_file(path_or_fileobj=content.encode(), path_in_repo=path, repo_id=name)
        yield url


def test_what_is_not_there_or_not_ours(hub, ask):
    said, fetched = ask(
        hub,
        TOKEN,
        ("model", {"name": "owner/nothing"}),
        ("model", {"name": "owner/strange", "revision": "v9"}),
        ("model", {"name": "owner/strange"}),
        ("data", {"dataset": "owner/gone"}),
    )
    assert "owner/nothing is not on the Hub, or is private" in said[0]
    assert "model.name: owner/strange has no revision 'v9'" in said[1]
    assert "needs remote code (auto_map), which p2zoo never runs" in said[2]
    assert f"owner/gone is not on the Hub, or is private: see {hub}/datasets/owner/gone" in said[3]
    assert fetched == ["config.json"]


def test_a_private_model_without_a_token(hub, ask):
    said, fetched = ask(hub, None, ("model", {"name": "owner/secret"}))
    assert "owner/secret is not on the Hub, or is private" in said[0]
    assert "hf auth login" in said[0]
    assert fetched == []


class Gated(BaseHTTPRequestHandler):
    """Answers as the Hub does for a model whose licence is not accepted: its description, but none of its files."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        if self.path.startswith("/api/models/meta-llama/Llama-3.2-1B"):
            files = [{"type": "file", "path": "config.json", "size": 843, "oid": "b" * 40}]
            about = {"id": "meta-llama/Llama-3.2-1B", "sha": "a" * 40, "gated": "manual"}
            status, body = 200, json.dumps(files if "/tree/" in self.path else about).encode()
        else:
            status, body = 401 if "Authorization" not in self.headers else 403, b""
        self.send_response(status)
        if status != 200:
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", "Access to model meta-llama/Llama-3.2-1B is restricted.")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gated() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gated)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.mark.parametrize("token", [None, TOKEN], ids=["no token", "licence not accepted"])
def test_a_gated_model_names_its_page(gated, ask, token):
    said, fetched = ask(gated, token, ("model", {"name": "meta-llama/Llama-3.2-1B"}))
    assert f"is gated: accept its licence at {gated}/meta-llama/Llama-3.2-1B" in said[0]
    assert "HF_TOKEN" in said[0]
    assert fetched == []


@pytest.mark.slow
def test_nobody_answers(ask):
    wanted = ("model", {"name": "owner/any"}), ("data", {"dataset": "owner/any"})
    said, _ = ask("http://127.0.0.1:9", TOKEN, *wanted)
    assert "owner/any cannot be fetched: the Hub is out of reach" in said[0]
    assert "data.train.dataset: owner/any cannot be fetched: the Hub is out of reach" in said[1]
