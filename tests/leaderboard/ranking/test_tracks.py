"""Which rows each track fits and predicts, on frames small enough to count by hand."""

import numpy as np
import pandas as pd
import pytest

from leaderboard.ranking.tracks import TRACKS, alone, groups, split


def _runs(*runs: tuple[float, float, int]) -> pd.DataFrame:
    """Runs of (n0, rate, rows), named by their place."""
    return pd.concat(
        [
            pd.DataFrame(
                {"run_id": f"r{i}", "base_model": f"b{n0:g}", "n0": n0, "rate": rate, "tokens": np.arange(1, rows + 1)}
            )
            for i, (n0, rate, rows) in enumerate(runs)
        ],
        ignore_index=True,
    )


def _held_out(frame: pd.DataFrame, track: str) -> set[str]:
    """Runs of the test rows, after a check that training rows are all the others."""
    part = split(frame, track)
    assert part is not None
    assert (part.train ^ part.test).all()
    return set(frame["run_id"][part.test])


def test_in_sample_both_parts_are_everything():
    part = split(_runs((1, 0.1, 3)), "fit")
    assert part.train.all()
    assert part.test.all()


@pytest.mark.parametrize(("rows", "train"), [(10, 8), (11, 9), (12, 10), (14, 12), (15, 12), (33, 27)])
def test_tokens_trains_on_the_first_four_fifths_rounded_up(rows, train):
    part = split(_runs((1, 0.1, rows)), "tokens")
    assert part.train.tolist() == [True] * train + [False] * (rows - train)
    assert (part.train ^ part.test).all()


def test_tokens_follows_token_order_and_leaves_short_runs_out():
    frame = _runs((1, 0.1, 10), (1, 0.2, 9)).iloc[::-1]
    part = split(frame, "tokens")
    assert frame["tokens"][part.test].tolist() == [10, 9]
    assert set(frame["run_id"][part.train]) == set(frame["run_id"][part.test]) == {"r0"}
    assert split(_runs((1, 0.1, 9)), "tokens") is None


def test_tokens_splits_a_replicate_on_its_own():
    frame = _runs((1, 0.1, 10)).assign(contributor="x")
    both = pd.concat([frame, frame.assign(contributor="y")])
    part = split(both, "tokens")
    assert both["tokens"][part.test].tolist() == [9, 10, 9, 10]


def test_size_holds_the_largest_out_and_needs_two_smaller():
    frame = _runs((1, 0.1, 2), (3, 0.1, 2), (2, 0.1, 2), (3, 0.2, 2))
    assert _held_out(frame, "size") == {"r1", "r3"}
    assert split(_runs((1, 0.1, 2), (3, 0.1, 2)), "size") is None


def test_rate_holds_each_base_models_highest_out():
    frame = _runs((1, 0.1, 2), (1, 0.3, 2), (2, 0.2, 2), (2, 0.25, 2), (3, 0.9, 2), (1, 0.3, 2))
    assert _held_out(frame, "rate") == {"r1", "r3", "r5"}  # b3 has one rate; r5 is a second seed of r1
    assert split(_runs((1, 0.1, 2), (2, 0.3, 2)), "rate") is None


def test_every_track_splits_the_seed(seed):
    group = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth") & (seed["tokens"] > 327_680)]
    for track in TRACKS:
        part = split(group, track)
        assert part.train.any()
        assert part.test.any()
        assert track == "fit" or not (part.train & part.test).any()


def test_groups_come_in_the_order_of_their_names():
    columns = {"family": ["z", "a", "z", "a"], "method": ["w", "w", "d", "d"]}
    as_read = pd.DataFrame(columns | {"eval_data": "t", "objective": "clm", "loss": [1.0, 2.0, 3.0, 4.0]})
    kinds = {c: pd.CategoricalDtype(as_read[c].unique()) for c in ("family", "method")}
    for frame in (as_read, as_read.astype(kinds)):
        found = groups(frame)
        assert [(key["family"], key["method"]) for key, _ in found] == [("a", "d"), ("a", "w"), ("z", "d"), ("z", "w")]
        assert [rows["loss"].tolist() for _, rows in found] == [[4.0], [2.0], [3.0], [1.0]]
        assert all(type(name) is str for key, _ in found for name in key.values())


def test_without_group_columns_all_rows_are_one_group():
    frame = _runs((1, 0.1, 2))
    ((key, rows),) = groups(frame)
    assert key == {}
    assert rows is frame


def test_a_run_alone_in_its_group_is_told(seed):
    depth = seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]
    first = depth["run_id"].iloc[0]
    other = depth.assign(eval_data="other")[depth["run_id"] == first]
    assert alone(depth) == []
    (sentence,) = alone(pd.concat([depth[depth["run_id"] != first], other], ignore_index=True))
    assert sentence.startswith(f"{first} stands alone (llama-3, depth, on other)")
