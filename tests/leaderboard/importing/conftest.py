"""A small curve as a Trainer keeps it, and facts that make it a log."""

import json
from collections.abc import Callable
from typing import Any

import pytest

TOKENS = 4096  # a step
FACTS: dict[str, Any] = {
    "tokens_per_step": TOKENS,
    "n0": 1_000_000,
    "n_pruned": 750_000,
    "method": "depth",
    "eval_data": "my/heldout",
}


def loss(step: float) -> float:
    """A held-out loss that falls from 3.9."""
    return 3.9 - 0.9 * step / (step + 200)


def steps(last: int = 1000, every: int = 50) -> list[int]:
    return list(range(every, last + 1, every))


def history(at: list[int] | None = None) -> list[dict[str, Any]]:
    """Trainer's log_history: a training loss every ten steps, an evaluation at each of `at`."""
    at = steps() if at is None else at
    rows: list[dict[str, Any]] = []
    for step in range(10, max(at) + 1, 10):
        rows.append(
            {"step": step, "epoch": step / 1000, "loss": loss(step) - 0.1, "learning_rate": 1e-4, "grad_norm": 1}
        )
        if step in at:
            rows.append({"step": step, "epoch": step / 1000, "eval_loss": loss(step), "eval_runtime": 1.5})
    return rows


def state(rows: list[dict[str, Any]], **more: Any) -> bytes:
    """A trainer_state.json; of what else it says only what matters."""
    return json.dumps({"log_history": rows, "global_step": 1000, "best_metric": None, **more}).encode()


@pytest.fixture
def facts() -> Callable[..., dict[str, Any]]:
    """`facts(**changes)`: what makes the curve a log; None leaves one out."""
    return lambda **changes: {name: v for name, v in (FACTS | changes).items() if v is not None}
