"""Recipe files: YAML, one parent through `extends`, overrides from the command line.

A message names the place that set the value: a file of the chain or `--set`. Relative paths start at
the file that writes them; in the result they start at the recipe's own folder.
"""

import math
import os
import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from leaderboard import words
from leaderboard.errors import P2Error
from zoo.recipe.spec import Recipe, as_data
from zoo.recipe.strict import build, kind_of

Data = dict[str, Any]
_WAYS = ("rate", "layers", "from")  # of saying what pruning takes: one named later stands in place of one named before
_PATHS = (
    ("model", "name"), ("model", "scratch", "tokenizer"), ("prune", "from"), ("data", "train", "file"),
    ("data", "heldout", "file"), ("train", "distill", "logits"), ("train", "trunk"),
)  # fmt: skip


def load_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = (), corpus: Path | None = None) -> Recipe:
    """The recipe in `path`, with `--set` style overrides (`prune.rate=0.25`) on top.

    `corpus` is a file that stands in for every data set of the Hub it names; skip and take stay as they are.
    """
    path = Path(path)
    data, origin = _read_chain(path, path.parent, ())
    if corpus is not None:
        _stand_in(data, corpus)
    for item in overrides:
        _override(data, origin, item)
    data.setdefault("name", default_name(path))
    return parse_recipe(data, path.parent, origin, str(path))


def parse_recipe(data: Data, folder: Path, origin: dict[str, str] | None = None, where: str = "recipe") -> Recipe:
    """A recipe from plain data; `origin` says which place set a dotted key, `where` stands for the rest."""
    try:
        recipe = build(Recipe, {key: value for key, value in data.items() if key != "folder"})
    except P2Error as error:
        raise P2Error(f"{_place(str(error), origin or {}, where)}: {error}") from None
    object.__setattr__(recipe, "folder", folder.resolve())
    return recipe


def to_yaml(recipe: Recipe, folder: Path | None = None) -> str:
    """The resolved recipe; with `folder`, local paths are rewritten to start there."""
    data = as_data(recipe)
    if folder is not None:
        _move_paths(data, recipe.folder, folder.resolve())
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def default_name(path: Path) -> str:
    """`recipes/quickstart/depth.yaml` -> `quickstart-depth`."""
    folder = path.resolve().parent.name
    return f"{folder}-{path.stem}" if folder else path.stem


def _read_chain(path: Path, target: Path, above: tuple[Path, ...]) -> tuple[Data, dict[str, str]]:
    """Merged data of a file and its parents, and which file set each dotted key."""
    if path.resolve() in above:
        raise P2Error(f"{above[-1]}: extends: {path} is already in the chain; a recipe cannot extend itself.")
    data = _read(path)
    parent = data.pop("extends", None)
    _move_paths(data, path.parent.resolve(), target.resolve())
    origin = {key: str(path) for key, _ in _leaves(data)}
    if parent is None:
        return data, origin
    if not isinstance(parent, str):
        raise P2Error(f"{path}: extends: got {parent!r}, allowed is the path of one other recipe file.")
    base, base_origin = _read_chain(path.parent / parent, target, (*above, path.resolve()))
    if any(way in data["prune"] for way in _WAYS if isinstance(data.get("prune"), dict)):
        _forget_ways(base)
    return _merge(base, data), base_origin | origin


def _read(path: Path) -> Data:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise P2Error(f"{path}: no such recipe. `p2zoo recipes list` shows the bundled ones.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise P2Error(f"{path}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise P2Error(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise P2Error(f"{path}: a recipe is a mapping of keys to values, got {type(data).__name__}.")
    return data


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key written twice; plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.YAMLError(f"key {twice!r} is written twice, line {node.start_mark.line + 1} and below")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that `_Loader` or YAML 1.1 would read as a number: a commit 12e4567, 2:4."""


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(node.value).replace("_", ""))


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""))


_DIGITS = r"[0-9][0-9_]*"
_FORMS = {  # numbers as YAML 1.2 knows them, with underscores: 1e9 is one, 2:4 and a date are text, 010 is ten
    "int": rf"[-+]?{_DIGITS}\Z",
    "float": rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?\Z",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in (*_FORMS, "timestamp")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _form in _FORMS.items():
    for _one in (_Loader, _Dumper):
        _one.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_form), list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _stand_in(data: Data, corpus: Path) -> None:
    """Name the file `corpus` wherever a data set of the Hub is named."""
    texts = data.get("data", {})
    blend = texts["train"].get("blend") if isinstance(texts.get("train"), dict) else None
    if isinstance(blend, list) and any(isinstance(part, dict) and part.get("dataset") for part in blend):
        raise P2Error("--corpus: one file cannot stand for a blend of data sets; name files in data.train.blend.")
    for part in ("train", "heldout"):
        place = texts.get(part)
        if isinstance(place, dict) and place.get("dataset") is not None:
            for key in ("dataset", "subset", "split", "revision"):
                place.pop(key, None)
            place["file"] = str(corpus.resolve())


def _override(data: Data, origin: dict[str, str], item: str) -> None:
    dotted, equals, text = item.partition("=")
    if not equals or not dotted:
        raise P2Error(f"--set {item}: allowed is KEY=VALUE with a dotted key, e.g. --set prune.rate=0.25.")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise P2Error(f"--set {item}: the value is not valid YAML.") from None
    if value is not None:
        value = _meant(kind_of(Recipe, dotted), value, text)
    *parents, last = dotted.split(".")
    if parents == ["prune"] and last in _WAYS and value is not None:
        _forget_ways(data, origin)
    place = data
    for key in parents:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise P2Error(f"--set {item}: {key} holds a value, not keys.")
    place[last] = value
    origin[dotted] = "--set"


def _meant(kind: Any, value: Any, text: str) -> Any:
    """A value from the command line, by what its field takes: a name of digits is a name, 8,9 a list, 1B a count."""
    if kind is str:
        return value if isinstance(value, str) else text
    if get_origin(kind) is tuple and not isinstance(value, list):
        return [_meant(get_args(kind)[0], yaml.load(part, _Loader), part.strip()) for part in text.split(",")]
    number = words.read_count(value) if kind in (int, float) and isinstance(value, str) else None
    return number if number is not None and math.isfinite(number) else value


def _forget_ways(data: Data, origin: dict[str, str] | None = None) -> None:
    """Drop what says how much pruning takes, but for what `--set` said: two of those contradict each other."""
    prune: Any = data.get("prune")
    for way in _WAYS if isinstance(prune, dict) else ():
        if (origin or {}).get(f"prune.{way}") != "--set":
            prune.pop(way, None)


def _merge(base: Data, over: Data) -> Data:
    """`over` on top of `base`; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _leaves(data: Data, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        yield f"{above}{key}", value
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")


def _move_paths(data: Data, old: Path, new: Path) -> None:
    """Rewrite relative paths that start at folder `old` so that they start at `new`."""
    for *parents, last in _PATHS:
        place: Any = data
        for key in parents:
            place = place.get(key) if isinstance(place, dict) else None
        if parents == ["data", "train"] and isinstance(place, dict) and isinstance(place.get("blend"), list):
            for part in place["blend"]:
                _move_paths({"data": {"train": part}}, old, new)
        value = place.get(last) if isinstance(place, dict) else None
        if isinstance(value, str) and not value.startswith("/") and (last == "file" or value.startswith(".")):
            moved = Path(os.path.relpath(old / value, new)).as_posix()
            place[last] = moved if last == "file" or moved.startswith(".") else f"./{moved}"


def _place(message: str, origin: dict[str, str], where: str) -> str:
    """The file, or `--set`, that wrote the key a message begins with."""
    key = re.sub(r"\[\d+\]", "", message.partition(":")[0])  # of an entry of a list, the list
    while key:
        if key in origin:
            return origin[key]
        key = key.rpartition(".")[0]
    return where
