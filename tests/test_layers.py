"""The rooms of the house: who may import whom, and what a light import costs.

space/ -> leaderboard/ <- zoo/ <- recipes/, whose scripts may import what they show
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers", "trl", "accelerate", "datasets", "safetensors", "matplotlib"}
FORBIDDEN = {
    "leaderboard": {*HEAVY, "gradio", "plotly", "zoo", "space"},
    "zoo": {"gradio", "plotly", "space"},
    "space": {*HEAVY, "zoo"},
    "recipes": {"gradio", "plotly", "space"},
}
THE_METRIC = ROOT / "leaderboard" / "metric" / "asd" / "asd.py"  # one leaf may import evaluate and datasets
# In a house, a room may import those that stand later; whoever stands in none is a leaf that all may import.
ROOMS = {
    "zoo": "__main__ cli jobs review sweep publish loads run training evaluation estimate inputs recipe pruning models",
    "leaderboard": "__init__ metric seed serving studies planning ranking fitting importing laws logs shapes evidence",
    "space": "__main__ app pages server parts",
}
DEVHUB_FOR = {"cli", "review"}  # rooms that start the Hub for development
MOST_MODULES = 18  # in a folder
OF_LEADERBOARD = {"numpy", "scipy", "threadpoolctl", "pandas", "pyarrow", "huggingface_hub", "httpx2", "leaderboard"}
LIGHT = ["recipe/*", "models/families", "models/sizes", "pruning/plan", "pruning/spec", "cli/*"]


def imported(path: Path, functions: bool = True) -> Iterator[str]:
    """Top-level packages that a file imports; without `functions`, only where the import runs on loading."""
    return (name.split(".")[0] for name in modules(path, functions))


def modules(path: Path, functions: bool = True) -> Iterator[str]:
    """Modules that a file imports, and names taken from them."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif functions or not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _only_for_types(node)):
            waiting += ast.iter_child_nodes(node)


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def files(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_only_what_it_may(layer):
    for path in files(layer):
        assert path == THE_METRIC or not FORBIDDEN[layer] & set(imported(path)), path


def test_the_leaderboard_needs_few_packages():
    assert files("leaderboard")
    for path in files("leaderboard"):
        others = set(imported(path)) - OF_LEADERBOARD - sys.stdlib_module_names
        assert others <= ({"datasets", "evaluate"} if path == THE_METRIC else set()), path


@pytest.mark.parametrize("house", ROOMS)
def test_no_arrow_goes_back_up(house):
    order = {name: i for i, name in enumerate(ROOMS[house].split())}
    for path in files(house):
        room = path.relative_to(ROOT / house).with_suffix("").parts[0]
        for other in {name.split(".")[1] for name in modules(path) if name.startswith(f"{house}.")} - {room}:
            if other == "devhub":
                assert room in DEVHUB_FOR, path
            elif other in order:
                assert order.get(room, len(order)) < order[other], f"{path} imports {house}.{other}"


def test_no_folder_holds_more_than_a_reader_takes_in():
    for house in (*ROOMS, "tests"):
        for folder in {path.parent for path in files(house)}:
            assert len(list(folder.glob("*.py"))) <= MOST_MODULES, folder


@pytest.mark.parametrize("pattern", LIGHT)
def test_light_modules_of_the_zoo_load_nothing_heavy(pattern):
    paths = sorted((ROOT / "zoo").glob(f"{pattern}.py"))
    assert paths
    for path in paths:
        assert not HEAVY & set(imported(path, functions=False)), path


def test_imports_at_the_top_are_told_from_those_in_functions(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(
        "import os.path\nfrom torch import nn\nif TYPE_CHECKING:\n    import gradio\n"
        "try:\n    import yaml\nexcept ImportError:\n    pass\ndef f():\n    import trl\nfrom . import near\n"
    )
    assert set(imported(path)) == {"os", "torch", "gradio", "yaml", "trl"}
    assert set(imported(path, functions=False)) == {"os", "torch", "yaml"}


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("leaderboard", {*HEAVY, "gradio", "huggingface_hub", "evaluate", "zoo"}),
        (
            "zoo.cli, zoo.recipe.spec, zoo.recipe.files, zoo.models.families",
            {*HEAVY, "gradio", "huggingface_hub", "uvicorn"},
        ),
    ],
)
def test_a_light_import_loads_nothing_heavy(modules, absent):
    code = f"import sys, {modules}; print(*{{name.split('.')[0] for name in sys.modules}})"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=200
    )
    loaded = set(ended.stdout.split())
    assert "leaderboard" in loaded
    assert not absent & loaded


EXTRAS = {"leaderboard": {"train"}, "zoo": {"train", "tasks", "watch", "hub"}, "space": {"space"}}  # beside the base
CALLED = {"yaml": "pyyaml", "lm_eval": "lm-eval"}  # import -> package


@pytest.mark.parametrize("folder", EXTRAS)
def test_every_package_that_is_imported_is_declared(folder):
    """leaderboard's one metric module, loaded by `evaluate`, comes with the extra `train`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in EXTRAS[folder] for line in project["optional-dependencies"][extra]
    ]
    declared = {Requirement(line).name for line in lines}
    names = {name for path in files(folder) for name in imported(path)} - sys.stdlib_module_names
    assert {CALLED.get(name, name) for name in names} - {"leaderboard", "zoo", "space"} <= declared
