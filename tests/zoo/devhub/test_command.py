"""`p2zoo hub serve`: what it says, what it refuses, and that no token is printed but on a terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from leaderboard.errors import P2Error
from zoo.cli.hub import parse_users
from zoo.devhub import client_env, serve


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zoo", "hub", "serve", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_serves_and_says_what_it_is_and_keeps_the_token_to_itself(tmp_path: Path):
    with start(tmp_path, "--port", "0", "--user", "owner:hf_very_secret") as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        said = "".join(lines)
        url = re.search(r"^export HF_ENDPOINT=(http://127\.0\.0\.1:\d+) HF_HUB_DISABLE_XET=1 && read", said, re.M)
        assert url
        pasted = subprocess.run(
            ["bash", "-c", f"{lines[2]} echo $HF_ENDPOINT $HF_TOKEN"],
            input="hf_very_secret\n", capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert pasted.stdout == f"{url[1]} hf_very_secret\n"
        answer = httpx.get(f"{url[1]}/api/whoami-v2", headers={"Authorization": "Bearer hf_very_secret"})
        httpx.get(f"{url[1]}/api/whoami-v2", headers={"Authorization": "Bearer hf_other_secret"})
        process.terminate()
        said += process.stdout.read()
    assert answer.json()["name"] == "owner"
    assert "no production server" in said
    assert "secret" not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_very_secret" in path.read_bytes()]


def test_on_a_terminal_each_user_can_copy_the_line_that_signs_in(tmp_path: Path):
    screen, terminal = os.openpty()
    command = [sys.executable, "-m", "zoo", "hub", "serve", str(tmp_path), "--port", "0"]
    command += ["--user", "me:hf_me", "--user", "you:hf_you"]
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL) as process, os.fdopen(screen) as said:
        lines = [said.readline() for _ in range(5)]
        process.terminate()
    os.close(terminal)
    assert "sign in as me" in lines[1]
    assert re.fullmatch(r"export HF_ENDPOINT=http://127\S+ HF_HUB_DISABLE_XET=1 HF_TOKEN=hf_me\n", lines[2])
    assert lines[4].endswith("HF_TOKEN=hf_you\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no users"),
        (("--user", "hf_secret"), "expected NAME:TOKEN"),
        (("--user", "owner:"), "token of user 'owner' is empty"),
        (("--user", "a b:hf_secret"), "no user name"),
        (("--user", "a:hf_secret", "--user", "b:hf_secret"), "same token"),
        (("--user", "a:hf_secret", "--user", "a:hf_secret2"), "given twice"),
    ],
)
def test_users_that_are_refused(tmp_path: Path, options: tuple[str, ...], message: str):
    with pytest.raises(P2Error, match=message) as error, serve(tmp_path, parse_users([*options[1::2]])):
        pass
    assert "secret" not in str(error.value)


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path: Path):
    with start(tmp_path) as process:
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 2
    assert said == "error: hub: no users; give at least one name with its token.\n"


def test_a_taken_port_is_named(tmp_path: Path):
    with serve(tmp_path / "one", {"owner": "hf_secret"}) as url:
        port = url.rsplit(":", 1)[1]
        with start(tmp_path / "two", "--port", port, "--user", "owner:hf_secret") as process:
            said, _ = process.communicate(timeout=200)
    assert f"cannot listen on 127.0.0.1:{port}" in said


def test_a_folder_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(P2Error, match="cannot hold a hub"), serve(tmp_path / "file", {"owner": "hf_secret"}):
        pass


def test_importing_the_command_line_and_the_helper_loads_no_web_server():
    script = "import sys, zoo.cli, zoo.devhub; print({'fastapi', 'uvicorn', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout == "set()\n"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(P2Error, match=r"uvicorn not installed; run `pip install 'p2zoo\[hub\]'`"), serve(tmp_path, {}):
        pass


def test_client_env():
    env = client_env("http://127.0.0.1:1", "hf_x")
    assert (env["HF_ENDPOINT"], env["HF_TOKEN"], env["HF_HUB_DISABLE_XET"]) == ("http://127.0.0.1:1", "hf_x", "1")
