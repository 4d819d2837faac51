"""Where a model comes from: a folder beside the recipe, a bundled config, or the Hub.

Finding and reading a config is light; weights are loaded in the functions at the end. Only built-in
architectures are loaded, never code from a repository. Every way a download can fail has its own message.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.hub_errors import OF_THE_HUB, Patience, link, offline, unreadable
from leaderboard.shapes import ARCHITECTURES, Shape, bundled_config, shape_of
from zoo.inputs.settings import check_config, check_files
from zoo.inputs.tokenizer import first_line
from zoo.inputs.tokenizer import load_tokenizer as load_tokenizer
from zoo.inputs.weights import (
    DTYPES,
    INDEX,
    SINGLE,
    check_weights,
    read_headers,
    read_index,
    stored_dtype,
    weight_files,
    weight_names,
)
from zoo.models import sizes
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import ModelSpec, Recipe

_FAILURES = (*OF_THE_HUB, LocalEntryNotFoundError, OSError)
_SMALL = ("*.json", "*.model", "*.txt", "*.jinja", "LICENSE*", "NOTICE*", "README.md")  # what loading and licences need
_COMPANIONS = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("*.model", "*.jinja", "chat_template.json", "generation_config.json", "LICENSE*", "NOTICE*"),
)
_FIRST = ["config.json", INDEX]  # what says whether the rest is worth fetching, and which files are the weights


_TORCH_DTYPES = {row.name for row in DTYPES.values()}


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
        return _source(spec, config, _hash_folder(folder, f"model.name: {spec.name}"), folder)
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
        assert found is not None
        accept(found)
        if described is None:  # the estimate has looked at what it described
            check_base(found)
        return found
    found = _on_hub(spec)
    accept(found)  # refuses before the weights are fetched
    shards = weight_names(set(), read_index(_fetch(spec, found.revision, _FIRST), f"model.name: {spec.name}"))
    folder = _fetch(spec, found.revision, [*_SMALL, SINGLE, *shards])
    if not any(folder.glob("*.safetensors")):
        raise P2Error(
            f"model.name: {spec.name} has no *.safetensors weights {'in the cache' if offline() else 'on the Hub'}; "
            + (f"fetch them with `hf download {spec.name}`." if offline() else "name one that has.")
        )
    fetched = replace(found, folder=folder)
    check_base(fetched)
    return fetched


def check_base(source: Source) -> None:
    """Refuse a base on this machine whose files cannot be what its config says: see weights.py.

    Reads every number once, so a run that follows does not fail on what a dry run let pass.
    """
    where = f"model.name: {source.label}"
    assert source.folder is not None
    try:
        check_files(source.folder, source.shape, where)
        check_weights(source.folder, source.shape, where)
    except OSError as error:
        raise P2Error(f"{where}: its files cannot be read: {error.strerror or error}.") from error


def dtype_of(source: Source) -> str:
    """In what the model's weights are kept: as its config says, else as its files do."""
    told = source.config.get("dtype") or source.config.get("torch_dtype")
    if told in _TORCH_DTYPES:
        return str(told)
    assert source.folder is not None
    where = f"model.name: {source.label}"
    return stored_dtype(read_headers(weight_files(source.folder, where), where))


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


def load_model(folder: Path, precision: str) -> Any:
    """The model with its master weights: fp32, or bf16 where the recipe's precision is bf16-master.

    Raises P2Error where transformers would fill in, pass over or cut anything.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if precision == "bf16-master" else torch.float32
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # of safetensors, of strict configs, of torch: whatever a broken file leads to
        raise P2Error(f"model.name: {folder.name} cannot be loaded: {first_line(error)}") from error
    model, info = loaded
    for kind in ("missing", "unexpected", "mismatched"):
        if names := sorted(str(item[0] if isinstance(item, tuple) else item) for item in info[f"{kind}_keys"]):
            raise P2Error(f"model.name: {folder.name} has {len(names)} {kind} tensors: {', '.join(names[:3])}.")
    _clean_generation(model)
    return model.to("cuda") if torch.cuda.is_available() else model


def _clean_generation(model: Any) -> None:
    """Sampling settings without sampling are read by transformers, and then never written again: they go."""
    settings = model.generation_config
    try:
        settings.validate(strict=True)
    except ValueError:
        kept = {key: getattr(settings, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = type(settings)(**kept)


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
    old_spellings(folder / "config.json")
    for path in folder.iterdir():
        path.chmod(0o666 & ~_umask())  # safetensors gives its files to their owner alone


def old_spellings(path: Path) -> None:
    """Write rope and dtype into a config.json as transformers 4 reads them too, which else falls back in silence.

    transformers 5 keeps `rope_parameters` and `dtype`; 4, and what was written in its time, knows `rope_theta`,
    `rope_scaling` and `torch_dtype`. Seen with 4.57.6: without them a model reads to another loss.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
        scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
        config["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else scaling
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope["partial_rotary_factor"]
    row = ARCHITECTURES.get(str(config.get("model_type")))
    for key, place in (row.old_rope if row and isinstance(rope, dict) else {}).items():
        *kind, name = place.split(".")
        config[key] = (rope[kind[0]] if kind else rope)[name]
    if config.get("dtype"):
        config["torch_dtype"] = config["dtype"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _umask() -> int:
    """The rights that new files do not get, which can only be read by setting them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def copy_companions(source: Source, folder: Path) -> None:
    """Tokenizer, chat template, generation settings and licences travel byte for byte with what is made from a model.

    Whatever reads the base reads them there too; saved anew they would name classes that older programs do not know.
    """
    assert source.folder is not None
    for path in source.folder.iterdir():
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in _COMPANIONS):
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
    check_config(config, shape, where)
    _check_declared(spec, shape)
    return Source(spec.label, revision, config, shape, folder)


def _check_declared(spec: ModelSpec, shape: Shape) -> None:
    """Refuse a folder that is not of the shape of the Hub model it is said to be, where that one's config ships."""
    known = None if spec.base is None else bundled_config(spec.base)
    if known is None:
        return
    theirs = vars(shape_of(known))
    if odd := [f"{key} is {ours}, there {theirs[key]}" for key, ours in vars(shape).items() if ours != theirs[key]]:
        raise P2Error(f"model.base: {spec.name} is not {spec.base}: {'; '.join(odd[:3])}; name the model that it is.")


def _read_config(path: Path, where: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise P2Error(f"{where}: no config.json there; a model folder is what save_pretrained writes.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise P2Error(f"{where}: its config.json cannot be read: {error}.") from None
    if not isinstance(config, dict):
        raise P2Error(f"{where}: its config.json is no JSON object; a model folder is what save_pretrained writes.")
    return config


def _hash_folder(folder: Path, where: str) -> str:
    """Hash of what defines a local model: config, weights and tokenizer, by name and content."""
    digest = hashlib.sha256()
    weights = set(weight_names({path.name for path in folder.iterdir()}, read_index(folder, where)))
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in (".json", ".model") or path.name in weights):
            digest.update(f"{path.name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
