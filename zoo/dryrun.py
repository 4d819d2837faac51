"""What a recipe will cost, before anything is downloaded: parameters, memory, tokens, steps, evaluations.

Needs the model's config only: from a local folder, or one that ships with p2zoo. Memory is 16 bytes a
parameter (fp32 weights, gradients, two AdamW moments) and an estimate of the activations of one
micro-batch; 1.24 B parameters at 8 x 2,048 tokens come out at 48 GiB, measured were 49.
"""

from dataclasses import dataclass
from typing import Any

from zoo.checkpoint import Source, describe
from zoo.families import Shape, parameters
from zoo.grid import GRIDS
from zoo.pruning.plan import Plan, plan
from zoo.recipe import Recipe, TrainSpec
from zoo.recipe_file import to_yaml
from zoo.text import check_text

OPTIMIZER_BYTES = 16  # a parameter
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """The plan of a run in numbers; `plan` and the memory are None when no config is at hand."""

    recipe: Recipe
    source: Source | None
    plan: Plan | None
    memory_bytes: int | None
    steps: int
    tokens: int
    evaluations: int

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
            "steps": self.steps,
            "tokens": self.tokens,
            "evaluations": self.evaluations,
        }


def estimate(recipe: Recipe) -> Estimate:
    """Plan a run offline; refuses all that can be refused without a network."""
    check_text(recipe.data.train, recipe.folder, "data.train")
    check_text(recipe.data.heldout, recipe.folder, "data.heldout")
    source = describe(recipe.model, recipe.folder)
    planned = plan(source.shape, recipe.prune) if source else None
    return Estimate(
        recipe=recipe,
        source=source,
        plan=planned,
        memory_bytes=memory(planned.target, recipe.train) if planned else None,
        steps=recipe.train.steps,
        tokens=recipe.train.planned_tokens,
        evaluations=len(grid_steps(recipe, recipe.train.steps)) + 2,  # l0 and l_pruned
    )


def grid_steps(recipe: Recipe, steps: int) -> list[int]:
    """Steps after which the held-out loss is measured."""
    at = recipe.evaluate
    return GRIDS[at.grid](steps, at.log_points, at.linear_points, at.linear_from)


def memory(shape: Shape, train: TrainSpec) -> int:
    """Bytes to train a model of this shape: parameters and their optimizer, and one micro-batch."""
    per_value = 4 if train.precision == "fp32" else 2
    layer = 10 * shape.hidden + 2 * (shape.heads + 2 * shape.kv_heads) * shape.head_dim + 4 * shape.ffn
    kept = layer + shape.layers * shape.hidden if train.gradient_checkpointing else layer * shape.layers
    per_parameter = 8 if train.precision == "bf16-master" else OPTIMIZER_BYTES
    return per_parameter * parameters(shape) + train.micro_batch * train.seq_len * kept * per_value


def report(found: Estimate) -> str:
    """The estimate for people: the resolved recipe, then what it costs."""
    lines = [to_yaml(found.recipe).rstrip(), "", f"# recipe {found.recipe.sha256[:16]}: what it costs"]
    if found.plan is None or found.memory_bytes is None:
        lines.append(
            f"pruning       known once {found.recipe.model.name} is downloaded; its config does not ship with p2zoo"
        )
    else:
        lines.append(f"pruning       {found.plan.summary}")
        lines.append(f"memory        {found.memory_bytes / GIB:.2f} GiB while training (estimate)")
    lines.append(f"tokens        {found.tokens:,} in {found.steps:,} steps of {found.recipe.train.batch_tokens:,}")
    lines.append(f"evaluations   {found.evaluations} on {found.recipe.evaluate.tokens:,} held-out tokens each")
    lines.append("Dry run: nothing was downloaded, pruned or trained.")
    return "\n".join(lines)
