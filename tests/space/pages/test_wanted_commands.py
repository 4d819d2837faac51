"""A wanted run names a base that exists, and commands that `p2zoo` takes, the base's own first; none are left out."""

import shlex

import pytest

from leaderboard.planning.bases import BASES, LADDER, TEXTS, allowed, commands, joinable, named
from leaderboard.shapes import parameters, shape_of
from zoo.models.sizes import config
from zoo.recipe.catalog import find_recipe, recipe_names
from zoo.recipe.files import load_recipe

RUN = {"family": "llama-3", "base_model": "meta-llama/Llama-3.2-1B", "n0": 1.24e9, "method": "depth", "rate": 0.25}
RUN |= {"tokens": 30_000_000}
BASE = [{"base_model": base.name, "family": base.family} for base in BASES.values()]
BASE += [{"base_model": f"p2lab/{f}-{size}", "family": f} for f, sizes in LADDER.items() for size in sizes]
BASE += [{"base_model": "org/other", "family": "qwen-2.5"}]
PRUNING = (("depth", 0.25), ("depth", 0.4), ("width", 0.2), ("2:4", 0.39), ("unstructured", 0.3))


@pytest.mark.parametrize("base", BASE, ids=lambda base: base["base_model"])
def test_commands_are_ones_that_p2zoo_takes(base):
    for method, rate in (pair for pair in PRUNING if allowed(base["family"], pair[0])):
        lines = commands(RUN | base | {"method": method, "rate": rate})
        *first, run = (shlex.split(line.replace("$PWD", "/here")) for line in lines)
        assert run[:2] == ["p2zoo", "run"]
        assert run[3::2] == ["--set"] * len(run[3::2])
        recipe = load_recipe(find_recipe(run[2]), run[4::2])
        assert (recipe.prune.method, recipe.train.tokens) == (method, 30_000_000)
        assert recipe.prune.rate == (None if method == "2:4" else rate)
        for words in first:
            assert words[:2] == ["p2zoo", "pretrain"]
            made = load_recipe(find_recipe(words[2]))
            assert words[2] == named(RUN | base)
            assert made.model.scratch.family == base["family"]
            assert recipe.model.name == f"/here/{words[4]}"  # where the first command puts it
        assert bool(first) == base["base_model"].startswith("p2lab/")
        assert first or recipe.model.name == base["base_model"]


def test_a_run_is_measured_on_the_text_of_its_group():
    assert joinable("yardstick")
    assert not joinable("p2lab/docs-heldout")  # nobody has it
    assert not joinable("mine.txt@0123")
    for text in (*TEXTS, "org/data/train", "org/data/config/validation[10:30]"):
        run = shlex.split(commands(RUN, f"{text}@0123456789ab")[-1])
        assert load_recipe(find_recipe(run[2]), run[4::2]).data.heldout.label == text
    ladder = commands(RUN | {"base_model": "p2lab/llama-3-s1"}, f"{TEXTS[1]}@0123456789ab")
    assert "data.heldout" not in ladder[-1]


def test_a_base_without_a_name_is_the_next_of_the_ladder_where_one_is_near():
    assert named({"base_model": "", "family": "qwen-2.5", "n0": 38.6e6}) == "ladder/bases/qwen-2.5-s3"
    assert named({"base_model": "", "family": "llama-3", "n0": 95e6}) is None
    assert commands(RUN | {"base_model": ""}) == []
    assert commands(RUN | {"method": "depth+2:4"}) == []
    assert commands(RUN | {"base_model": "EleutherAI/pythia-1.4b", "family": "gpt-neox", "method": "width"}) == []


def test_the_ladder_is_what_recipes_make():
    made = {f"{family}-{size}" for family, sizes in LADDER.items() for size in sizes}
    assert made == {name.rpartition("/")[2] for name in recipe_names() if name.startswith("ladder/bases/")}
    for family, sizes in LADDER.items():
        for size, n0 in sizes.items():
            assert parameters(shape_of(config(family, size, vocab_size=16_384))) == n0
