"""What a recipe will cost, before anything is downloaded: parameters, memory, tokens, steps, evaluations.

Needs the model's config only: from a local folder, or one that ships with p2zoo. Memory is what memory.py says
of the pruned model: the least that a training needs, and what it takes at the micro-batch a GPU would begin with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leaderboard import words
from leaderboard.planning.gpus import PRICES_OF, USUAL_GPU, gpu_hours
from zoo.estimate.disk import disk_bytes
from zoo.estimate.memory import GIB, PASS_TOKENS, check_shared, least_memory, memory
from zoo.inputs.base_model import Source, check_base, describe, describe_ready
from zoo.inputs.enough import check_enough
from zoo.inputs.settings import check_sample
from zoo.inputs.teacher import check_teacher
from zoo.inputs.text import check_apart, check_text, documents
from zoo.models.families import check_targets
from zoo.pruning.plan import Plan, plan
from zoo.pruning.ready import Ready, examine
from zoo.pruning.ready import planned as plan_of_ready
from zoo.recipe.files import to_yaml
from zoo.recipe.grid import GRIDS
from zoo.recipe.spec import Recipe


@dataclass(frozen=True)
class Estimate:
    """The plan of a run in numbers; `plan` and the memory are None when no config is at hand."""

    recipe: Recipe
    source: Source | None
    plan: Plan | None
    memory_bytes: int | None  # on each GPU, at the micro-batch it would begin with
    least_bytes: int | None  # on each GPU, one sequence at a time, every block computed twice
    disk_bytes: int | None  # of the run folder, when it holds most
    steps: int
    tokens: int
    evaluations: int
    text_tokens: int | None  # about as many hold the training text, where text and tokenizer are at hand
    teacher_bytes: int | None = None  # kept on disk of the teacher of a distillation
    heldout_in_train: int | None = None  # held-out documents that stand in the training text too, where both are files
    ready: Source | None = None  # the pruned model that the recipe takes
    examined: Ready | None = None  # and what it was found to be, where its weights are here

    def cost(self, gpu: str, where: str = "run") -> tuple[float, float] | None:
        """GPU-hours and US dollars of post-training on `gpu`; None where the model's config is not at hand."""
        if self.plan is None:
            return None
        recipe, plan = self.recipe, self.plan
        return gpu_hours(
            self.tokens, plan.n0, plan.rate, recipe.prune.method, gpu, where=where, objective=recipe.objective
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers for programs."""
        plan = self.plan
        return {
            "name": self.recipe.name,
            "recipe_sha256": self.recipe.sha256,
            "n0": plan and plan.n0,
            "n_pruned": plan and plan.n_pruned,
            "rate": plan and plan.rate,
            "rate_nonembedding": plan and plan.rate_nonembedding,
            "memory_bytes": self.memory_bytes,
            "least_bytes": self.least_bytes,
            "disk_bytes": self.disk_bytes,
            "steps": self.steps,
            "tokens": self.tokens,
            "evaluations": self.evaluations,
            "text_tokens": self.text_tokens,
            "teacher_bytes": self.teacher_bytes,
            "heldout_in_train": self.heldout_in_train,
        }


def estimate(recipe: Recipe) -> Estimate:
    """Plan a run offline; refuses all that can be refused without a network."""
    check_text(recipe.data.train, recipe.folder, "data.train")
    check_text(recipe.data.heldout, recipe.folder, "data.heldout")
    source = describe(recipe.model, recipe.folder)
    ready = describe_ready(recipe)
    planned, examined = _plan(recipe, source, ready)
    for named in (source, ready):
        if named and named.folder:
            check_base(named)
    if source and source.folder and recipe.data.heldout.local:
        sample = documents(recipe.data.heldout, recipe.folder, "data.heldout")
        check_sample(source.folder, source.shape, sample, f"model.name: {source.label}")
    train = recipe.train
    if source is not None and train.lora is not None:
        check_targets(train.lora.targets, source.config["model_type"])
    gpus = recipe.hardware.gpus if recipe.hardware else 1
    if gpus > 1:
        check_shared(train, gpus)
    first = train.micro_batch or max(1, min(PASS_TOKENS["cuda"], train.batch_tokens // gpus) // train.seq_len)
    return Estimate(
        recipe=recipe,
        source=source,
        plan=planned,
        memory_bytes=None
        if planned is None
        else memory(planned.target, train, planned.n0, first, train.gradient_checkpointing is True, gpus),
        least_bytes=None if planned is None else least_memory(planned.target, train, planned.n0, gpus),
        disk_bytes=None if planned is None else disk_bytes(planned.target, train),
        steps=train.steps,
        tokens=train.planned_tokens,
        evaluations=len(grid_steps(recipe, train.steps)) + 2,  # l0 and l_pruned
        text_tokens=check_enough(recipe, source.folder if source else None),
        teacher_bytes=check_teacher(recipe, source),
        ready=ready,
        examined=examined,
        heldout_in_train=check_apart(recipe),
    )


def _plan(recipe: Recipe, source: Source | None, ready: Source | None) -> tuple[Plan | None, Ready | None]:
    """The plan, as far as what is at hand tells it; of a ready model with weights also what it was found to be."""
    if source is None or (recipe.ready is not None and ready is None):
        return None, None
    if ready is None:
        return plan(source.shape, recipe.prune), None
    if source.weights and ready.weights:
        assert source.folder is not None and ready.folder is not None  # noqa: PT018
        examined = examine(source.folder, source.shape, ready.folder, ready.shape, recipe.prune)
        return examined.plan, examined
    return plan_of_ready(source.shape, ready.shape, recipe.prune), None


def grid_steps(recipe: Recipe, steps: int) -> list[int]:
    """Steps after which the held-out loss is measured."""
    at = recipe.evaluate
    return GRIDS[at.grid](steps, at.log_points, at.linear_points, at.linear_from)


def report(planned: Estimate, more: Sequence[str] = ()) -> str:
    """The estimate for people: the resolved recipe, what it costs, and `more` lines."""
    lines = [to_yaml(planned.recipe).rstrip(), "", f"# recipe {planned.recipe.sha256[:16]}: what it costs"]
    if (
        planned.plan is None
        or planned.memory_bytes is None
        or planned.least_bytes is None
        or planned.disk_bytes is None
    ):
        lines.append(f"pruning       known once {_unknown(planned)} is downloaded; its config does not ship with p2zoo")
    else:
        lines.append(f"pruning       {planned.plan.summary}")
        spec = planned.recipe.hardware
        where = f" on each of {spec.gpus} GPUs" if spec and spec.gpus > 1 else ""
        lines.append(
            f"memory        {planned.memory_bytes / GIB:.2f} GiB{where} while training, "
            f"{planned.least_bytes / GIB:.2f} GiB at least (estimates)"
        )
        lines.append(f"disk          {planned.disk_bytes / 1e9:.2f} GB for the run folder (estimate)")
    lines.append(
        f"tokens        {planned.tokens:,} in {planned.steps:,} steps of {planned.recipe.train.batch_tokens:,}"
    )
    if (cost := planned.cost(USUAL_GPU)) is not None:
        hours, dollars = cost
        lines.append(
            f"compute       {words.time(hours)} of one {USUAL_GPU.upper()}, {words.price(dollars)} at the price of "
            f"{PRICES_OF} (estimate; small models take longer)"
        )
    if planned.text_tokens is not None:
        times = planned.text_tokens / planned.tokens
        held = words.count(planned.text_tokens)
        lines.append(f"text          holds about {held} tokens, {times:,.1f} times as many (by a sample)")
    if planned.teacher_bytes is not None:
        lines.append(
            "teacher       asked once for this text, a third of a training pass of the whole model a token; keeps "
            f"{planned.teacher_bytes / 1e9:.2f} GB for this and other students"
        )
    if planned.heldout_in_train:
        lines.append(f"held-out      {planned.heldout_in_train:,} of its documents stand in the training text too")
    lines.append(f"evaluations   {planned.evaluations} on {planned.recipe.evaluate.tokens:,} held-out tokens each")
    lines += more
    lines.append("Dry run: nothing was downloaded, pruned or trained.")
    return "\n".join(lines)


def _unknown(planned: Estimate) -> str:
    """The model whose config is not at hand, or whose weights are to tell its zeros."""
    ready = planned.recipe.prune.from_
    return planned.recipe.model.name if planned.source is None or ready is None else ready
