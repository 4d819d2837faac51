"""Axes that can be read, whatever they span."""

import pytest

pytest.importorskip("plotly")

from space.figures import log_ticks


@pytest.mark.parametrize("ends", [(2.67e6, 4.5e6), (1e5, 2e7), (1e3, 1e9), (2e6, 6e6), (3e6, 3.8e6)])
def test_an_axis_has_a_few_ticks_inside_it_each_named_apart(ends):
    values, labels = log_ticks(*ends)
    assert 3 <= len(values) <= 12
    assert all(ends[0] * 0.99 <= value <= ends[1] * 1.01 for value in values)
    assert len(set(labels)) == len(labels)
