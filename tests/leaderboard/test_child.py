"""Whatever a function does in a child, it does to the child: crash, memory, time, faults, and what it is not told."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard import child
from leaderboard.child import Died, Limits
from leaderboard.errors import P2Error, RunFailed

HERE = f"{__name__}:"
SMALL = Limits(memory=60_000_000, cpu_s=0.5, clock_s=6.0)


def crash() -> Iterator[child.Answer]:
    os.abort()
    yield None, []


def leave() -> Iterator[child.Answer]:
    os._exit(3)
    yield None, []


def fill() -> Iterator[child.Answer]:
    yield len(bytearray(100_000_000)), []


def turn() -> Iterator[child.Answer]:
    while True:
        pass
    yield None, []


def sleep() -> Iterator[child.Answer]:
    time.sleep(100)
    yield None, []


def fault() -> Iterator[child.Answer]:
    yield 1, []
    raise KeyError("a bug")


def refuse(failed: bool) -> Iterator[child.Answer]:
    raise (RunFailed if failed else P2Error)("in words, \ud800")
    yield None, []


def echo(value: object, *blobs: bytes) -> Iterator[child.Answer]:
    yield value, blobs


def look() -> Iterator[child.Answer]:
    yield (
        {"names": sorted(os.environ), "files": len(list(Path("/proc/self/fd").iterdir())), "inside": child.inside()},
        [],
    )


@pytest.fixture(scope="module", autouse=True)
def found_by_the_template() -> Iterator[None]:
    """A template that finds this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setattr(child, "_the_template", None)
        yield
        child._end()


@pytest.mark.parametrize(
    ("function", "reason", "words"),
    [
        ("crash", child.CRASH, "SIGABRT"),
        ("leave", child.CRASH, "exit code 3"),
        ("fill", child.MEMORY, "memory"),
        ("turn", child.TIME, "too long"),
        ("sleep", child.TIME, "too long"),
        ("fault", child.FAULT, "KeyError"),
    ],
)
def test_what_ends_a_child_is_told_and_the_next_call_works(function, reason, words):
    before = sum(child.health()["died"].values())
    with pytest.raises(Died, match=words) as died:
        child.call(HERE + function, limits=SMALL)
    assert died.value.reason == reason
    assert sum(child.health()["died"].values()) == before + 1
    assert child.call(HERE + "echo", [1, "a\ud800"], b"x", b"") == ([1, "a\ud800"], [b"x", b""])


def test_refusals_are_raised_here():
    for failed, kind in ((False, P2Error), (True, RunFailed)):
        with pytest.raises(P2Error, match="in words") as error:
            child.call(HERE + "refuse", failed)
        assert type(error.value) is kind


def test_a_child_knows_neither_the_environment_nor_open_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with (tmp_path / "open").open("w"):
        told, _ = child.call(HERE + "look")
    assert told["inside"]
    assert not {name for name in told["names"] if "HF" in name or "TOKEN" in name}
    assert told["files"] <= 6  # three standard ones, the connection, the folder that is listed


def test_many_at_once_take_turns():
    answers = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(child.call(HERE + "echo", i)[0]))
        for i in range(3 * child.MOST)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == list(range(3 * child.MOST))


def test_a_template_that_was_killed_is_started_again():
    child.call(HERE + "echo", 1)
    child._the_template._process.send_signal(signal.SIGKILL)
    child._the_template._process.wait(10)
    assert child.call(HERE + "echo", 2)[0] == 2


def test_a_fork_of_this_process_has_a_template_of_its_own():
    ours = child.call(HERE + "echo", 1)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if child.call(HERE + "echo", 1) == ours else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert child.call(HERE + "echo", 1) == ours


def test_children_end_with_their_owner(tmp_path):
    code = (
        "from leaderboard import child\n"
        "with child.Child() as one:\n"
        "    one._connection.send_bytes(b'')\n"
        "    print(child._the_template._process.pid, flush=True)\n"
        "    import os; os._exit(0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    stat, deadline = Path(f"/proc/{ended.stdout.strip()}/stat"), time.monotonic() + 30
    while stat.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists()


def test_without_fork_calls_run_here(monkeypatch):
    monkeypatch.setattr(child, "FORK", False)
    assert child.call("leaderboard.logs.check:answer", "/nowhere")[0][0]["code"] == "unreadable"
