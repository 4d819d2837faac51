"""Every rule and every finding has a log that causes it, and one bad file never costs a good one."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leaderboard.child import CRASH, FAULT, MEMORY, TIME, Died
from leaderboard.logs import check as check_module
from leaderboard.logs.apart import deadly
from leaderboard.logs.check import MAX_BYTES, check_files, read_log, read_table
from leaderboard.logs.contract import BY_NAME, COLUMNS, run_id, schema, write_log
from leaderboard.logs.findings import ERROR, WARNING, Report
from leaderboard.logs.rules import RULES
from leaderboard.logs.rules.texts import longest
from tests.hostile import encrypted


def edited(table, edit):
    """The table with its rows edited in place; the run_id stays what it was."""
    rows = table.to_pylist()
    edit(rows)
    return pa.Table.from_pylist(rows, schema=table.schema)


def put(row, **values):
    return lambda rows: rows[row].update(values)


def put_all(**values):
    return lambda rows: [r.update(values) for r in rows]


def _other(column):
    """A value that no row of the factory's log has."""
    return {"int": 3, "float": 0.5, "text": "another"}[column.kind]


RANGED = [c for c in COLUMNS if c.kind in ("int", "float") and (c.low is not None or c.high is not None)]
TEXTS = [c.name for c in COLUMNS if c.kind == "text"]
CASES = {
    **{("not_finite", c.name): put(3, **{c.name: np.inf}) for c in COLUMNS if c.kind == "float"},
    **{("percent_rate", c.name): put_all(**{c.name: 25.0}) for c in COLUMNS if c.unit == "share"},
    **{("out_of_range", c.name): put_all(**{c.name: (c.low or 0) - 1}) for c in RANGED},
    **{
        ("text_too_long", c.name): put_all(**{c.name: "x" * (longest(c.name) + 1)}) for c in COLUMNS if c.kind == "text"
    },
    **{("odd_text", c.name): put_all(**{c.name: "two\nlines"}) for c in COLUMNS if c.kind == "text"},
    **{
        ("varies", c.name): put(-1, **{c.name: _other(c)})
        for c in COLUMNS
        if not c.curve and c.name not in ("created_at", "tokens_per_second", "mfu")
    },
    **{("no_repo_id", name): put_all(**{name: "ada/m;curl evil"}) for name in ("base_model", "model_repo")},
    ("no_hub_name", "contributor"): put_all(contributor="ada lovelace"),
    ("unknown_method", "method"): put_all(method="dept"),
    ("unknown_provenance", "provenance"): put_all(provenance="p2zoo"),
    ("rate_range", "rate"): put_all(rate=0.0, n_pruned=1_000_000),
    ("rate_mismatch", "rate"): put_all(rate=0.2501),
    ("rate_requested", "rate_requested"): put_all(rate_requested=None),
    ("nonembedding_above_total", "n0_nonembedding"): put_all(n0_nonembedding=1_000_001),
    ("no_zero_row", "tokens"): lambda rows: rows.pop(0),
    ("tokens_order", "tokens"): lambda rows: rows.insert(4, rows.pop(3)),
    ("tokens_off_batch", "tokens"): put(5, tokens=5 * 2048 + 1),
    ("zero_row_loss", "loss"): put(0, loss=3.51),
    **{("loss_not_positive", c): put_all(**{c: 0.0}) for c in ("loss", "l0", "l_pruned")},
    **{("loss_too_high", c): put_all(**{c: 14.56}) for c in ("loss", "l0")},  # 1.5 ln 16384 = 14.556
    ("measured_on_training_text", "eval_data"): put_all(train_data_revision="f" * 64, eval_data_revision="f" * 64),
    ("software_not_json", "software"): put_all(software="torch 2.13"),
    ("odd_time", "created_at"): put_all(created_at=0),
    ("foreign_run_id", "run_id"): put_all(run_id="0123456789abcdef"),
    ("unfinished", "tokens_planned"): lambda rows: rows.__delitem__(slice(10, None)),
}


def codes(path: Path) -> set[tuple[str, str]]:
    """(code, where without the row) of every finding about one file."""
    (report,) = check_files([path]).reports
    return {(f.code, f.where.split(",")[0]) for f in report.findings}


def test_the_factorys_log_is_clean(log_file):
    checked = check_files([log_file("a.parquet")])
    assert checked.reports[0].findings == ()
    assert len(checked.frame) == 13
    assert checked.frame["method"].dtype == "category"


@pytest.fixture(scope="module")
def bad_logs(tmp_path_factory, log_table) -> dict[tuple[str, str], Path]:
    """A file for each case."""
    folder = tmp_path_factory.mktemp("cases")
    return {
        case: write_log(folder / f"{i}.parquet", edited(log_table(), edit))
        for i, (case, edit) in enumerate(CASES.items())
    }


@pytest.fixture(scope="module")
def bad_reports(bad_logs) -> dict[tuple[str, str], Report]:
    """What the checker says about each."""
    return dict(zip(bad_logs, check_files(list(bad_logs.values())).reports, strict=True))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{r.code}-{r.where}")
def test_every_rule_has_a_log_that_breaks_it(rule, bad_reports):
    report = bad_reports[rule.code, rule.where]
    found = [f for f in report.findings if (f.code, f.where.split(",")[0]) == (rule.code, rule.where)]
    assert len(found) == 1
    assert found[0].severity == rule.severity
    assert all((found[0].got, found[0].allowed, found[0].fix))
    assert report.ok == (rule.severity == WARNING and len(report.findings) == 1)


def test_no_case_is_left_without_a_rule():
    assert set(CASES) == {(r.code, r.where) for r in RULES}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (put(4, loss=float("nan")), ("not_finite", "loss")),
        (put(4, tokens=3 * 2048), ("tokens_order", "tokens")),
        (put_all(rate=25.0, rate_requested=25.0), ("percent_rate", "rate")),
        (put_all(rate=-0.25), ("out_of_range", "rate")),
        (put_all(method="depth+depth"), ("unknown_method", "method")),
        *(
            (put_all(base_model=name), ("no_repo_id", "base_model"))
            for name in ("a/b/c", "/a", "../x", "-a", "a\n", "$(a)")
        ),
        (put_all(software="[1]"), ("software_not_json", "software")),
        (put_all(lr=1e308), ("out_of_range", "lr")),
        *(
            (put_all(**{c: 2**63 - 1}), ("out_of_range", c))
            for c in ("n0", "eval_tokens", "vocab_size", "batch_tokens")
        ),
        *(
            (put_all(**{c: text}), ("odd_text", c))
            for c in ("contributor", "hardware", "base_revision", "eval_data")
            for text in ("\x1b[2J", "<img src=x>", "[x](javascript:alert(1))", "a\u202eb")
        ),
    ],
)
def test_bad_values(edit, expected, log_file):
    assert expected in codes(log_file("a.parquet", edit))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "2:4", "rate_requested": None},
        {"method": "depth+2:4"},
        {"method": "none", "importance": "none", "rate": 0.0, "rate_requested": 0.0, "n_pruned": 1_000_000},
        {"method": "none", "importance": "none", "rate": 0.0, "rate_requested": None, "n_pruned": 1_000_000},
        {"rate_requested": 1},  # an int where a float is meant
        {"software": None, "calibration_sha256": "0" * 64},
        {"base_model": "tiny-llama-3", "model_repo": "Ada_1/Llama-3.2-1B-depth-0.25"},
    ],
)
def test_good_logs(changes, log_file):
    assert codes(log_file("a.parquet", **changes)) == set()


def _recast(name, kind):
    def change(table):
        at = table.schema.get_field_index(name)
        return table.set_column(at, pa.field(name, kind), table[name].cast(kind))

    return change


SCHEMA_CASES = {
    "extra_column": ("note", lambda t: t.append_column("note", pa.array(["x"] * len(t)))),
    "missing_column": ("l0", lambda t: t.drop_columns("l0")),
    "column_type": ("n0", _recast("n0", pa.float64())),
    "repeated_column": ("file", lambda t: t.append_column("seed", t["seed"])),
    "row_count": ("file", lambda t: t.slice(0, 0)),
    "null": ("l0", lambda t: t.set_column(t.schema.get_field_index("l0"), "l0", pa.array([None] * 13, pa.float64()))),
}


LATER = [c.name for c in COLUMNS if c.later]


FILE, COMMIT = "f" * 64, "c" * 40


@pytest.mark.parametrize(
    ("train", "heldout", "revision", "same"),
    [
        ("a.jsonl", "renamed.jsonl", FILE, True),
        ("a.jsonl+noise=0.5", "a.jsonl", FILE, True),
        ("a.jsonl[10:]", "a.jsonl[:10]", FILE, True),  # no label is written so; read as one without a slice
        ("a.jsonl[10:]", "a.jsonl[0:10]", FILE, False),
        ("a.jsonl[10:20]", "b.jsonl[15:]", FILE, True),
        ("me/text/train", "me/text/test", COMMIT, False),
        ("me/text/train", "me/text/train[0:10]", COMMIT, True),
        ("me/text/train[10:]", "me/text/train[0:10]", COMMIT, False),
        ("a.jsonl", "a.jsonl", None, False),
    ],
)
def test_what_was_trained_on_is_not_held_out(log_file, train, heldout, revision, same):
    mark = f"@{revision[:12]}" if revision else ""
    path = log_file(
        "a.parquet",
        train_data=train + mark,
        eval_data=heldout + mark,
        train_data_revision=revision,
        eval_data_revision=revision,
    )
    assert (("measured_on_training_text", "eval_data") in codes(path)) == same


@pytest.mark.parametrize("name", [name for name in schema().names if name not in LATER])
def test_every_missing_column_is_named(name, tmp_path, log_table):
    pq.write_table(log_table().drop_columns(name), tmp_path / "a.parquet")
    assert codes(tmp_path / "a.parquet") == {("missing_column", name)}


@pytest.mark.parametrize("code", SCHEMA_CASES)
def test_schema_findings(code, tmp_path, log_table):
    where, change = SCHEMA_CASES[code]
    pq.write_table(change(log_table()), tmp_path / "a.parquet")
    assert codes(tmp_path / "a.parquet") == {(code, where)}


@pytest.mark.parametrize(
    ("name", "kind", "fine"),
    [
        ("method", pa.dictionary(pa.int8(), pa.string()), True),
        ("tokens", pa.int32(), False),
        ("created_at", pa.timestamp("us"), False),
        ("software", pa.binary(), False),
    ],
)
def test_column_types(name, kind, fine, tmp_path, log_file, log_table):
    pq.write_table(_recast(name, kind)(log_table(seed=1)), tmp_path / "a.parquet")
    checked = check_files([tmp_path / "a.parquet", log_file("b.parquet", lambda rows: _lift(rows, 2), seed=2)])
    assert [r.ok for r in checked.reports] == [fine, True]


def test_a_column_of_nulls_alone_has_no_type_and_is_fine(tmp_path, log_table):
    table = log_table()
    names = ["mfu", "hardware", "eval_tokens"]
    for name in names:
        table = table.set_column(table.schema.get_field_index(name), name, pa.nulls(len(table)))
    pq.write_table(table, tmp_path / "a.parquet")
    checked = check_files([tmp_path / "a.parquet"])
    assert checked.reports[0].ok
    assert checked.frame[names].isna().all(axis=None)


UNREADABLE = {
    "empty": lambda whole: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "no footer": lambda whole: whole[:-8],
    "text": lambda whole: b"tokens,loss\n0,3.5\n",
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_an_unreadable_file(how, tmp_path, log_file):
    whole = log_file("a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(UNREADABLE[how](whole))
    assert codes(tmp_path / "b.parquet") == {("unreadable", "file")}


def test_a_file_that_is_gone_or_too_large(tmp_path):
    (tmp_path / "a.parquet").write_bytes(bytes(MAX_BYTES + 1))
    assert codes(tmp_path / "a.parquet") == {("too_large", "file")}
    assert codes(tmp_path / "b.parquet") == {("unreadable", "file")}


def test_a_file_that_unpacks_to_too_much(log_file, monkeypatch):
    path = log_file("a.parquet")
    monkeypatch.setattr(check_module, "MAX_UNPACKED", 1000)
    (report,) = check_files([path], own=True).reports
    assert [f.code for f in report.findings] == ["too_large"]


def test_one_run_twice_is_an_error_and_somebody_elses_confirms_or_repeats_it(log_file):
    """Equal losses count once; losses of one's own are a second measurement."""
    lift = lambda rows: _lift(rows, 1)  # noqa: E731
    files = [log_file("a.parquet"), log_file("b.parquet"), log_file("c.parquet", contributor="bob")]
    checked = check_files([*files, log_file("d.parquet", lift, contributor="cy")])
    found = [[(f.code, f.severity) for f in report.findings] for report in checked.reports]
    assert found == [[], [("duplicate", ERROR)], [("confirmation", WARNING)], [("replicate", WARNING)]]
    assert "ada/" in checked.reports[2].findings[0].got
    assert checked.frame["contributor"].unique().tolist() == ["ada", "cy"]
    assert checked.heads["contributor"].tolist() == ["ada", "ada", "bob", "cy"]


def test_known_runs_came_before(log_file):
    """A run that was read before is the original: of a confirmation, a copy, and a run that goes on from it."""
    known = check_files([log_file("a.parquet")]).frame.drop(columns="file")
    run, end = known["run_id"].iloc[0], 13 * 2048
    longer = lambda rows: rows.append(rows[-1] | {"tokens": end})  # noqa: E731
    files = [
        log_file("b.parquet", contributor="bob"),
        log_file("c.parquet", seed=1),
        log_file("d.parquet", longer, extends=run, tokens_planned=end),
    ]
    checked = check_files(files, known=known)
    assert [[f.code for f in r.findings] for r in checked.reports] == [["confirmation"], ["near_duplicate"], []]
    assert f"ada/{run}" in checked.reports[1].findings[0].got
    assert checked.frame["file"].unique().tolist() == [2]
    assert check_files([log_file("a.parquet")], known=known).reports[0].findings == ()  # the same file again


def test_the_same_losses_under_another_run_are_an_error(log_file):
    def shift(rows):
        for row in rows[3:]:
            row["loss"] += 1e-3

    def blur(rows):
        for row in rows[1:]:
            row["loss"] += 2e-10

    near = log_file("b.parquet", blur, seed=1)
    apart = log_file("c.parquet", shift, seed=2)  # shares two trained rows only
    first, copy, own = check_files([log_file("a.parquet"), near, apart]).reports
    assert [(f.code, f.severity) for f in copy.findings] == [("near_duplicate", ERROR)]
    assert first.findings == own.findings == ()


def test_decoys_with_two_losses_each_hide_no_copy(log_file):
    """Decoys come first and share two losses with the run each, so the copy meets a decoy first at every loss."""

    def decoy(number):
        def edit(rows):
            for place, row in enumerate(rows[1:]):
                row["loss"] += 0.0 if place // 2 == number else 0.01 * (number + 1)

        return edit

    decoys = [log_file(f"a{number}.parquet", decoy(number), seed=number + 1) for number in range(6)]
    copy = log_file("c.parquet", seed=9)
    *others, copied = check_files([*decoys, log_file("b.parquet"), copy]).reports
    assert [(f.code, f.severity) for f in copied.findings] == [("near_duplicate", ERROR)]
    assert all(report.findings == () for report in others)


def test_a_bad_copy_does_not_make_a_duplicate_of_the_good_one(log_file):
    bad, good = check_files([log_file("a.parquet", put(4, loss=0.0)), log_file("b.parquet")]).reports
    assert not bad.ok
    assert good.findings == ()


def test_bad_files_never_cost_good_ones(tmp_path, log_file, bad_logs):
    good = [log_file(f"good-{n}.parquet", lambda rows, n=n: _lift(rows, n), seed=n) for n in (1, 2, 3)]
    bad = [path for (code, _), path in bad_logs.items() if code != "unfinished"]
    (tmp_path / "junk.parquet").write_bytes(b"PAR1junkPAR1")
    files = [bad[0], good[0], *bad[1:], good[1], tmp_path / "junk.parquet", good[2]]
    mixed, alone = check_files(files), check_files(good)
    assert [r.ok for r in mixed.reports] == [f in good for f in files]
    assert len(alone.frame) == 39
    as_text = [c.frame.drop(columns="file").astype({n.name: object for n in COLUMNS}) for c in (mixed, alone)]
    pd.testing.assert_frame_equal(*as_text)


def _lift(rows, seed):
    """Losses of its own for a seed; the row at tokens 0 stays l_pruned."""
    for row in rows[1:]:
        row["loss"] += 0.01 * seed


def test_a_file_that_ends_its_reader_is_a_finding_and_costs_no_other(tmp_path, log_file, log_table):
    good = [log_file(f"good-{n}.parquet", lambda rows, n=n: _lift(rows, n), seed=n) for n in (1, 2, 3, 4)]
    bad = [encrypted(tmp_path / f"bad-{name}.parquet", log_table(), name) for name in ("seed", "loss")]
    files = [good[0], bad[0], bad[1], *good[1:3], bad[0], good[3]]
    checked = check_files(files)
    assert [r.ok for r in checked.reports] == [f in good for f in files]
    assert {f.code for r in checked.reports for f in r.findings} == {"unreadable"}
    assert list(checked.frame["file"].unique()) == [0, 3, 4, 6]
    assert read_log(bad[0])[0] is None
    assert read_log(good[0])[0].equals(read_table(good[0])[0])


def test_what_a_child_died_of_is_told():
    codes = {reason: deadly(Died(reason, "words")).code for reason in (MEMORY, TIME, CRASH, FAULT)}
    assert codes == {MEMORY: "too_large", TIME: "too_slow", CRASH: "unreadable", FAULT: "unreadable"}


def test_every_code_of_the_checker_is_tested_here():
    tree = ast.parse(inspect.getsource(check_module))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") in ("Finding", "_file")]
    declared = {n.args[0].value for n in calls if n.args and isinstance(n.args[0], ast.Constant)}
    assert declared == {
        *SCHEMA_CASES,
        "unreadable",
        "too_large",
        "not_finite",
    }


def _mutate(whole: bytes, random: np.random.Generator) -> bytes:
    """Flip, blank, cut out or repeat bytes; often in the footer, where the schema stands."""
    data = bytearray(whole)
    for _ in range(random.integers(1, 5)):
        first = 4 if random.random() < 0.6 else len(data) * 3 // 4
        at = int(random.integers(first, len(data)))
        size = int(random.integers(1, 9))
        match random.integers(4):
            case 0:
                data[at] ^= 1 << int(random.integers(8))
            case 1:
                data[at : at + size] = bytes(len(data[at : at + size]))
            case 2:
                del data[at : at + size]
            case _:
                data[at:at] = data[at : at + size]
    return bytes(data)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_mutated_files_raise_nothing_and_break_no_contract(compression, tmp_path, log_table, log_file):
    random = np.random.default_rng(2411)
    pq.write_table(log_table(seed=1), tmp_path / "whole.parquet", compression=compression)
    whole = (tmp_path / "whole.parquet").read_bytes()
    files = [tmp_path / f"mutated-{i}.parquet" for i in range(100)]
    for path in files:
        path.write_bytes(_mutate(whole, random))
    checked = check_files([*files, log_file("good.parquet", seed=2, packing="bfd_split")])
    assert sum(not r.ok for r in checked.reports[:-1]) > 50
    for file in files:
        alone = check_files([file])
        if alone.reports[0].ok:
            _holds_the_contract(alone.frame.drop(columns="file"))


def _holds_the_contract(frame):
    assert list(frame) == [c.name for c in COLUMNS]
    one = frame.iloc[0]
    assert run_id({k: None if v != v else v for k, v in one.items()}) == one["run_id"]
    assert one["tokens"] == 0
    assert one["loss"] == pytest.approx(one["l_pruned"], abs=1e-6)
    assert (np.diff(frame["tokens"]) > 0).all()
    assert np.isfinite(frame["loss"]).all()
    assert (frame["loss"] > 0).all()
    assert one["rate"] == pytest.approx(1 - one["n_pruned"] / one["n0"], abs=1e-6)
    assert 0 < one["rate"] < 1
    for name in frame:
        column = BY_NAME[name]
        if column.kind in ("int", "float") and not frame[name].isna().all():
            assert column.low is None or frame[name].min() >= column.low, name
            assert column.high is None or frame[name].max() <= column.high, name
        if not column.nullable:
            assert frame[name].notna().all(), name
    assert schema().names == list(frame)


@pytest.mark.parametrize(
    "text", ["", " llama-3", "llama-3 ", "ll\u0430ma-3", "llama\u200b-3", "\u202ellama", "llama\x00"]
)
def test_a_name_has_no_look_alikes(log_file, text):
    assert ("odd_text", "family") in codes(log_file("a.parquet", family=text))


def test_other_text_may_be_in_any_language(log_file):
    assert codes(log_file("a.parquet", train_data="données 文本", hardware="1 × H100")) == set()


@pytest.mark.parametrize("micros", [2**62, -(2**62)])
def test_a_time_far_beyond_the_calendar_is_a_finding(log_file, micros):
    assert codes(log_file("a.parquet", put_all(created_at=micros))) == {("odd_time", "created_at")}


@pytest.mark.parametrize("name", ["lr_peak", "rate_requested"])
def test_an_infinite_number_that_defines_the_run_is_a_finding(log_file, name):
    assert ("not_finite", name) in codes(log_file("a.parquet", put_all(**{name: np.inf})))


@pytest.mark.parametrize("name", [c.name for c in COLUMNS if c.nullable and c.kind == "float"])
def test_nan_is_not_null(log_file, name):
    assert ("not_finite", name) in codes(log_file("a.parquet", put_all(**{name: np.nan})))
