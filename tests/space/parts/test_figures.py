"""Axes that can be read whatever they span, and words of strangers that stay words."""

import pytest

pytest.importorskip("plotly")

import pandas as pd

from space.parts.figures import curves, log_ticks


@pytest.mark.parametrize("ends", [(2.67e6, 4.5e6), (1e5, 2e7), (1e3, 1e9), (2e6, 6e6), (3e6, 3.8e6)])
def test_an_axis_has_a_few_ticks_inside_it_each_named_apart(ends):
    values, labels = log_ticks(*ends)
    assert 3 <= len(values) <= 12
    assert all(ends[0] * 0.99 <= value <= ends[1] * 1.01 for value in values)
    assert len(set(labels)) == len(labels)


def test_what_a_log_calls_its_text_is_no_markup_in_a_picture():
    told = {"panel": 'llama-3 · depth · <a href="https://evil.example">click</a>', "name": "ann/1", "n0": 4e6}
    rows = pd.DataFrame(
        {
            "tokens": [1e6, 2e6],
            "excess": [0.2, 0.1],
            "predicted_excess": [0.2, 0.1],
            "rate": 0.2,
            "run_id": "1",
            "contributor": "ann",
            **told,
        }
    )
    titles = [note.text for note in curves(rows, ("p2",)).layout.annotations]
    assert any("&lt;a href" in title for title in titles)
    assert not any("<a" in title for title in titles)
