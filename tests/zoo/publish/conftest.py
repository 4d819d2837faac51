"""Finished runs of a four-layer model, made in a second, and a hub to publish them to."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from zoo.devhub import serve

USERS = {"owner": "hf_ownersecretownersecret", "ann": "hf_annsecretannsecretanns", "bob": "hf_bobsecretbobsecretbobs"}
LOGS = "owner/p2-logs"
SETTINGS = {
    "2:4": ["prune.method='2:4'", "prune.rate=null"],
    "depth": [],
    "depth+2:4": ["prune.method='depth+2:4'"],
    "unstructured": ["prune.method=unstructured"],
}


def make_run(folder: Path, recipe_file: Path, method: str = "2:4", base: str | None = None) -> Path:
    """A run folder as `p2zoo run` leaves it, without the gates: pruned, trained for six steps, measured, finished."""
    import torch
    from rich.console import Console

    from zoo.distributed import Team
    from zoo.estimate.dry_run import estimate
    from zoo.evaluation.heldout import heldout_loss
    from zoo.evaluation.next_token import as_inputs, next_token_nll
    from zoo.inputs import base_model
    from zoo.inputs.gather import gather
    from zoo.inputs.text import fingerprint
    from zoo.preemption import Stop
    from zoo.pruning.plan import plan
    from zoo.pruning.prune import prune
    from zoo.recipe.files import load_recipe
    from zoo.run.folder import RunFolder
    from zoo.run.job import Inputs, Job
    from zoo.run.record import finish
    from zoo.training.masks import MaskKeeper

    recipe = load_recipe(recipe_file, SETTINGS[method])
    source = base_model.resolve(recipe.model, recipe.folder)
    assert source.folder is not None
    planned = plan(source.shape, recipe.prune)
    run = RunFolder(folder)
    run.work.mkdir(parents=True)
    texts = {"train": recipe.data.train, "heldout": recipe.data.heldout}
    pins = {part: fingerprint(spec, recipe.folder, part) for part, spec in texts.items()}
    tokenizer = base_model.load_tokenizer(source.folder)
    materials = gather(recipe, tokenizer, pins, run.work / "train")
    model = base_model.load_model(source.folder, "fp32")
    l0 = heldout_loss(model, materials.heldout)
    pruned = prune(model, planned, materials.calibration)
    model, l_pruned = pruned.model, heldout_loss(pruned.model, materials.heldout)
    run.append({"tokens": 0, "loss": l_pruned, "train_loss": None, "lr": None, "wall_s": 0.0})
    masks = MaskKeeper(model, sparse=recipe.prune.sparse) if recipe.prune.sparse else None
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    step = recipe.train.batch_tokens // recipe.train.seq_len
    for i in range(recipe.train.steps):
        rows = as_inputs(materials.train, slice(i * step, (i + 1) * step))
        (next_token_nll(model, **rows) / recipe.train.batch_tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        if masks:
            masks.reapply()
    tokens = recipe.train.planned_tokens
    loss = heldout_loss(model, materials.heldout)
    run.append({"tokens": tokens, "loss": loss, "train_loss": None, "lr": 1e-3, "wall_s": 1.0})
    base_model.save_model(model, folder / "model")
    tokenizer.save_pretrained(folder / "model")
    run.update(
        status="running", inputs={"model": source.revision, **pins}, l0=l0, l_pruned=l_pruned, loss_saved=loss,
        calibration_sha256=pruned.calibration_sha256, train_tokens=tokens, train_s=1.0,
    )  # fmt: skip
    job = Job(
        recipe=recipe, estimate=estimate(recipe), folder=run, team=Team(), stop=Stop(), console=Console(quiet=True),
        saved=lambda: None,
    )  # fmt: skip
    named = replace(source, label=base or source.label)
    finish(job, Inputs(source=named, plan=planned, tokenizer=tokenizer, materials=materials))
    return folder


@pytest.fixture(scope="package")
def runs(bench_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """runs(method="2:4", base=None) -> a run folder, made once for each call's arguments. Do not change it."""
    made: dict[tuple[str, str | None], Path] = {}

    def get(method: str = "2:4", base: str | None = None) -> Path:
        key = (method, base)
        if key not in made:
            made[key] = make_run(tmp_path_factory.mktemp("runs") / "run", bench_folder / "recipe.yaml", method, base)
        return made[key]

    return get


@pytest.fixture(scope="package")
def hub_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("hub"), USERS) as url:
        HfApi(endpoint=url, token=USERS["owner"]).create_repo(LOGS, repo_type="dataset")
        yield url


@pytest.fixture
def as_user(hub_url: str) -> Callable[[str], HfApi]:
    """The stock client, logged in as a user."""
    return lambda name: HfApi(endpoint=hub_url, token=USERS[name])
