"""Every shape of a log gives the same curve."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from leaderboard.errors import P2Error
from leaderboard.importing import import_log, read_runs
from leaderboard.importing.readers import FORMATS
from tests.leaderboard.importing.conftest import TOKENS, history, loss, state, steps

HISTORY = history()
EVALUATED = [row for row in HISTORY if "eval_loss" in row]
PRINTED = "\n".join(
    f"  5%|▌ | {row['step']}/1000 [00:10<03:10]" + str({k: str(v) for k, v in row.items() if k != "step"}) + "\n"
    for row in HISTORY
)
SHAPES = {
    "trainer_state": state(HISTORY),
    "log_history": json.dumps(HISTORY).encode(),
    "indented": json.dumps({"log_history": HISTORY}, indent=2).encode(),
    "JSON lines": "\n".join(map(json.dumps, HISTORY)).encode(),
    "CRLF and a byte-order mark": b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, HISTORY)).encode(),
    "UTF-16": "\n".join(map(json.dumps, HISTORY)).encode("utf-16"),
    "gz": gzip.compress(state(HISTORY)),
    "a list a column": json.dumps({k: [row[k] for row in EVALUATED] for k in ("step", "eval_loss")}).encode(),
    "CSV": pd.DataFrame(HISTORY).to_csv(index=False).encode(),
    "CSV of a tracker": pd.DataFrame(
        {
            "train/global_step": [row["step"] for row in EVALUATED],
            "mine - eval/loss": [row["eval_loss"] for row in EVALUATED],
            "mine - eval/loss__MIN": [0.0] * len(EVALUATED),
        }
    )
    .to_csv(index=False)
    .encode(),
    "CSV with decimal commas": b"step;eval_loss\n"
    + "\n".join(f"{row['step']};{str(row['eval_loss']).replace('.', ',')}" for row in EVALUATED).encode(),
    "printed dicts": "\n".join(f"12:00 INFO {row}" for row in HISTORY).encode(),
    "text": "\n".join(f"step={s} tokens={s * TOKENS} val_loss={loss(s)!r} lr=1e-4" for s in steps()).encode(),
    "trackio metric": json.dumps(
        {
            "project": "p", "run": "mine", "metric": "eval/loss",
            "values": [{"step": s, "timestamp": "2026-01-01", "value": loss(s)} for s in steps()],
        }
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_gives_the_curve(shape, facts):
    found = import_log(SHAPES[shape], "file", **facts())
    assert found.frame["tokens"].tolist() == [s * TOKENS for s in steps()]
    np.testing.assert_allclose(found.frame["loss"], [loss(s) for s in steps()], rtol=1e-12)
    assert set(found.frame["provenance"]) == {"imported"}


def test_every_format_is_among_the_shapes():
    texts = [data.decode("utf-8-sig") for name, data in SHAPES.items() if name not in ("gz", "UTF-16")]
    assert {next(f.name for f in FORMATS if f.knows(text)) for text in texts} == {f.name for f in FORMATS}


@pytest.mark.parametrize("metrics_as_text", [False, True])
def test_a_trackio_export_holds_several_runs(metrics_as_text, tmp_path, facts):
    rows = [
        {"id": i, "timestamp": "2026-01-01T00:00:00", "run_name": run, "step": s, "eval/loss": loss(s) + add}
        for run, add in (("one", 0.0), ("two", 0.1))
        for i, s in enumerate(steps())
    ]
    if metrics_as_text:
        rows = [row | {"metrics": json.dumps({"eval/loss": row.pop("eval/loss")})} for row in rows]
    pd.DataFrame(rows).to_parquet(tmp_path / "export.parquet")
    with pytest.raises(P2Error, match=r"2 runs are in this file: one, two\. Name one by --run"):
        import_log(tmp_path / "export.parquet", **facts())
    second = import_log(tmp_path / "export.parquet", run="two", **facts())
    np.testing.assert_allclose(second.frame["loss"], [loss(s) + 0.1 for s in steps()])


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({"one": HISTORY, "two": HISTORY}),
        json.dumps({"one": {"log_history": HISTORY}, "two": {"log_history": HISTORY}}),
        "\n".join(json.dumps(row | {"run_name": run}) for run in ("one", "two") for row in HISTORY),
        "Step,one - eval/loss,two - eval/loss\n" + "\n".join(f"{s},{loss(s)},{loss(s) - 0.1}" for s in steps()),
    ],
)
def test_several_runs_keep_their_names(data):
    assert [run.name for run in read_runs(data.encode(), "runs.json")] == ["one", "two"]


def test_a_folder_stands_for_its_last_checkpoint(tmp_path, facts):
    for number, last in ((500, 500), (1000, 1000)):
        folder = tmp_path / "out" / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_bytes(state(history(steps(last))))
    assert import_log(tmp_path / "out", **facts()).frame["tokens"].max() == 1000 * TOKENS


def test_training_loss_and_rate_stand_beside_the_evaluations(facts):
    frame = import_log(state(HISTORY), **facts()).frame
    between = [loss(s) - 0.1 for s in range(10, 51, 10)]
    assert frame["train_loss"][0] == pytest.approx(np.mean(between))
    assert set(frame["lr"]) == {1e-4}


def test_the_average_at_a_trainers_end_is_no_training_loss(facts):
    rows = [row for row in HISTORY if "eval_loss" in row] + [{"step": 1000, "train_loss": 9.0, "train_runtime": 5.0}]
    assert import_log(state(rows), **facts()).frame["train_loss"].isna().all()


def test_a_column_is_named_by_the_user(facts):
    data = pd.DataFrame({"Wall time": 1.0, "Step": steps(), "Value": [loss(s) for s in steps()]}).to_csv(index=False)
    with pytest.raises(P2Error, match="no held-out series"):
        import_log(data.encode(), "scalars.csv", **facts())
    found = import_log(data.encode(), "scalars.csv", columns={"loss": "Value"}, **facts())
    assert len(found.frame) == len(steps())
    assert "tracker_step" in {note.code for note in found.notes}
    with pytest.raises(P2Error, match="no column 'Valu' with numbers; there are Wall time, Step, Value"):
        import_log(data.encode(), "scalars.csv", columns={"loss": "Valu"}, **facts())


def test_several_held_out_series_are_not_chosen_from(facts):
    data = json.dumps([{"step": s, "eval_c4_loss": loss(s), "eval_wiki_loss": loss(s) + 1} for s in steps()]).encode()
    with pytest.raises(P2Error, match=r"several held-out losses: eval_c4_loss, eval_wiki_loss\. Say which by --map"):
        import_log(data, **facts())
    assert import_log(data, columns={"loss": "eval_wiki_loss"}, **facts()).frame["loss"].min() > 4
