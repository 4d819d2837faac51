"""What a user can name is in README.md: every recipe, method, importance, family, law and command."""

import re
from itertools import product
from pathlib import Path

import pytest
import typer

from leaderboard import LAWS
from leaderboard.shapes import ARCHITECTURES
from zoo.cli import app
from zoo.pruning.spec import IMPORTANCE
from zoo.recipe.catalog import recipe_names

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every `p2zoo` command, subcommands as `recipes list`."""
    top = typer.main.get_command(app).commands
    nested = {name: getattr(command, "commands", None) for name, command in top.items()}
    return [name if not inner else f"{name} {sub}" for name, inner in nested.items() for sub in inner or [""]]


@pytest.mark.parametrize("name", commands())
def test_every_command_is_in_the_table(name):
    assert f"| `p2zoo {name}" in README


def test_the_recipe_table_stands_for_every_recipe_and_no_other():
    table = README.partition("| recipe |")[2].partition("\n\n")[0]
    patterns = [row.split("`")[1] for row in table.splitlines()[2:]]
    named = [name for pattern in patterns for name in in_braces(pattern)]
    assert sorted(named) == recipe_names()


def in_braces(pattern: str) -> list[str]:
    """What a pattern stands for, as in a shell: `a-{1,2}` is a-1 and a-2."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in product(*parts)]


@pytest.mark.parametrize("method", IMPORTANCE)
def test_every_method_is_in_the_table_with_its_importance_scores(method):
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{method}` |")]
    assert all(f"`{importance}`" in row for importance in IMPORTANCE[method])


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_every_law_is_in_the_table_with_its_formula_and_source(law):
    assert f"| `{law.name}` | ${law.latex}$ | {law.source} |" in README


@pytest.mark.parametrize("family", ARCHITECTURES.values(), ids=lambda family: family.name)
def test_every_family_is_named(family):
    assert f"`{family.name}`" in README
