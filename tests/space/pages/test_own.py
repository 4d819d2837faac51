"""A training log dropped on the page: asked for what it lacks, then answered; bad files are told, and none is kept."""

import json
import re

import pyarrow.parquet as pq
import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from leaderboard.logs.frame import as_logs
from leaderboard.serving.board import Board
from space.server import uploads
from space.server.store import Store
from tests.hostile import encrypted
from tests.space.conftest import PHONE, assert_accessible, choose, fill
from tests.space.serving import serving

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def url():
    from leaderboard import load_logs

    frame = load_logs().frame
    few = frame[(frame["family"] == "llama-3") & (frame["method"] == "depth")].reset_index(drop=True)
    with serving(Store(None, Board(as_logs(few, (), source="a few runs")))) as address:
        yield address


@pytest.fixture
def trainer_state(tmp_path):
    rows = [{"step": n, "eval_loss": 3.9 - 0.9 * n / (n + 200), "epoch": n / 1000} for n in range(50, 1001, 50)]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "num_input_tokens_seen": 0}))
    return path


def test_a_trainer_state_is_asked_about_and_forecast(url, visit, trainer_state):
    page = visit(f"{url}/own", width=PHONE)
    page.set_input_files("#own-file input[type=file]", trainer_state)
    expect(page.locator("#own-answer")).to_contain_text("how many tokens a step has")
    fill(page, "own-tokens_per_step", "65,536")
    fill(page, "own-n0", "1.24B")
    fill(page, "own-rate", "25%")
    fill(page, "own-eval_data", "my-heldout")
    choose(page, "own-method", "depth")
    fill(page, "own-target_loss", "3.1")
    expect(page.locator("#own-run")).to_have_count(0)
    page.locator("#own-ask").click()
    expect(page.locator("#own-answer")).to_contain_text("It comes to a loss of 3.1000 at")
    expect(page.locator("#own-answer tbody tr")).to_have_count(2)
    expect(page.locator("#own-log")).to_have_attribute("download", "log.parquet")
    page.locator("#own-plot .main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE
    fill(page, "own-l0", "2.5")
    fill(page, "own-l_pruned", "3.9")
    page.locator("#own-ask").click()
    plot = page.locator("#own-over .js-plotly-plot")
    expect(plot).to_have_attribute("aria-label", re.compile("runs of depth .* share of the damage"))
    assert_accessible(page)


def test_bad_files_are_told_and_none_is_kept(url, visit, tmp_path, few_runs, log_file, trainer_state):
    log = log_file(few_runs[few_runs["run_id"] == few_runs["run_id"].iloc[0]])
    files = {
        "cut off": trainer_state.read_bytes()[:500],
        "nested too deeply": b"[" * 1_000_000,
        "a picture": b"\x89PNG" + bytes(1000),
        "ends the program that reads it": encrypted(tmp_path / "e.parquet", pq.read_table(log)).read_bytes(),
    }
    page = visit(f"{url}/own")
    for said, content in files.items():
        page.set_input_files("#own-file input[type=file]", {"name": "log.json", "mimeType": "", "buffer": content})
        expect(page.locator("#own-answer .warning")).to_contain_text(said)
        page.locator("#own-file button[aria-label='Clear']").first.click()
        expect(page.locator("#own-answer .warning")).to_have_count(0)
    page.set_input_files("#own-file input[type=file]", log)
    expect(page.locator("#own-answer")).to_contain_text("Training as long again wins")
    page.locator("#own-plot .main-svg").first.wait_for()
    left = [path.name for path in uploads.folder().rglob("*") if path.is_file()]
    assert "log.parquet" in left  # the form may be sent again
    assert "log.json" not in left
    uploads.sweep(0)
    assert list(uploads.folder().iterdir()) == []
