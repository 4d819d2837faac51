"""Fresh processes know nothing of the process that asks, and behave as any process does, with a server or without."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.zoo import entries
from zoo import fresh

MINE = "tests.zoo.entries"


@pytest.fixture(params=["server", pytest.param("none", marks=pytest.mark.slow)])
def run(request, monkeypatch):
    """fresh.run, by the server that this test run has or, as where it cannot start, by an ordinary process."""
    if request.param == "none":
        monkeypatch.setenv(fresh.ADDRESS, "/nowhere/socket")
    return fresh.run


def test_it_knows_nothing_but_the_environment_and_the_folder(run, tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "known", True)
    torch.manual_seed(5)
    env = os.environ | {"P2ZOO_MINE": "yes"}
    told = [run(f"{MINE}:facts", ["two words", "x"], env=env, cwd=tmp_path, timeout=120) for _ in range(2)]
    first, draws, given = told[0].stdout.splitlines()
    assert first == "False False 1 False", told[0].stderr
    assert given == f"two words|x|{tmp_path}|yes|True"
    again = told[1].stdout.splitlines()[1]
    assert not set(draws.split()) & set(again.split())  # no random state is shared


def test_its_end_is_told_as_of_any_process(run):
    assert run(f"{MINE}:leave", ["75"], timeout=120).returncode == 75
    failed = run(f"{MINE}:fail", [], timeout=120)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "ArithmeticError: told in its last line"


def test_it_can_be_stopped_and_does_not_hang(run, tmp_path):
    process = fresh.popen(f"{MINE}:stay", [str(tmp_path / "here")])
    ends = time.monotonic() + 120
    while not (tmp_path / "here").exists() and time.monotonic() < ends:
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    with pytest.raises(subprocess.TimeoutExpired):
        run(f"{MINE}:stay", [str(tmp_path / "there")], timeout=0.2)


@pytest.mark.slow
@pytest.mark.sample
def test_the_server_has_imported_what_a_run_needs_unless_libraries_would_read_another_environment():
    code = f"""
import os
from zoo import fresh
print(fresh.run("{MINE}:imported", [], timeout=120).stdout.strip())
other = os.environ | {{"HF_ENDPOINT": "http://127.0.0.1:1"}}
print(fresh.run("{MINE}:imported", [], env=other, timeout=120).stdout.strip())
"""
    env = {name: value for name, value in os.environ.items() if name != fresh.ADDRESS}  # with a server of its own
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200)
    assert told.stdout.split() == ["True", "False"], told.stderr


OWNER = """
import os, sys
from zoo import fresh
fresh.run("os:getpid", [])
print(fresh._own._process.pid, os.environ.get("P2ZOO_FRESH"), flush=True)
os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [0, signal.SIGKILL])
def test_a_server_ends_with_its_owner(end):
    env = {name: value for name, value in os.environ.items() if name != fresh.ADDRESS}
    done = subprocess.run(
        [sys.executable, "-c", OWNER, str(int(end))], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -end
    pid, known = done.stdout.split()
    assert known == "None"  # only processes below it are led there
    ends = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < ends:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
