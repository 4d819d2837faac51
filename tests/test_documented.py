"""What a user can name is on a page: recipes, methods, importances, families, laws, commands. Files named exist."""

import re
from collections import Counter
from itertools import product

import pytest
import typer

from leaderboard import LAWS
from leaderboard.planning.bases import BASES
from leaderboard.shapes import ARCHITECTURES
from tests.pages import PAGES, ROOT, text
from zoo.cli import app
from zoo.pruning.methods import importances
from zoo.recipe.catalog import recipe_names

ZOO, RECIPES, LEADERBOARD = (text(f"{room}/README.md") for room in ("zoo", "recipes", "leaderboard"))


def commands() -> list[str]:
    """Every `p2zoo` command, subcommands as `recipes list`."""
    top = typer.main.get_command(app).commands
    nested = {name: getattr(command, "commands", None) for name, command in top.items()}
    return [name if not inner else f"{name} {sub}" for name, inner in nested.items() for sub in inner or [""]]


@pytest.mark.parametrize("name", commands())
def test_every_command_is_in_the_table(name):
    assert f"| `p2zoo {name}" in ZOO


def test_the_recipe_table_stands_for_every_recipe_and_no_other():
    table = RECIPES.partition("| recipe |")[2].partition("\n\n")[0]
    patterns = [row.split("`")[1] for row in table.splitlines()[2:]]
    named = [name for pattern in patterns for name in in_braces(pattern)]
    assert sorted(named) == recipe_names()


def in_braces(pattern: str) -> list[str]:
    """What a pattern stands for, as in a shell: `a-{1,2}` is a-1 and a-2."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in product(*parts)]


@pytest.mark.parametrize("method", importances())
def test_every_method_is_in_the_table_with_its_importance_scores(method):
    (row,) = [line for line in ZOO.splitlines() if line.startswith(f"| `{method}` |")]
    assert all(f"`{importance}`" in row for importance in importances()[method])


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_every_law_is_in_the_table_with_its_formula_and_source(law):
    assert f"| `{law.name}` | ${law.latex}$ | {law.source} |" in LEADERBOARD


@pytest.mark.parametrize("family", ARCHITECTURES.values(), ids=lambda family: family.name)
def test_every_family_is_named(family):
    assert f"`{family.name}`" in ZOO


def test_the_tree_on_the_first_page_has_every_room_and_no_other():
    tree = text("README.md").partition("## The house")[2].partition("```text\n")[2].partition("```")[0]
    for house in ("zoo", "leaderboard", "space"):
        (section,) = [part for part in re.split(r"^(?=\w)", tree, flags=re.MULTILINE) if part.startswith(f"{house}/")]
        rooms = {file.relative_to(ROOT / house).parts[0] for file in (ROOT / house).glob("*/**/*.py")}
        assert set(re.findall(r" (\w+)/", section)) == rooms


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    named = set(re.findall(r"`([\w./-]+\.py)`|\]\(([\w./-]+)\)", text(page)))
    near = (ROOT, (ROOT / page).parent)
    assert not [name for both in named for name in both if name and not any((at / name).exists() for at in near)]


def test_the_table_of_recipes_counts_them():
    count = Counter(name.rpartition("/")[0] for name in recipe_names())
    bases = {base.recipes for base in BASES.values()}
    real = sum(runs for group, runs in count.items() if group in bases)
    told = {
        group: int(runs)
        for group, runs in re.findall(r"^\| `([a-z0-9./-]+)/`[^|]*\|[^|]*\| (\d+) \|", RECIPES, re.MULTILINE)
    }
    assert told == {group: runs for group, runs in count.items() if group not in bases} | {"llama-3.2-1b": real}
