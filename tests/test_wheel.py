"""The wheel holds all that the base install needs, and the `p2zoo` in it works where PyTorch is not installed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRAIN = ("torch", "transformers", "trl", "datasets", "accelerate", "evaluate", "safetensors", "matplotlib")
WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {TRAIN}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
"""
pytestmark = [pytest.mark.slow, pytest.mark.sample]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run(command, cwd=ROOT, check=True, timeout=800)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def p2zoo(wheel, tmp_path_factory):
    """p2zoo(*arguments): the installed command, in an empty folder, without what the extra `train` brings."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel],
        check=True,
        timeout=800,
    )
    (site / "sitecustomize.py").write_text(WITHOUT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, site / "bin" / "p2zoo", *arguments],
            env=os.environ | {"PYTHONPATH": str(site)},
            cwd=empty,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )

    where = [sys.executable, "-c", "import zoo, leaderboard; print(zoo.__file__, leaderboard.__file__)"]
    found = subprocess.run(
        where, env=os.environ | {"PYTHONPATH": str(site)}, cwd=empty, capture_output=True, text=True, timeout=800
    )
    assert found.stdout.count(str(site)) == 2
    return run


def test_it_holds_every_tracked_file_of_the_packages(wheel):
    """Code, seed, configs and recipes; nothing of the tests, and nothing else."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    folders = ["leaderboard", "zoo", "space", "recipes"]
    tracked = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, check=True, capture_output=True, text=True, timeout=800
    ).stdout
    wanted = {
        path.replace("recipes/", "zoo/_recipes/", 1) if path.startswith("recipes/") else path
        for path in tracked.split("\n")
    }
    assert not {path for path in wanted - names if path}
    assert {name.partition("/")[0] for name in names} == {"leaderboard", "zoo", "space"}


def test_the_light_commands_work(p2zoo):
    listed = p2zoo("recipes", "list")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.split() == sorted(
        path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        for path in (ROOT / "recipes").rglob("*.yaml")
        if path.stem != "base"
    )
    one_of_each = {name.partition("/")[0]: name for name in listed.stdout.split()}
    for name in one_of_each.values():
        planned = p2zoo("run", name, "--dry-run")
        assert planned.returncode == 0, planned.stderr
        assert "Dry run: nothing was downloaded" in planned.stdout
    ranked = p2zoo("rank")
    assert ranked.returncode == 0, ranked.stderr
    assert "damage-drift" in ranked.stdout


def test_what_needs_the_extra_says_so(p2zoo):
    for command in (["run", "quickstart/depth"], ["plot", "seed"]):
        refused = p2zoo(*command)
        assert refused.returncode == 2
        assert "pip install 'p2zoo[train]'" in refused.stderr
        assert "Traceback" not in refused.stderr
