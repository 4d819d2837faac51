"""The command of a wanted run is one that `p2zoo run` takes, by its base's own recipe; a base without one has none."""

import shlex

import pytest

from leaderboard.planning.bases import BASES, allowed, command
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe

CASES = [
    (base, method, rate)
    for base in BASES
    for method, rate in (("depth", 0.25), ("depth", 0.4), ("width", 0.2), ("2:4", 0.39), ("unstructured", 0.3))
    if allowed(BASES[base].family, method)
]


def test_every_known_base_has_a_folder():
    assert all(base.recipes for base in BASES.values())


@pytest.mark.parametrize(("base", "method", "rate"), CASES)
def test_a_command_is_one_that_run_takes(base, method, rate):
    words = shlex.split(command({"base_model": base, "method": method, "rate": rate, "tokens": 30_000_000}))
    assert words[:2] == ["p2zoo", "run"]
    assert words[3::2] == ["--set"] * len(words[3::2])
    recipe = load_recipe(find_recipe(words[2]), words[4::2])
    assert (recipe.model.name, recipe.prune.method) == (base, method)
    assert recipe.train.tokens == 30_000_000
    assert recipe.prune.rate == (None if method == "2:4" else rate)


@pytest.mark.parametrize(
    ("base", "method"),
    [
        ("", "depth"),
        ("p2lab/llama-3-s3", "depth"),
        ("Qwen/Qwen2.5-0.5B", "depth+2:4"),
        ("EleutherAI/pythia-1.4b", "width"),
    ],
)
def test_what_no_recipe_makes_has_no_command(base, method):
    assert command({"base_model": base, "method": method, "rate": 0.25, "tokens": 30_000_000}) is None
