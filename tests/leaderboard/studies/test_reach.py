"""Folds far outside hold what they say, and answers are sorted by how much their intervals say."""

import numpy as np
import pandas as pd
import pytest

from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.planning.distance import WIDEST
from leaderboard.studies.reach import WIDTHS, far_folds, reach, summary


def test_far_folds_leave_only_what_is_near(seed):
    text = usable(seed).reset_index(drop=True)
    text = text.assign(curve=curve_numbers(text))
    folds = {fold.name: fold for fold in far_folds(text)}
    assert text.loc[~folds["size"].held, "n0"].max() < 5e6
    left, asked = text[~folds["rate"].held], text[folds["rate"].test]
    assert (left.groupby(["base_model", "method"], observed=True)["rate"].nunique() == 1).all()
    assert asked["rate"].max() > left["rate"].max()
    assert text.loc[~folds["tokens after 0.125"].held, "tokens"].max() < 1.3e6
    for fold in folds.values():
        assert not (fold.test & ~fold.held).any()


def test_the_table_goes_by_width():
    answers = pd.DataFrame({"width": [2.0, 2.5, 50.0], "wrong": [1.1, 1.3, 20.0], "inside": [True, False, True]})
    table = summary(answers)
    assert table["answers"].tolist() == [2, 0, 1, 0]
    assert table["half"].iloc[0] == pytest.approx(1.2)
    assert np.isnan(table["half"].iloc[1])


@pytest.mark.slow
def test_answers_as_narrow_as_is_allowed_name_the_order_of_magnitude_and_wide_ones_do_not(seed):
    table = summary(reach(seed))
    narrow = table.iloc[: WIDTHS.index(WIDEST)]
    assert (narrow["nine_in_ten"] < WIDEST).all()
    assert table["nine_in_ten"].iloc[-1] > WIDEST
