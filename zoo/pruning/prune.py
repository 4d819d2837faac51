"""Prune a model as planned, and prove by counting that the plan was met."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import shape_of
from zoo.models.families import MODULES
from zoo.pruning.plan import Plan
from zoo.pruning.scores import calibration_sha256, scores
from zoo.pruning.sparsity import make_sparse
from zoo.pruning.surgery import check_parts
from zoo.pruning.zeros import check_zeros


@dataclass(frozen=True)
class Pruned:
    """A pruned model, and what went.

    `removed` is JSON-ready: layers; or hidden, ffn (by layer) and heads (by layer), in the numbering of
    the full model; and the report of `make_sparse`. `calibration_sha256` is None if no text was needed.
    """

    model: PreTrainedModel
    plan: Plan
    removed: dict[str, Any]
    calibration_sha256: str | None


def prune(
    model: PreTrainedModel,
    plan: Plan,
    batches: Sequence[Tensor],
    cache_dir: Path | None = None,
    cache_key: str | None = None,
) -> Pruned:
    """Prune `model` as planned. The model is used up: the result shares its tensors.

    The work is done on the CPU, but for the block under way, which is where the model came from; the result goes
    back there. `batches` are calibration token ids, (batch, sequence) each; `cache_dir` keeps scores for the next
    rate under `cache_key`, the name of the weights. Raises RunFailed if the counted parameters differ from the plan.
    """
    if shape_of(model.config.to_dict()) != plan.shape:
        raise P2Error(f"prune: the plan is for another model than this one: {plan.shape}.")
    check_parts(model)
    spec, device = plan.spec, model.device
    removed: dict[str, Any] = {}
    if spec.needs_calibration and not batches:
        raise P2Error("calibration: no text came; give one batch of tokens or more.")
    model.to("cpu")  # type: ignore[arg-type]
    if spec.structured:
        importance = scores(model, batches, cache_dir, cache_key, device) if spec.needs_scores else {}
        model, removed = spec.structured.cut(model, plan, importance)
    if spec.sparse:
        removed |= make_sparse(model, spec.sparse_criterion, spec.sparse, plan.sparsity, batches, device)
    _check_counts(model, plan)
    model.to(device)  # type: ignore[arg-type]
    return Pruned(model, plan, removed, calibration_sha256(batches) if spec.needs_calibration else None)


def take_ready(model: PreTrainedModel, plan: Plan, removed: dict[str, Any]) -> Pruned:
    """A model that was pruned elsewhere, counted as `prune` counts; `removed` is what ready.py found."""
    _check_counts(model, plan)
    return Pruned(model, plan, removed, None)


def _check_counts(model: PreTrainedModel, plan: Plan) -> None:
    """Counts on the real tensors must equal the plan's, with and without embeddings."""
    total, inner = count(model)
    if plan.spec.sparse:
        check_zeros(model, plan.spec.sparse, plan.zeros)
        total, inner = total - plan.zeros, inner - plan.zeros
    if (total, inner) != (plan.n_pruned, plan.n_pruned_nonembedding):
        raise RunFailed(
            f"prune: counted {total:,} parameters ({inner:,} non-embedding), planned {plan.n_pruned:,} "
            f"({plan.n_pruned_nonembedding:,})."
        )


def count(model: PreTrainedModel) -> tuple[int, int]:
    """Parameters of a model, all and non-embedding; tied ones once, zeros included."""
    modules = MODULES[model.config.model_type]
    outer = {id(model.get_submodule(name).weight) for name in (modules.embedding, modules.head)}
    sizes = [(id(p) in outer, p.numel()) for p in model.parameters()]
    return sum(n for _, n in sizes), sum(n for is_outer, n in sizes if not is_outer)
