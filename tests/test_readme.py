"""Every page does what it says: its command and Python blocks run, in order, in an empty folder.

A word after the language says how: none = in the fast suite; `slow` = in the slow suite, with all the others before it;
`make` = the targets exist; `install` = pip resolves it; `printed` = what the block before it prints (`make`: the demo).
`example` is run by test_contributing.py, and the addresses of space/README.md by tests/space/server/test_api.py.
"""

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, blocks, text, unlike
from zoo.devhub import client_env, serve

INTERPRETER = {"sh": ["bash", "-euc"], "python": [sys.executable, "-W", "error", "-c"]}
HOW = {
    "sh": {"", "slow", "make", "install"},
    "python": {"", "slow", "example"},
    "text": {"", "printed"},
    "json": {""},
    "yaml": {""},
}
RUN = [page for page in PAGES if page != "space/README.md" and any(b.language in INTERPRETER for b in blocks(page))]
SLOW = [page for page in RUN if any(b.how == "slow" for b in blocks(page))]


def lines(how: str) -> list[str]:
    """Commands of all blocks of a kind, comments left out."""
    found = [
        line.partition("#")[0].strip()
        for page in PAGES
        for b in blocks(page)
        if b.how == how
        for line in b.code.split("\n")
    ]
    return sorted(set(filter(None, found)))


def play(page: str, folder: Path, how: set[str], **extra: str) -> int:
    """Run the blocks of a page in `folder`, which has the parts of the checkout, `extra` in the environment."""
    for name in ("tests", "leaderboard", "zoo", "recipes", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "P2ZOO_CACHE": str(folder / "cache"), **extra}
    chosen = [b for b in blocks(page) if b.language in INTERPRETER and b.how in how]
    for block in chosen:
        done = subprocess.run(
            [*INTERPRETER[block.language], block.code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.stdout.strip(), block.code
    return len(chosen)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run(page):
    fences = re.findall(r"^```", text(page), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))
    assert all(block.how in HOW[block.language] for block in blocks(page))


FIRST = ("README.md", "CONTRIBUTING.md")  # of every suite; the rooms' pages are in the sample


@pytest.mark.parametrize(
    "page",
    [page if page in FIRST else pytest.param(page, marks=[pytest.mark.slow, pytest.mark.sample]) for page in RUN],
)
def test_the_quick_blocks_run(page, tmp_path):
    assert play(page, tmp_path, {""})


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_all_blocks_run(page, tmp_path):
    """With a Hub on this machine, whose user is called `me`."""
    (tmp_path / "page").mkdir()
    with serve(tmp_path / "hub", {"me": "hf_me"}) as url:
        assert play(page, tmp_path / "page", {"", "slow"}, **client_env(url, "hf_me"), HF_HOME=str(tmp_path / "home"))


@pytest.mark.slow
def test_the_demo_prints_what_the_page_shows(tmp_path):
    (shown,) = [b.code for before, b in pairwise(blocks("README.md")) if (before.how, b.how) == ("make", "printed")]
    demo = subprocess.run(
        [sys.executable, "-m", "zoo", "demo"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=850,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stderr[-3000:]
    assert not unlike(shown, demo.stdout)


def test_the_first_page_is_short():
    assert len(text("README.md").splitlines()) <= 150


@pytest.mark.parametrize("command", lines("make"))
def test_make_targets_exist(command):
    subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize("command", lines("install"))
def test_pip_can_install_it(command):
    """Resolved against what is installed, so that nothing is downloaded and nothing changed."""
    settings = {"PIP_DRY_RUN": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command.replace('"', "").split()],
        cwd=ROOT, env=os.environ | settings, capture_output=True, text=True,
    timeout=800)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Would install p2zoo" in done.stdout


def test_the_top_level_is_what_it_should_be():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=200
    ).stdout
    assert {line.partition("/")[0] for line in tracked.splitlines()} == {
        "zoo", "recipes", "space", "leaderboard", "tests", "pyproject.toml", "README.md", "Makefile", "LICENSE",
        "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SKILL.md", "NOTICE", "constraints.txt", ".ci", ".gitignore",
    }  # fmt: skip
