"""Losses on the yardstick: runs on all texts and tokenizers share a fit, and every answer can be asked on it."""

import numpy as np
import pytest

from leaderboard import P2Error, fit, forecast, load_logs, on_yardstick, recommend_tokens
from leaderboard.laws.catalogue import LAWS
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import usable
from leaderboard.logs.origin import WORDS, protocol
from leaderboard.ranking.tracks import groups

BYTES = 3.5  # a token
ASKED = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "law": "p2"}


@pytest.fixture(scope="module")
def measured(seed):
    """The depth runs of the seed with losses on the yardstick; every other one on another text and vocabulary."""
    depth = seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]
    depth = depth.assign(**{f"yardstick_{name}": depth[name] / BYTES for name in ("loss", "l0", "l_pruned")})
    other = depth["run_id"].isin(np.unique(depth["run_id"].astype(str))[::2])
    text = np.where(other, "another", depth["eval_data"].astype(str))
    return depth.assign(eval_data=text, vocab_size=np.where(other, 32_000, 16_384))


def test_runs_on_all_texts_and_tokenizers_share_a_fit(measured, seed):
    assert len(groups(usable(measured))) == 2
    rows = on_yardstick(measured)
    ((key, own),) = groups(usable(rows))
    assert key["eval_data"] == "yardstick"
    assert set(protocol(rows)) == {""}
    assert not set(WORDS) & set(rows)
    depth = seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]
    assert fit(LAWS["p2"], own).rmse == pytest.approx(fit(LAWS["p2"], usable(depth)).rmse / BYTES, rel=1e-4)


def test_budgets_and_forecasts_are_asked_on_it(measured, seed):
    rows = on_yardstick(measured)
    budget = recommend_tokens(rows, l0=2.72 / BYTES, excess=0.05 / BYTES, **ASKED)
    assert budget.group["eval_data"] == "yardstick"
    own = rows[rows["run_id"] == rows["run_id"].iloc[0]]
    ahead = forecast(rows.iloc[:0], own.iloc[:8])
    assert ahead.predict(own["tokens"].iloc[-1]) == pytest.approx(own["loss"].iloc[-1], abs=0.02)


def test_rows_without_it_are_left_out_and_logs_without_any_refused(measured, seed):
    some = measured.assign(yardstick_loss=measured["yardstick_loss"].where(measured["tokens"] > 5e6))
    assert len(on_yardstick(some)) == (measured["tokens"] > 5e6).sum()
    with pytest.raises(P2Error, match="yardstick: no run of these logs measured it; runs made before"):
        on_yardstick(seed)
    logs = load_logs()
    with pytest.raises(P2Error, match="yardstick"):
        logs.on_yardstick()


def test_a_log_with_it_passes_the_check_and_keeps_its_run_id(log_file):
    def edit(rows):
        for row in rows:
            row.update(yardstick_l0=0.8, yardstick_l_pruned=1.1, yardstick_loss=None, tokenizer_sha256="a" * 64)
        rows[-1]["yardstick_loss"] = 0.9

    (report,) = check_files([log_file("a.parquet", edit)]).reports
    assert not report.findings
