"""The layers of the house: who may import whom, and what a light import costs.

space/ -> leaderboard/ <- zoo/ <- recipes/
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers", "trl", "accelerate", "datasets", "safetensors", "matplotlib"}
FORBIDDEN = {
    "leaderboard": {*HEAVY, "gradio", "plotly", "zoo", "space"},
    "zoo": {"gradio", "plotly", "space"},
    "space": {*HEAVY, "zoo"},
    "recipes": {*HEAVY, "gradio", "plotly", "leaderboard", "space"},
}
THE_METRIC = ROOT / "leaderboard" / "metric" / "asd" / "asd.py"  # one leaf may import evaluate and datasets
OF_LEADERBOARD = {"numpy", "scipy", "threadpoolctl", "pandas", "pyarrow", "huggingface_hub", "leaderboard"}
LIGHT = ["recipe/*", "models/*", "pruning/plan", "pruning/spec", "cli/*"]


def imported(path: Path, functions: bool = True) -> Iterator[str]:
    """Top-level packages that a file imports; without `functions`, only where the import runs on loading."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
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
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(ended.stdout.split())
    assert "leaderboard" in loaded
    assert not absent & loaded
