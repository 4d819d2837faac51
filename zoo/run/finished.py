"""A finished run folder as it may leave this machine: checked, complete, without paths or secrets of the machine.

Reads run.json, log.parquet, recipe.yaml, curve.png and model/; writes nothing and touches no network.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.errors import P2Error, RunFailed
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import COLUMNS, build_table
from zoo.recipe.files import load_recipe, to_yaml
from zoo.recipe.spec import Recipe, TextSpec
from zoo.run.folder import FINISHED, read_state

FILES = ("run.json", "log.parquet", "recipe.yaml", "curve.png", "model/config.json")
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")  # what loading needs; nothing that runs code
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class FinishedRun:
    """One run: `state` is run.json, `columns` the run-level columns of the log, `curve` its rows."""

    path: Path
    state: dict[str, Any]
    columns: dict[str, Any]
    curve: tuple[dict[str, Any], ...]
    recipe: Recipe

    @property
    def run_id(self) -> str:
        return str(self.state["run_id"])

    @property
    def pretrained(self) -> bool:
        """Whether it made a base model from random weights."""
        return self.recipe.model.scratch is not None

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def loss(self) -> float:
        """Held-out loss of the weights in model/, which may be of a lower precision than those that were trained."""
        return float(self.state.get("loss_saved", self.state["loss"]))

    @property
    def recipe_yaml(self) -> str:
        """The recipe with the last part of each local path: its hash stays, this machine's folders do not."""
        return to_yaml(portable(self.recipe))

    def model_files(self) -> list[Path]:
        """Weights, config and tokenizer."""
        return sorted({path for pattern in MODEL_FILES for path in self.model.glob(pattern)})

    def table(self, **changes: str) -> pa.Table:
        """The log with some run-level columns changed; those that define the run keep their run_id."""
        return build_table(self.columns | changes, self.curve)


def read_run(path: Path) -> FinishedRun:
    """A finished run. Raises P2Error for what is missing or not finished, RunFailed for a log that fails the check."""
    if (path / "run.json").is_file() and read_state(path)["status"] != FINISHED:
        raise P2Error(f"{path}: this run is not finished; `p2zoo run RECIPE --out {path} --resume` goes on with it.")
    if missing := [name for name in FILES if not (path / name).is_file()]:
        raise P2Error(
            f"{path}: not a finished run, {', '.join(missing)} missing; `p2zoo run RECIPE --out DIR` makes one."
        )
    state = read_state(path)
    (report,) = check_files([path / "log.parquet"]).reports
    if not report.ok:
        raise RunFailed(f"{path}/log.parquet does not pass `p2zoo check`: " + "; ".join(map(str, report.findings)))
    columns, curve = _split(pq.read_table(path / "log.parquet"))
    run = FinishedRun(path, state, columns, curve, load_recipe(path / "recipe.yaml"))
    if columns["run_id"] != state.get("run_id") or columns["recipe_sha256"] != run.recipe.sha256:
        raise P2Error(
            f"{path}: log.parquet, run.json and recipe.yaml are not of one run; publish a folder as it was made."
        )
    if not list(run.model.glob("*.safetensors")):
        raise P2Error(f"{run.model}: no *.safetensors weights.")
    return run


def portable(recipe: Recipe) -> Recipe:
    """The recipe with local paths cut to their last part, and without the machine it ran on."""
    data = recipe.data
    texts = {part: _portable(spec) for part, spec in (("train", data.train), ("heldout", data.heldout))}
    model, scratch = recipe.model, recipe.model.scratch
    if scratch is not None:
        own = scratch.tokenizer and f"./{PurePosixPath(scratch.tokenizer).name}"
        model = replace(model, scratch=replace(scratch, tokenizer=own))
    elif model.base is not None:
        model = replace(model, name=model.base, base=None)
    elif model.local:
        model = replace(model, name=f"./{model.label}")
    train = recipe.train
    if train.trunk is not None:
        train = replace(train, trunk=f"./{PurePosixPath(train.trunk).name}")
    ready, prune = recipe.ready, recipe.prune
    if ready is not None and ready.local:
        prune = replace(prune, from_=f"./{ready.label}")
    return replace(recipe, model=model, prune=prune, data=replace(data, **texts), train=train, hardware=None)


def _portable(spec: TextSpec) -> TextSpec:
    if spec.blend is not None:
        return replace(spec, blend=tuple(map(_portable, spec.blend)))
    return replace(spec, file=PurePosixPath(spec.file).name) if spec.file else spec


def weights_sha256(folder: Path) -> str:
    """Hash of the weight files of a model folder, by name and content; read once while their sizes and times stay."""
    files = ((path, path.stat()) for path in sorted(folder.glob("*.safetensors")))
    return _weights_sha256(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in files))


@lru_cache(maxsize=8)
def _weights_sha256(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(f"{path.name}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def refuse_tokens(named: Iterable[tuple[str, bytes]], token: str | None = None) -> None:
    """Raise P2Error if a text holds what looks like an access token, or this one; the message does not repeat it."""
    for name, content in named:
        if _TOKEN.search(content) or (token and token.encode() in content):
            raise P2Error(f"{name}: holds a Hub access token; remove it there, and revoke the token.")


def _split(table: pa.Table) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Run-level columns, and the rows of the curve."""
    rows = table.to_pylist()
    names = [column.name for column in COLUMNS if column.curve]
    columns = {column.name: rows[0].get(column.name) for column in COLUMNS if not column.curve}
    return columns, tuple({name: row.get(name) for name in names} for row in rows)
