"""Sending a run to Hugging Face Jobs: what is asked of the service, what it will cost, and following it.

A request is data, made without a network; the stock client sends it (`HfApi.run_uv_job`), ships the recipe and a local
wheel, and streams the log. What the job does there is worker.py.
"""

import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard import words
from leaderboard.errors import P2Error, RunFailed, unknown_name
from leaderboard.planning.gpus import FLAVORS, GPUS, ORIGIN, Flavor, gpu_hours
from zoo.estimate.dry_run import Estimate
from zoo.estimate.memory import GIB, check_shared, least_memory, unshared
from zoo.pruning.plan import Plan
from zoo.publish.licences import licence_of
from zoo.recipe.catalog import recipe_names, recipes_folder
from zoo.recipe.files import to_yaml
from zoo.recipe.spec import HardwareSpec, Recipe, TrainSpec

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hf-jobs:"
MOUNT = "/data"  # where the client puts the files that it ships
ATTEMPTS = 5  # by the service, after a machine was taken away; each goes on from the last checkpoint
SPARE, START_H = 2.0, 1.0  # limit: this many times the estimate, and an hour for downloads, pruning, evaluations
_NAME = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True)
class Request:
    """A job, ready to be sent. `hours` and `cost` (US dollars) are None where the model's config is not at hand."""

    flavor: str
    script: Path
    words: tuple[str, ...]  # of the script; those that are files here are shipped
    recipe: str | None  # YAML to ship as the first word; None: that is a bundled name
    dependency: str
    state: str
    timeout: str
    hours: float | None
    cost: float | None
    namespace: str

    def arguments(self, token: str) -> dict[str, Any]:
        """What `HfApi.run_uv_job` is called with."""
        return {
            "script": str(self.script),
            "script_args": list(self.words),
            "dependencies": [self.dependency],
            "env": {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            "secrets": {"HF_TOKEN": token},
            "flavor": self.flavor,
            "timeout": self.timeout,
            "attempts": ATTEMPTS,
            "labels": {"p2zoo": self.state.partition("/")[2]},
            "namespace": self.namespace,
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON form; the token is not in it."""
        shown = self.arguments("<your token>")
        return {"request": shown, "state": self.state, "hours": self.hours, "cost": self.cost, "estimate": ORIGIN}


def flavor_of(on: str) -> Flavor:
    """The machine that `--on` names."""
    name = on.removeprefix(PREFIX)
    if not on.startswith(PREFIX):
        raise P2Error(f"--on: got {on!r}, allowed is {PREFIX}FLAVOR, e.g. {PREFIX}h200.")
    if name not in FLAVORS:
        raise unknown_name("flavor", name, FLAVORS, f"--on {on}")
    return FLAVORS[name]


def request(
    planned: Estimate,
    path: Path,
    sets: Sequence[str],
    on: str,
    *,
    namespace: str,
    wheel: str | None,
    to: str | None = None,
    logs: str | None = None,
    licence: str | None = None,
) -> Request:
    """The job for a recipe, the file at `path` with `sets` on top. P2Error for what a job could not see."""
    recipe, flavor = planned.recipe, flavor_of(on)
    arguments, shipped = _shipped(recipe, path, sets, flavor.count)
    if to:
        known = planned.source.revision if planned.source else recipe.model.revision
        licence_of(recipe.model.label, known, licence)
    state = f"{namespace}/p2zoo-{_NAME.sub('-', recipe.name.lower()).strip('-.')}-{recipe.sha256[:8]}"
    arguments += ["--state", state, *(["--to", to] if to else []), *(["--logs", logs] if logs else [])]
    arguments += ["--license", licence] if licence else []
    if recipe.train.report_to == "trackio":
        raise P2Error("train.report_to: a job's own disk goes with it; name a Space, trackio:OWNER/SPACE.")
    dependency, more = job_dependency(wheel, "train,watch" if recipe.train.report_to else "train")
    if flavor.count > 1:
        check_shared(recipe.train, flavor.count)
    hours = cost = None
    if planned.plan is not None:
        _check_memory(planned.plan, recipe.train, on, flavor)
        plan, method = planned.plan, recipe.prune.method
        spent, _ = gpu_hours(
            planned.tokens, plan.n0, plan.rate, method, flavor.gpu, where="--on", objective=recipe.objective
        )
        hours = spent / flavor.count
        cost = hours * flavor.price
    limit = math.ceil(SPARE * hours + START_H) if hours is not None else 24
    script = recipes_folder() / "job.py"
    name = on.removeprefix(PREFIX)
    return Request(name, script, (*arguments, *more), shipped, dependency, state, f"{limit}h", hours, cost, namespace)


def _shipped(recipe: Recipe, path: Path, sets: Sequence[str], gpus: int) -> tuple[list[str], str | None]:
    """The recipe as words of the script and YAML to ship; a bundled one goes by its name, since the wheel has it.

    Either way it asks for all the GPUs of the machine.
    """
    if recipe.model.made_by is not None:
        raise P2Error(
            f"{path}: model.name: {recipe.model.name} makes a base model, which a job cannot see; `p2zoo pretrain` and "
            "publish it, then name it by its id on the Hub with --set model.name=OWNER/NAME."
        )
    root = recipes_folder().resolve()
    name = path.resolve().relative_to(root).with_suffix("").as_posix() if path.resolve().is_relative_to(root) else ""
    bundled = name in recipe_names()
    files = {
        "data.train.file": next((part.file for part in recipe.data.train.parts if part.file), None),
        "data.heldout.file": recipe.data.heldout.file,
        "model.name": recipe.model.name if recipe.model.local else None,
    }
    seen = {key for key, file in files.items() if file and bundled and recipe.path(file).is_relative_to(root)}
    if local := [key for key, file in files.items() if file and key not in seen]:
        raise P2Error(
            f"{path}: {', '.join(sorted(local))}: a job cannot see files of this machine; put them on the Hub and name "
            "them by their id there."
        )
    if bundled:
        return [name, *(word for change in (*sets, f"hardware.gpus={gpus}") for word in ("--set", change))], None
    return ["recipe.yaml"], to_yaml(replace(recipe, hardware=HardwareSpec(gpus=gpus)))


def job_dependency(wheel: str | None, extras: str = "train") -> tuple[str, list[str]]:
    """p2zoo as uv is to install it, and the words that ship a local wheel. P2Error without a wheel that is one."""
    if wheel is None:
        raise P2Error(
            "--on: p2zoo is on no package index, so the job needs it as a wheel: `pip wheel --no-deps -w dist .` in "
            "a checkout makes one; give its path or address as --wheel."
        )
    if wheel.startswith(("https://", "http://")):
        return f"p2zoo[{extras}] @ {wheel}", []
    path = Path(wheel)
    if not path.is_file() or path.suffix != ".whl":
        raise P2Error(f"--wheel: {wheel} is no wheel file; give the path of a p2zoo-*.whl, or its https address.")
    return f"p2zoo[{extras}] @ file://{MOUNT}/{path.name}", ["--wheel", str(path)]


def _check_memory(plan: Plan, train: TrainSpec, on: str, flavor: Flavor) -> None:
    """Refuse a machine on whose cards the training cannot fit, each with its share, and name one where it does."""

    def need(on: Flavor) -> float:
        return least_memory(plan.target, train, plan.n0, on.count)

    if need(flavor) <= GPUS[flavor.gpu].memory:
        return
    able = {n: f for n, f in FLAVORS.items() if f.count == 1 or not unshared(train, f.count)}
    fits = [n for n, f in able.items() if need(f) <= GPUS[f.gpu].memory]
    cheapest = min(fits, key=lambda n: FLAVORS[n].price, default=None)
    what = f"{PREFIX}{cheapest} would do" if cheapest else "no machine there is large enough"
    raise P2Error(
        f"--on {on}: training needs at least {need(flavor) / GIB:.0f} GiB on each card, more than there is; {what}."
    )


def describe(request: Request) -> str:
    """The request for people: what is sent, how long, how much, and where the figures come from."""
    flavor = FLAVORS[request.flavor]
    long = "known once the model's config is at hand" if request.hours is None else words.time(request.hours)
    much = "" if request.cost is None else f", {words.price(request.cost)} at {words.price(flavor.price)} an hour"
    return "\n".join(
        [
            f"machine      {request.flavor}: {flavor.count} x {flavor.gpu}, stopped after {request.timeout}, up to "
            f"{ATTEMPTS} attempts",
            f"training     {long}{much}",
            f"             {ORIGIN}",
            f"script       {request.script.name} {' '.join(request.words)}",
            f"installs     {request.dependency}",
            f"checkpoints  {request.state} (private; a job that was cut off goes on from there)",
        ]
    )


def submit(api: "HfApi", request: Request) -> Any:
    """Send the request; the client's JobInfo."""
    from huggingface_hub import get_token

    token = api.token if isinstance(api.token, str) else get_token()
    if token is None:
        raise P2Error("--on: not signed in; sign in with `hf auth login`, or set HF_TOKEN.")
    arguments = request.arguments(token)
    with tempfile.TemporaryDirectory(prefix="p2zoo-job-") as work:
        if request.recipe is not None:
            arguments["script_args"][0] = str(Path(work) / "recipe.yaml")
            (Path(work) / "recipe.yaml").write_text(request.recipe, encoding="utf-8")
        return api.run_uv_job(**arguments)


def follow(api: "HfApi", job: Any) -> Iterator[str]:
    """The lines of a job until it ends. Raises RunFailed when it did not end well."""
    from huggingface_hub import JobStage

    yield from api.fetch_job_logs(job_id=job.id, namespace=job.owner.name, follow=True)
    ended = api.inspect_job(job_id=job.id, namespace=job.owner.name).status
    if ended.stage != JobStage.COMPLETED:
        said = f": {ended.message}" if ended.message else ""
        raise RunFailed(
            f"{job.url}: ended as {ended.stage}{said}. Its last checkpoint is kept: the same command goes on from it."
        )
