"""The recipes that ship with p2zoo: in a checkout under `recipes/`, in an installed package inside zoo."""

import shutil
from pathlib import Path

from leaderboard.errors import P2Error, unknown_name

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """Where the bundled recipes are."""
    for folder in (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes"):
        if (folder / "quickstart").is_dir():
            return folder
    raise P2Error("recipes: not found beside the package; reinstall p2zoo, or name a recipe file by its path.")


def recipe_names() -> list[str]:
    """Names such as quickstart/depth; `base` files are parents, not experiments."""
    root = recipes_folder()
    return sorted(
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml") if path.stem != "base"
    )


def find_recipe(name: str) -> Path:
    """A path as it is given, or a bundled recipe by its name."""
    path = Path(name)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return path
    if name not in recipe_names():
        raise unknown_name("recipe", name, recipe_names(), "p2zoo run", listed_by="p2zoo recipes list")
    return recipes_folder() / f"{name}.yaml"


def copy_recipes(target: Path) -> list[Path]:
    """Copy all bundled recipes, with the quickstart's model and text, into a new folder."""
    if target.exists() and any(target.iterdir()):
        raise P2Error(f"{target}: is not empty; name a new folder.")
    try:
        shutil.copytree(recipes_folder(), target, dirs_exist_ok=True)
    except OSError as error:
        raise P2Error(f"{target}: cannot be written: {error.strerror or error}.") from error
    return [target / f"{name}.yaml" for name in recipe_names()]
