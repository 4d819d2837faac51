"""Model FLOPs of a training step."""

import pytest

from zoo.estimate.dry_run import estimate
from zoo.estimate.flops import flops_per_token, mfu
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe


def test_the_forward_of_a_teacher_counts_a_third():
    found = estimate(load_recipe(find_recipe("llama-3.2-1b/depth-0.25")))
    student, teacher = found.plan.target, found.source.shape
    card = "NVIDIA H100 80GB HBM3"
    taught, alone = mfu(student, 2048, 10_000, card, teacher=teacher), mfu(student, 2048, 10_000, card)
    assert taught - alone == pytest.approx(10_000 * flops_per_token(teacher, 2048) / 3 / 989e12)
