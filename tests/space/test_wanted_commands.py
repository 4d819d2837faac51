"""The command of a wanted run is one that `p2zoo run` takes, and names the own recipe of a base that has one."""

import shlex

import pytest

from leaderboard.bases import BASES
from leaderboard.recipes import FOLDERS, command
from zoo.catalog import find_recipe, recipe_names
from zoo.recipe_file import load_recipe

BUNDLED = recipe_names()
CASES = [
    (base, method, rate)
    for base in ("", "p2lab/llama-3-s3", *BASES)
    for method, rate in (("depth", 0.25), ("depth", 0.4), ("width", 0.2), ("2:4", 0.39))
]


def test_every_known_base_has_a_folder():
    assert FOLDERS.keys() == BASES.keys()


@pytest.mark.parametrize(("base", "method", "rate"), CASES)
def test_a_command_is_one_that_run_takes(base, method, rate):
    words = shlex.split(command({"base_model": base, "method": method, "rate": rate, "tokens": 30_000_000}))
    assert words[:2] == ["p2zoo", "run"]
    assert words[3::2] == ["--set"] * len(words[3::2])
    name, changes = words[2], words[4::2]
    if base in FOLDERS:
        assert name.split("/")[0] == FOLDERS[base]
        if name not in BUNDLED:
            pytest.skip(f"{name} is not bundled yet")
    recipe = load_recipe(find_recipe(name), changes)
    assert (recipe.model.name, recipe.prune.method) == (base or "YOUR/MODEL", method)
    assert recipe.train.tokens == 30_000_000
    assert recipe.prune.rate == (None if method == "2:4" else rate)
