"""The budget page under slow replies, and that everything on it is one answer."""

import re

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from leaderboard import words
from leaderboard.logs.frame import as_logs
from leaderboard.planning.bases import BASES
from leaderboard.serving.board import Board
from space.pages.budget.form import OWN, Form, changed, completed, question, read_off
from space.server.store import Store
from tests.space.conftest import choose, fill
from tests.space.serving import serving

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Gradio leaves sockets to the collector
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),  # Gradio's queue
]
SLOW = {"offline": False, "latency": 700, "downloadThroughput": -1, "uploadThroughput": -1}


@pytest.fixture(scope="module")
def board(few_runs):
    return Board(as_logs(few_runs, (), source="some runs"))


@pytest.fixture(scope="module")
def url(board):
    with serving(Store(None, board)) as address:
        yield address


@pytest.fixture
def slow_page(url, visit):
    """The page, whole, on a network where every reply takes 0.7 seconds from then on."""
    page = visit(url)
    page.locator("#rivals tbody tr").first.wait_for()
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW)
    return page


def test_what_is_typed_while_a_reply_is_under_way_stays(slow_page):
    page = slow_page
    page.get_by_label("Until a doubling gains less").check()
    fill(page, "value", "0.02")
    choose(page, "gpu", "a100")
    fill(page, "price", "9")
    expect(page.locator("#answer .sentence")).to_contain_text("less than 0.02 nats")
    page.wait_for_url("**goal=gain&value=0.02&gpu=a100&price=9")
    expect(page.locator("#value input")).to_have_value("0.02")
    expect(page.locator("#price input")).to_have_value("9")


def test_a_field_that_has_the_focus_is_not_written_to_and_the_answer_is_to_what_it_holds(slow_page):
    page = slow_page
    page.get_by_label("Until a doubling gains less").check()
    page.locator("#value input").focus()
    expect(page.locator("#answer .sentence")).to_contain_text("less than 0.05 nats")
    expect(page.locator("#value input")).to_have_value("0.05")


def test_the_last_of_many_changes_is_what_is_answered(slow_page):
    page = slow_page
    for value in ("0.2", "0.11", "0.07"):
        page.locator("#value input").fill("")
        page.locator("#value input").press_sequentially(value, delay=60)
    expect(page.locator("#answer .sentence")).to_contain_text("(0.07 above the unpruned model)")
    page.wait_for_url("**value=0.07")
    expect(page.locator("#value input")).to_have_value("0.07")


def test_headline_and_its_row_are_one_number_with_ones_own_losses(url, visit, board):
    asked = "n0=34e6&l0=2.65&family=llama-3&rate=0.2&l_pruned=3.3&value=0.1"
    page = visit(f"{url}/?{asked}")
    form = completed(Form(n0=34e6, l0=2.65, family="llama-3", rate=0.2, l_pruned=3.3, value=0.1), board)
    budget, _ = board.budget(question(form), eval_data=form.text, gpu="h100", price=form.price)
    expect(page.locator("#answer .facts")).to_contain_text(words.loss(budget.loss))
    row = page.locator("#rivals tr.marked")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(words.loss(budget.loss))
    expect(row).to_contain_text("measured")
    expect(page.locator("#answer .state")).to_have_text(re.compile("what was measured"))
    expect(page.locator("#live[aria-live=polite]")).to_contain_text(page.locator("#answer .sentence").inner_text())


def test_what_pruning_cannot_do_is_refused_in_words(url, visit):
    page = visit(f"{url}/?n0=34e6&l0=2.65&family=llama-3&rate=0.2&l_pruned=2.4&value=0.1")
    expect(page.locator("#answer [role=alert]")).to_contain_text("l_pruned is 2.4, below l0")
    fill(page, "l_pruned", "3.3")
    fill(page, "value", "-0.1")
    expect(page.locator("#answer [role=alert]")).to_contain_text("excess is -0.1")


def test_too_far_shows_what_is_missing_and_no_empty_plot(url, visit):
    page = visit(f"{url}/?base=meta-llama/Llama-3.1-8B&gpu=a100")
    expect(page.locator("#answer .warning")).to_contain_text("8.03 B parameters")
    expect(page.locator("#answer pre")).to_contain_text("p2zoo run llama-3.1-8b/depth-0.25")
    expect(page.locator("#answer tbody tr")).to_have_count(3)
    expect(page.locator("#budget-plot")).to_be_hidden()
    expect(page.locator("#rivals h2")).to_have_count(0)


def test_what_was_changed_stays_and_what_follows_from_it_is_made_anew(board):
    before = {"goal": "excess", "value": 0.08, "gpu": "h100", "price": 3.0}
    form = completed(changed(Form(goal="gain", value=0.08), before), board)
    assert form.value == 0.01
    both = completed(changed(Form(goal="gain", value=0.03), before), board)
    assert both.value == 0.03
    own = completed(changed(Form(base=OWN, n0=34e6, l0=2.7), {"base": "p2lab/llama-3-s3"}), board)
    assert (own.l0, own.n0) == (2.7, 34e6)
    other = Form(text="other", base="p2lab/llama-3-s3", n0=33930176, l0=9.9, family="llama-3")
    text = completed(changed(other, {"text": "p2lab/docs-heldout"}), board)
    assert (text.base, text.l0) == ("p2lab/llama-3-s3", 2.719)  # the base stays, its loss is that on the text


def test_a_measured_loss_is_never_called_read_off(board):
    base = next(b for b in board.bases(board.texts[0]) if b.name in BASES and b.interpolated)
    form = completed(Form(base=base.name), board)
    assert read_off(form, base)
    assert not read_off(completed(Form(base=base.name, l0=2.31), board), base)
