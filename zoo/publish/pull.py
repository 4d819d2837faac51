"""Download a published model and see whether it is what its card says.

Weights are counted and hashed, the zeros of a sparse method are looked for, and on request the held-out loss is
measured again. Nothing from the repository is executed, and only files that a model needs are fetched.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi

from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import Patience
from zoo.front_matter import plain_yaml
from zoo.inputs import base_model
from zoo.progress import quiet, stage
from zoo.pruning.methods import parts
from zoo.publish.card import Numbers, numbers_of
from zoo.recipe.catalog import recipes_folder
from zoo.recipe.files import parse_recipe
from zoo.recipe.spec import Recipe
from zoo.run.finished import MODEL_FILES, weights_sha256

_CHANCE_ZEROS = 1e-6  # share of weights that may have become zero without a mask
TOLERANCE = 1e-3  # nats per token, between the card's loss and one measured here
WANTED = [*MODEL_FILES, "README.md", "recipe.yaml", "curve.png", "LICENSE*", "NOTICE*"]


@dataclass(frozen=True)
class Check:
    """One claim of a card: `ok` is None where it could not be checked."""

    what: str
    claimed: str
    found: str
    ok: bool | None


def download(api: HfApi, model: str, out: Path, revision: str | None = None, patience: Patience | None = None) -> Path:
    """The model's files in folder `out`, which is new, empty or from an earlier download of it."""
    if out.exists() and not (out / ".cache" / "huggingface").is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise P2Error(f"{out}: exists and holds something else; choose another --out.")
    insist = patience or Patience()
    return Path(
        insist(
            f"pull: {model}",
            lambda: api.snapshot_download(model, revision=revision, local_dir=out, allow_patterns=WANTED),
        )
    )


def check_model(folder: Path, measure: bool = False) -> list[Check]:
    """Compare a downloaded model with its card; `measure` also measures the held-out loss."""
    quiet()
    card = folder / "README.md"
    if not card.is_file():
        raise P2Error(f"{folder}: no README.md, so there is nothing to check against.")
    return list(_checks(folder, numbers_of(card.read_text(encoding="utf-8"), str(folder)), measure))


def _checks(folder: Path, claimed: Numbers, measure: bool) -> Iterator[Check]:
    from zoo.pruning.prune import count
    from zoo.pruning.zeros import sparse_linears

    with stage("reading the weights"):
        sha = weights_sha256(folder)
        model = base_model.load_model(folder, "fp32")
    yield Check("weights, sha256", claimed.weights_sha256[:12], sha[:12], sha == claimed.weights_sha256)
    kept, _ = count(model)
    slack = 0.0
    if sparse := parts(claimed.method)[1]:
        matrices = [linear.weight for _, _, linear in sparse_linears(model)]
        good = sum(map(sparse.holds, matrices))
        yield Check(f"matrices that are {sparse.name}", str(len(matrices)), str(good), good == len(matrices))
        kept -= sum(int((~sparse.mask(weight)).sum()) for weight in matrices)
        slack = _CHANCE_ZEROS * claimed.n0
    yield Check("parameters kept", f"{claimed.n_pruned:,}", f"{kept:,}", abs(kept - claimed.n_pruned) <= slack)
    rate = 1 - kept / claimed.n0
    yield Check("pruning rate", f"{claimed.rate:.4f}", f"{rate:.4f}", abs(rate - claimed.rate) < 1e-6)
    if measure:
        yield _loss_check(folder, claimed, model)


def _loss_check(folder: Path, claimed: Numbers, model: Any) -> Check:
    from zoo.evaluation.heldout import heldout_loss
    from zoo.inputs.gather import heldout_blocks

    what, said = "held-out loss", f"{claimed.loss:.4f}"
    recipe = _recipe(folder)
    texts = _text_folder(recipe, folder, claimed)
    if texts is None:
        return Check(what, said, f"not measured: put {recipe.data.heldout.file} into {folder}", None)
    recipe = _recipe(folder, texts)
    with stage("verifying: measuring its held-out loss"):
        tokenizer = base_model.load_tokenizer(folder)
        blocks, *_ = heldout_blocks(recipe, tokenizer, str(claimed.eval_data_revision))
        loss = heldout_loss(model, blocks)
    return Check(what, said, f"{loss:.4f}", math.isfinite(loss) and abs(loss - claimed.loss) <= TOLERANCE)


def _recipe(folder: Path, texts: Path | None = None) -> Recipe:
    """The recipe of a downloaded model; its paths, which a stranger wrote, are cut to file names."""
    path = folder / "recipe.yaml"
    try:
        data = plain_yaml(path.read_text(encoding="utf-8"))
        heldout = data["data"]["heldout"]
        if "file" in heldout:
            heldout["file"] = PurePosixPath(heldout["file"]).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise P2Error(f"{path}: no recipe that says how the loss was measured.") from error
    return parse_recipe(data, texts or folder, where=str(path))


def _text_folder(recipe: Recipe, folder: Path, claimed: Numbers) -> Path | None:
    """Where the very held-out text lies: beside the model, or among the bundled; a Hub data set needs no folder."""
    name = recipe.data.heldout.file
    if name is None:
        return folder
    for path in (folder / name, *recipes_folder().rglob(name)):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == claimed.eval_data_revision:
            return path.parent
    return None
