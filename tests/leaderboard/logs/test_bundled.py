"""The bundled logs of a real model: what their figures say, and that they are in no default."""

import pandas as pd
import pytest

from leaderboard import load_logs
from leaderboard.logs.load import BUNDLED
from leaderboard.seed import smollm2
from tests.pages import blocks, unlike


def test_the_logs_are_what_their_figures_make(tmp_path, monkeypatch):
    kept = load_logs("smollm2")
    assert kept.quarantined == ()
    for path in BUNDLED["smollm2"].iterdir():
        (tmp_path / "smollm2").mkdir(exist_ok=True)
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "smollm2-curves.csv").write_text((smollm2.HERE / "smollm2-curves.csv").read_text())
    monkeypatch.setattr(smollm2, "HERE", tmp_path)
    smollm2.main()
    made = load_logs(tmp_path / "smollm2").frame
    volatile = ["created_at"]
    pd.testing.assert_frame_equal(made.drop(columns=volatile), kept.frame.drop(columns=volatile))


def test_pruning_cost_more_than_the_excess_over_l0_says():
    real = load_logs("smollm2").frame
    end = real[real["tokens"] == real["tokens"].max()].set_index("method")
    assert end.loc["depth", "l0"] == end.loc["none", "l0"] == pytest.approx(2.5727)
    assert end.loc["depth", "loss"] - end.loc["depth", "l0"] == pytest.approx(0.0907, abs=1e-3)
    assert end.loc["depth", "loss"] - end.loc["none", "loss"] == pytest.approx(0.5191, abs=1e-3)
    assert set(real["provenance"]) == {"imported"}


def test_they_are_in_no_default():
    assert not set(load_logs().frame["run_id"]) & set(load_logs("smollm2").frame["run_id"])


def test_the_page_shows_what_its_lines_print(capsys):
    code, shown = (block.code for block in blocks("leaderboard/seed/README.md"))
    exec(compile(code, "leaderboard/seed/README.md", "exec"), {})
    assert unlike(shown, capsys.readouterr().out) == []
