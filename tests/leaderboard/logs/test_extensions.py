"""A longer log replaces the run it extends, once, and only where it is the same curve."""

import pytest

from leaderboard import load_logs
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import build_table, write_log
from leaderboard.logs.load import join_logs
from tests.leaderboard.conftest import RUN

BATCH = 2048


@pytest.fixture
def write(tmp_path):
    """write(name, rows, extends, **changes) -> the file of a run with that many evaluations, and its run_id."""

    def make(name, rows, extends=None, edit=None, **changes):
        run = RUN | {"tokens_planned": (rows - 1) * BATCH, "extends": extends} | changes
        points = [{"tokens": i * BATCH, "loss": 3.5 - 0.3 * i / (i + 3), "lr": 3e-4} for i in range(rows)]
        if edit:
            edit(points)
        table = build_table(run, points)
        return write_log(tmp_path / f"{name}.parquet", table), table["run_id"][0].as_py()

    return make


def codes(report):
    return [finding.code for finding in report.findings]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_longest_of_a_chain_stands_for_all(write, order):
    first, first_id = write("a", 7)
    second, second_id = write("b", 10, first_id)
    third, third_id = write("c", 13, second_id)
    files = [(first, first_id), (second, second_id), (third, third_id)]
    checked = check_files([files[i][0] for i in order])
    assert all(report.ok for report in checked.reports)
    assert [codes(report) for report in checked.reports] == [[] if i == 2 else ["extended"] for i in order]
    assert set(checked.frame["run_id"].astype(str)) == {third_id}
    assert len(checked.frame) == 13


def test_a_chain_without_its_middle_and_two_that_extend_one_run(write):
    first, first_id = write("a", 7)
    _, gone = write("gone", 8, first_id)
    other, _ = write("b", 10, first_id)
    third, third_id = write("c", 13, gone)
    sibling, _ = write("d", 12, first_id, lambda points: points[11].update(loss=3.3))
    checked = check_files([first, other, third, sibling])
    assert [codes(report) for report in checked.reports] == [["extended"], ["extended"], [], ["extended"]]
    assert set(checked.frame["run_id"].astype(str)) == {third_id}


def test_another_start_is_another_curve(write):
    _, gone = write("gone", 7)
    one, one_id = write("a", 10, gone)
    other, other_id = write("b", 13, gone, lambda points: [p.update(loss=p["loss"] + 1e-4) for p in points[1:]])
    checked = check_files([one, other])
    assert [codes(report) for report in checked.reports] == [[], []]
    assert set(checked.frame["run_id"].astype(str)) == {one_id, other_id}


def test_loading_a_folder_and_joining_sources_count_rows_once(write, tmp_path):
    first, first_id = write("a", 7)
    longer, longer_id = write("b", 13, first_id)
    logs = load_logs(tmp_path)
    assert (len(logs.frame), logs.quarantined) == (13, ())
    frame, left_out = join_logs([load_logs(first), load_logs(longer)])
    assert (set(frame["run_id"].astype(str)), len(frame), left_out) == ({longer_id}, 13, ())


def change(row, **values):
    return lambda points: points[row].update(values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"edit": change(4, loss=3.4)}, "row 4 is 8,192 tokens and loss 3.4"),
        ({"edit": lambda points: points.pop(3)}, "row 3 is 8,192 tokens"),
        ({"rows": 7}, "ends at 12,288 tokens, that run at 12,288"),
        ({"rows": 5}, "ends at 8,192 tokens"),
        ({"batch_tokens": 1024}, "its batch_tokens is 1024, that run's 2048"),
        ({"seed": 1}, "its seed is 1"),
        ({"base_revision": None}, "its base_revision is"),
        ({"l0": 2.9}, "its l0 is 2.9"),
    ],
)
def test_what_is_no_extension_is_refused_and_the_shorter_stays(write, changes, words):
    first, first_id = write("a", 7)
    longer, _ = write("b", **{"rows": 13, "extends": first_id} | changes)
    checked = check_files([first, longer])
    assert checked.reports[0].findings == ()
    refused = checked.reports[1].findings[0]
    assert refused.code == "not_an_extension"
    assert words in str(refused)
    assert set(checked.frame["run_id"].astype(str)) == {first_id}


def test_nobody_replaces_the_run_of_another(write):
    first, first_id = write("a", 7)
    longer, _ = write("b", 13, first_id, contributor="mallory")
    checked = check_files([first, longer])
    assert [codes(report) for report in checked.reports] == [[], ["near_duplicate"]]


def test_an_extension_without_the_run_it_extends_stands_by_itself(write):
    longer, _ = write("b", 13, "0123456789abcdef")
    checked = check_files([longer])
    assert (codes(checked.reports[0]), len(checked.frame)) == ([], 13)


def test_branches_share_the_rows_of_their_own_trunk_and_of_no_other(write):
    def decayed(by):
        return lambda points: [point.update(loss=point["loss"] - by, lr=1e-4) for point in points[7:]]

    trunk, trunk_id = write("a", 7)
    longer, _ = write("b", 9, trunk_id)
    of_wsd = {"schedule": "wsd", "trunk": trunk_id}
    one, _ = write("c", 9, None, decayed(0.1), **of_wsd)
    two, _ = write("d", 11, None, decayed(0.2), **of_wsd)
    checked = check_files([trunk, one, longer, two])
    assert [codes(report) for report in checked.reports] == [["extended"], [], [], []]
    stolen, _ = write("e", 10, None, decayed(0.3), **of_wsd, contributor="mallory")
    without, _ = write("f", 12, None, decayed(0.4), schedule="wsd", trunk="0123456789abcdef")
    checked = check_files([trunk, one, stolen, without])
    assert [codes(report) for report in checked.reports] == [[], [], ["near_duplicate"], ["near_duplicate"]]
    other, _ = write("g", 9, None, lambda points: [p.update(loss=p["loss"] + 0.1) for p in points[1:]], **of_wsd)
    assert [codes(report) for report in check_files([trunk, other]).reports] == [[], ["not_a_branch"]]
