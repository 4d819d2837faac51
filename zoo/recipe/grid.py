"""When to measure the held-out loss: token counts at whole optimiser steps.

Early training changes fast and late training slowly, so `log-then-linear` spaces its first points by a
constant factor and its last by a constant difference. Row 0 is l_pruned and always there.
"""

import numpy as np


def log_then_linear(steps: int, log_points: int, linear_points: int, linear_from: float) -> list[int]:
    """Step numbers from 1 to `steps`: log-spaced up to `linear_from` x steps, evenly spaced after it."""
    turn = max(1.0, steps * linear_from)
    early = np.geomspace(1, turn, log_points)
    late = np.linspace(turn, steps, linear_points + 1)[1:]
    return sorted({round(step) for step in (*early, *late)})


def log_spaced(first: int, last: int, points: int) -> list[int]:
    """At most so many step numbers from `first` to `last`, each by about the same factor after the one before."""
    return sorted({round(step) for step in np.geomspace(first, last, points)})


GRIDS = {"log-then-linear": log_then_linear}
