"""Where a model comes from: a folder beside the recipe, a bundled config, or the Hub.

Finding and reading a config is light; weights are loaded in the functions at the end. Only built-in
architectures are loaded, never code from a repository. Every way a download can fail has its own message.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.hub_errors import OF_THE_HUB, Patience, link, offline, unreadable
from leaderboard.shapes import ARCHITECTURES, Shape, bundled_config, shape_of
from zoo.models import sizes
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import ModelSpec, Recipe

_FAILURES = (*OF_THE_HUB, LocalEntryNotFoundError, OSError)
_FILES = [
    "*.json",
    "*.safetensors",
    "*.model",
    "*.txt",
    "LICENSE*",
    "NOTICE*",
    "README.md",
]  # what loading and licences need


@dataclass(frozen=True)
class Source:
    """A model that was found: its config, and its folder once the files are here."""

    label: str
    revision: str | None
    config: dict[str, Any]
    shape: Shape
    folder: Path | None

    @property
    def weights(self) -> bool:
        """Whether they are on this machine."""
        return self.folder is not None and any(self.folder.glob("*.safetensors"))

    @property
    def family(self) -> str:
        """The family's name, as it stands in logs."""
        return self.shape.architecture.name


def describe(spec: ModelSpec, beside: Path) -> Source | None:
    """What can be known without a network: a local folder or a bundled config; None if neither has it."""
    if spec.scratch is not None:
        return _source(spec, sizes.config(spec.scratch.family, spec.scratch.size, spec.scratch.vocab_size), None, None)
    if spec.made_by is not None:
        made = describe(load_recipe(beside / spec.made_by).model, beside)
        return None if made is None else replace(made, label=spec.label)
    if spec.local:
        folder = _model_folder((beside / spec.name).resolve())
        config = _read_config(folder / "config.json", f"model.name: {spec.name}")
        return _source(spec, config, _hash_folder(folder), folder)
    bundled = bundled_config(spec.name)
    return None if bundled is None else _source(spec, bundled, spec.revision, None)


def _model_folder(named: Path) -> Path:
    """Of a run folder its model. That by itself is refused: the log would name every such base `model`."""
    if named.name == "model" and (named.parent / "run.json").is_file():
        raise P2Error(
            f"model.name: {named} is what a run made; name the run's folder, {named.parent}, whose name it has."
        )
    return named / "model" if (named / "run.json").is_file() else named


def resolve(
    spec: ModelSpec,
    beside: Path,
    accept: Callable[[Source], None] = lambda source: None,
    described: Source | None = None,
) -> Source:
    """The model with its files on this machine; downloads from the Hub, config first.

    `accept` sees the config before any weights are fetched, and may refuse by raising. `described` is what `describe`
    said of a local folder a moment ago, so that it is not hashed again.
    """
    if spec.made_by is not None:
        raise P2Error(
            f"model.name: {spec.name} makes a base model that is not there yet: `p2zoo pretrain` it, then name the "
            "result with --set model.name=/PATH/OF/RUN; `p2zoo sweep` does both by itself."
        )
    if spec.local:
        found = described or describe(spec, beside)
        if found is None or found.folder is None or not any(found.folder.glob("*.safetensors")):
            raise P2Error(f"model.name: {spec.name} has a config but no *.safetensors weights; save the model there.")
        accept(found)
        return found
    found = _on_hub(spec)
    accept(found)  # refuses before the weights are fetched
    folder = _fetch(spec, found.revision, _FILES)
    if not any(folder.glob("*.safetensors")):
        raise P2Error(
            f"model.name: {spec.name} has no *.safetensors weights {'in the cache' if offline() else 'on the Hub'}; "
            + (f"fetch them with `hf download {spec.name}`." if offline() else "name one that has.")
        )
    return replace(found, folder=folder)


def describe_ready(recipe: Recipe) -> Source | None:
    """What can be known without a network of the pruned model that `prune.from` names; None without one."""
    with _of_prune_from():
        return None if recipe.ready is None else describe(recipe.ready, recipe.folder)


def resolve_ready(
    recipe: Recipe, commit: str | None, accept: Callable[[Source], None], described: Source | None
) -> Source:
    """That model with its files on this machine, as `resolve`; of the Hub at `commit`, where that is known."""
    assert recipe.ready is not None
    spec = recipe.ready if recipe.ready.local or commit is None else replace(recipe.ready, revision=commit)
    with _of_prune_from():
        return resolve(spec, recipe.folder, accept, described)


@contextmanager
def _of_prune_from() -> Iterator[None]:
    """Messages name the key that named the model."""
    try:
        yield
    except P2Error as error:
        raise type(error)(str(error).replace("model.name:", "prune.from:", 1)) from error


def look_up(spec: ModelSpec, beside: Path) -> Source:
    """The model's config, from a folder, from what is bundled, or from the Hub; never its weights."""
    return describe(spec, beside) or _on_hub(spec)


def _on_hub(spec: ModelSpec) -> Source:
    folder = _fetch(spec, spec.revision, ["config.json"])
    config = _read_config(folder / "config.json", f"model.name: {spec.name}")
    return _source(spec, config, folder.name, None)  # a snapshot is named by its commit


def _fetch(spec: ModelSpec, revision: str | None, files: list[str]) -> Path:
    """The snapshot of a model in the cache, those files of it fetched; offline whatever of them is there."""

    def download() -> str:
        known = offline() or re.fullmatch(r"[0-9a-f]{40}", revision or "")
        commit = revision if known else HfApi().model_info(spec.name, revision=revision).sha
        return snapshot_download(spec.name, revision=commit, allow_patterns=files, local_files_only=offline())

    try:
        return Path(Patience(attempts=4).insist(download))
    except _FAILURES as error:
        raise hub_error(error, spec) from error


def hub_error(error: Exception, spec: ModelSpec) -> P2Error:
    """What a failed download of a model means, and what to do."""
    if isinstance(error, P2Error):
        return error
    page, instead = link(spec.name), "or download the model to a folder and name it ./folder"
    return unreadable(error, f"model.name: {spec.name}", page, instead, spec.revision)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise P2Error(f"model.name: no usable tokenizer in {folder.name}: {error}") from error


def load_model(folder: Path, precision: str) -> Any:
    """The model with its master weights: fp32, or bf16 where the recipe's precision is bf16-master."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any
    dtype = torch.bfloat16 if precision == "bf16-master" else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise P2Error(f"model.name: {folder.name} cannot be loaded: {error}") from error
    return model.to("cuda") if torch.cuda.is_available() else model


def cast_weights(model: Any, dtype: Any) -> None:
    """Change the dtype of the parameters; buffers such as rotary frequencies stay as from_pretrained has them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def save_model(model: Any, folder: Path) -> None:
    """`save_pretrained`, with a full disk as the OSError that it is."""
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def copy_licences(source: Source, folder: Path) -> None:
    """Licence and notice files travel with what is made from a model."""
    assert source.folder is not None
    for path in (*source.folder.glob("LICENSE*"), *source.folder.glob("NOTICE*")):
        shutil.copyfile(path, folder / path.name)


def _source(spec: ModelSpec, config: dict[str, Any], revision: str | None, folder: Path | None) -> Source:
    where = f"model.name: {spec.name}"
    shape = shape_of(config, where)
    family = shape.architecture.name
    names = {known.name for known in ARCHITECTURES.values()}
    if spec.family is not None and spec.family not in names:
        raise unknown_name("family", spec.family, names, "model.family")
    if spec.family is not None and spec.family != family:
        raise P2Error(f"model.family: got {spec.family!r}, but the config of {spec.name} says {family!r}; remove it.")
    return Source(spec.label, revision, config, shape, folder)


def _read_config(path: Path, where: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise P2Error(f"{where}: no config.json there; a model folder is what save_pretrained writes.") from None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise P2Error(f"{where}: its config.json cannot be read: {error}.") from None


def _hash_folder(folder: Path) -> str:
    """Hash of what defines a local model: config, weights and tokenizer, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".model"):
            digest.update(f"{path.name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
