"""The pages in Chromium over the bundled runs: what they show, filter, link to, and say to those who cannot see."""

import html
import io
import json
import re
from pathlib import Path

import httpx
import pandas as pd
import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from leaderboard import load_logs, recommend_tokens, words
from leaderboard.planning.wanted import offers
from space import pages
from space.pages.laws import COVERED
from space.server.store import Store
from tests.space.conftest import PHONE, WIDE, assert_accessible, choose, fill
from tests.space.serving import serving

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Gradio leaves sockets to the collector
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),  # Gradio's queue
]
PAGES = {  # what is there once a page is whole
    "": "#rivals tbody tr",
    "own": "#own-file",
    "laws": "#ablation tbody tr",
    "curves": "#curves-plot .main-svg >> nth=0",
    "models": "#models .empty",
    "contribute": "#wanted tbody tr",
    "about": "#state .facts",
}


@pytest.fixture(scope="module")
def url(seed_board):
    with serving(Store(None, seed_board)) as address:
        yield address


@pytest.mark.parametrize("path", PAGES)
def test_a_page_on_a_phone_and_a_desktop_in_light_and_dark(path, url, visit, seed_board):
    page = visit(f"{url}/{path}", width=PHONE)
    page.locator(PAGES[path]).first.wait_for()
    expect(page.locator("#menu [aria-current]")).to_have_count(1)
    expect(page.locator("#stamp")).to_contain_text(seed_board.logs.revision)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE
    rights = page.locator("#menu nav a").evaluate_all("links => links.map(a => a.getBoundingClientRect().right)")
    assert max(rights) <= PHONE
    assert_accessible(page)
    page.locator(".dark-switch").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    assert_accessible(page)
    page.set_viewport_size({"width": WIDE, "height": 900})
    assert_accessible(page)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_arrives_with_its_menu_and_title_in_it(path, url):
    sent = httpx.get(f"{url}/{path}")
    page = next(page for page in pages.PAGES if page.path == path)
    assert f"<title>{page.name} · p2zoo</title>" in sent.text
    assert sent.text.count('"og:title"') == sent.text.count('"twitter:card"') == 1  # the page's own, none of Gradio's
    assert f'"og:title" content="{html.escape(page.heading)} · p2zoo"' in sent.text
    shell = sent.text[sent.text.index('<div id="shell">') : sent.text.index("<gradio-app")]
    assert f"<h1>{page.heading}</h1>" in shell
    assert shell.count("aria-current=page") == 1
    assert sent.headers["content-encoding"] == "gzip"
    assert sent.headers["content-security-policy"].startswith("default-src 'self'")


def test_an_address_without_a_page_says_so_in_words(url):
    lost = httpx.get(f"{url}/no-such-page", headers={"Accept": "text/html"})
    assert lost.status_code == 404
    assert "There is no such page" in lost.text
    assert all(f'href="/{path}"' in lost.text for path in PAGES)
    assert httpx.get(f"{url}/download/none.csv").json()["error"].startswith("download: unknown file")


def test_what_a_page_arrived_with_makes_way_for_the_page(url, visit):
    page = visit(url)
    page.locator(PAGES[""]).first.wait_for()
    expect(page.locator("#shell")).to_have_count(0)
    expect(page.locator("h1")).to_have_count(1)


def test_pages_are_filled_without_a_queue(url, visit):
    """One visit in hundreds stayed empty: two events in Gradio's queue, whose stream closed as the first ended."""
    page, asked = visit(f"{url}/about"), []
    page.on("request", lambda request: asked.append(request.url))
    for path, whole in PAGES.items():
        page.goto(f"{url}/{path}")
        page.locator(whole).first.wait_for()
    assert any("/gradio_api/run/" in address for address in asked)
    assert not any("/queue/" in address for address in asked)


def test_on_a_phone_a_wide_table_scrolls_inside_and_panels_stand_below_one_another(url, visit):
    page = visit(f"{url}/curves?second=p2&by=n0", width=PHONE)
    page.locator(PAGES["curves"]).wait_for()
    own, shown = page.locator("#runs .table-frame").evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert own > shown
    assert shown <= PHONE
    plot = page.locator("#curves-plot .js-plotly-plot")
    expect(plot).to_have_attribute("aria-label", re.compile("by capacity-damage and p2, coloured by parameters"))
    lefts = plot.locator(".subplot").evaluate_all("all => all.map(one => one.getBoundingClientRect().left)")
    assert max(lefts) < PHONE / 2
    expect(plot.locator(".legendtext")).to_have_text(["measured", "capacity-damage", "p2"])


def test_a_budget_is_what_recommend_tokens_says_and_its_link_asks_it_again(url, visit):
    page = visit(url)
    page.locator(PAGES[""]).first.wait_for()
    choose(page, "base", "p2lab/qwen-2.5-s2 · 12.9 M")
    page.wait_for_url("**/?base=*qwen-2.5-s2")
    page.get_by_label("width").check()
    page.wait_for_url("**method=width")
    fill(page, "value", "0.08")
    page.wait_for_url("**value=0.08")
    fill(page, "rate", "0.3")
    base = load_logs().frame.query("base_model == 'p2lab/qwen-2.5-s2'").iloc[0]
    found = recommend_tokens(
        load_logs().frame, family="qwen-2.5", method="width", rate=0.3, n0=base["n0"], l0=round(base["l0"], 4),
        excess=0.08,
    )  # fmt: skip
    sentence = page.locator("#answer .sentence")
    expect(sentence).to_contain_text(f"{words.count(found.tokens, long=True)} tokens")
    expect(page.locator("#answer")).to_contain_text(words.span(*found.tokens_80))
    page.wait_for_url("**method=width&rate=0.3&value=0.08")
    said = sentence.inner_text()
    again = visit(page.url)
    expect(again.locator("#answer .sentence")).to_have_text(said)
    expect(again.locator("#value input")).to_have_value("0.08")
    expect(again.get_by_label("width")).to_be_checked()
    plot = again.locator("#budget-plot .js-plotly-plot")
    expect(plot).to_have_attribute("aria-label", re.compile("Predicted loss over tokens"))
    expect(plot).to_have_attribute("role", "img")


def test_a_price_that_is_none_is_refused_on_the_page(url, visit):
    page = visit(url)
    page.locator(PAGES[""]).first.wait_for()
    fill(page, "price", "-1")
    expect(page.locator("#answer [role=alert]")).to_contain_text("price is -1")


def test_a_question_far_outside_the_data_gets_no_number_but_what_would_answer_it(url, visit):
    page = visit(f"{url}/?base=meta-llama/Llama-3.1-8B&rate=0.25&gpu=a100")
    expect(page.locator("#answer .sentence")).to_contain_text("Too far to say")
    expect(page.locator("#answer .sentence")).not_to_contain_text(re.compile(r"\d"))  # no number of tokens
    expect(page.locator("#answer .warning")).to_contain_text("outside what was measured")
    expect(page.locator("#answer")).to_contain_text("Published recoveries near it")
    expect(page.locator("#answer pre")).to_contain_text("p2zoo run")
    expect(page.locator("#rivals tr")).to_have_count(0)


@pytest.mark.parametrize(
    "query", ["rate=abc&base=<script>alert(1)</script>&goal=x&gpu=<b>", "value=nan&n0=1e999", "n0=-5&l0=2&rate=9"]
)
def test_an_address_that_is_wrong_gets_an_answer_or_a_sentence(query, url, visit):
    page = visit(f"{url}/?{query}")
    expect(page.locator("#answer .facts, #answer .warning").first).to_be_visible()


def test_laws_in_a_cell_by_link(url, visit, seed_board):
    page = visit(f"{url}/laws")
    expect(page.locator("#ranking tbody tr.marked")).to_contain_text("errs least")
    ranked = page.locator("#ranking table").first
    expect(ranked.locator("tbody tr").first).to_have_class("marked")  # by error on new models
    expect(page.locator("#ranking")).to_contain_text("laws answer together")
    expect(page.locator("#ranking")).to_contain_text("laws share the first rank")
    expect(page.locator("#ranking")).to_contain_text("Noise floor")
    choose(page, "track", "largest size")
    choose(page, "group", "llama-3 · depth · p2lab/docs-heldout")
    page.wait_for_url("**/laws?track=size&group=*")
    rows = page.locator("#ranking tbody tr")
    expect(page.locator("#ranking td", has_text="width")).to_have_count(0)
    expect(rows).to_have_count(count := len(seed_board.ranking[0]))
    again = visit(page.url)
    expect(again.locator("#ranking tbody tr")).to_have_count(count)
    again.locator("#ranking a", has_text=re.compile("^p2-no-nc$")).click()
    expect(again.locator("#law-detail h2")).to_have_text("p2-no-nc")
    expect(again.locator("#law-detail math")).to_be_visible()


def test_runs_are_filtered_linked_to_and_opened(url, visit):
    page = visit(f"{url}/curves")
    rows = page.locator("#runs tbody tr")
    expect(rows).to_have_count(37)
    choose(page, "method", "depth")
    frame = load_logs().frame
    depth = frame[frame["method"] == "depth"]
    expect(rows).to_have_count(depth["run_id"].nunique())
    fill(page, "search", "qwen")
    expect(rows).to_have_count(depth.loc[depth["family"] == "qwen-2.5", "run_id"].nunique())
    page.wait_for_url("**/curves?search=qwen&method=depth")
    again = visit(page.url)
    expect(again.locator("#runs tbody tr")).to_have_count(rows.count())
    expect(again.locator("#method input")).to_have_value("depth")
    plot = again.locator("#curves-plot .js-plotly-plot")
    expect(plot).to_have_attribute("aria-label", re.compile("Measured .* a panel for each family"))
    run_id = again.locator("#runs tbody a").first.inner_text()
    again.locator("#runs tbody a").first.click()
    expect(again.locator("#run h2")).to_contain_text(run_id)
    expect(again.locator("#run")).to_contain_text("p2lab/docs-heldout")
    expect(again.locator("#run-plot .js-plotly-plot")).to_have_attribute("aria-label", re.compile("This run"))
    assert f"run=p2lab%2F{run_id}" in again.url


def test_a_table_is_sorted_and_its_columns_chosen_by_keyboard_and_kept_through_a_visit_to_a_run(url, visit):
    page = visit(f"{url}/curves?method=depth&runs.sort=-rate")
    rates = page.locator("#runs tbody td:nth-child(4)")
    expect(page.locator("#runs th[aria-sort=descending]")).to_have_text("Rate")
    shown = [float(cell) for cell in rates.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]
    assert shown == sorted(shown, reverse=True)
    page.locator("#runs thead button", has_text="Last").press("Enter")
    expect(page.locator("#runs th[aria-sort=ascending]")).to_have_text("Last")
    page.locator("#runs summary").press("Enter")
    page.locator("#runs").get_by_label("Seed").press("Space")
    expect(page.locator("#runs thead")).to_contain_text("Seed")
    page.wait_for_url("**/curves?method=depth&runs.sort=loss&runs.columns=*seed")
    first = page.locator("#runs tbody tr").first.inner_text()
    page.locator("#runs tbody a").first.click()
    expect(page.locator("#run h2")).to_contain_text(first.split()[0])
    page.get_by_role("link", name="Back to all runs").click()
    expect(page.locator("#run h2")).to_have_count(0)
    expect(page.locator("#method input")).to_have_value("depth")
    expect(page.locator("#runs th[aria-sort=ascending]")).to_have_text("Last")
    assert page.locator("#runs tbody tr").first.inner_text() == first


def test_what_a_table_shows_is_saved(url, visit, seed_board):
    page = visit(f"{url}/contribute")
    page.locator("#wanted tbody tr").first.wait_for()
    saved = {}
    for kind in ("CSV", "JSON"):
        with page.expect_download() as file:
            page.get_by_role("button", name=f"Most wanted runs as {kind}").click()
        saved[kind] = file.value.path().read_text()
    table, rows = pd.read_csv(io.StringIO(saved["CSV"])), json.loads(saved["JSON"])
    assert list(table) == list(rows[0])
    wanted = pd.DataFrame(offers(seed_board.wanted)).head(len(rows))
    assert [row["Narrower"] for row in rows] == pytest.approx(wanted["narrower"].tolist())
    assert table["Tokens"].tolist() == pytest.approx(wanted["tokens"].tolist())


def test_a_filter_that_empties_the_table_is_named(url, visit):
    page = visit(f"{url}/curves?method=2:4&rate_from=0.9")
    expect(page.locator("#runs .empty")).to_contain_text("rate")
    page = visit(f"{url}/curves?search=nobody-has-this")
    expect(page.locator("#runs .empty")).to_contain_text("without search 37 are left")


STOPS = [
    ".skip",
    "nav a",
    "#search *",
    "#method *",
    "#runs summary",
    ".table-frame",
    "#runs th button",
    "#runs tbody a",
]
FOCUS = f"{STOPS}.find(stop => document.activeElement.matches(stop)) ?? null"


def test_the_keyboard_reaches_menu_form_table_and_link(url, visit):
    page = visit(f"{url}/curves")
    page.locator("#runs .table-frame").wait_for()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUS))
        if reached[-1] == "#runs tbody a":
            break
    assert list(dict.fromkeys(stop for stop in reached if stop)) == STOPS
    expect(page.get_by_role("listbox")).to_have_count(0)  # a list that opened on the way has closed
    page.keyboard.press("Enter")
    page.locator("#run h2").wait_for()


def test_a_good_log_is_clean(url, visit, log_file):
    one = load_logs().frame
    path = log_file(one[one["run_id"] == one["run_id"].iloc[0]])
    page = visit(f"{url}/contribute")
    page.locator(PAGES["contribute"]).first.wait_for()  # before that it may not listen
    page.set_input_files("#log input[type=file]", path)
    expect(page.locator("#findings")).to_contain_text("The log is clean.")
    expect(page.locator("#sent")).to_contain_text("p2zoo publish")


EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script> [a](javascript:alert(3)) **b**'
TEXTS = ("run_id", "base_model", "family", "importance", "train_data", "eval_data", "hardware", "software", "schedule")


def test_a_hostile_log_is_shown_as_text(url, visit, log_file):
    one = load_logs().frame
    path = log_file(one[one["run_id"] == one["run_id"].iloc[0]], **dict.fromkeys(TEXTS, EVIL))
    page = visit(f"{url}/contribute")
    page.locator(PAGES["contribute"]).first.wait_for()  # before that it may not listen
    page.set_input_files("#log input[type=file]", path)
    findings = page.locator("#findings")
    expect(findings).to_contain_text("The log has errors")
    expect(findings).to_contain_text("<img src=x onerror=")
    assert findings.locator("img, script").count() == 0
    assert html.escape("<img") in findings.inner_html()


def test_what_the_calibration_table_says_is_what_the_command_printed():
    printed = (Path(__file__).parents[3] / "leaderboard" / "README.md").read_text(encoding="utf-8")
    for where, curves, losses, tokens in COVERED:
        name = where.replace("all", "all, l_pruned") if where == "all" else f"{where},"
        row = rf"\| {name} known \| {curves} \| \S+ \| {losses * 100:.0f} % \| \d+ % \| {tokens * 100:.0f} % \|"
        assert re.search(row, printed), where
