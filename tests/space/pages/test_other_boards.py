"""The pages over other data than the seed: published models, hostile logs, a single run, files left out, many runs."""

import re

import pandas as pd
import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from leaderboard.logs.check import check_files
from leaderboard.logs.frame import as_logs
from leaderboard.serving.board import Board
from space.server.store import Store
from tests.space.conftest import PHONE, choose
from tests.space.serving import serving

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),
]
EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script> [a](javascript:alert(3)) <b>b</b>'
PAGES = ("", "own", "laws", "curves", "models", "contribute", "about")


def board_of(frame: pd.DataFrame, bad=()) -> Store:
    return Store(None, Board(as_logs(frame.reset_index(drop=True), bad, source="some runs")))


def published(frame: pd.DataFrame) -> pd.DataFrame:
    """Every run with a model of its own on the Hub."""
    return frame.assign(
        model_repo="ann/" + frame["run_id"].astype(str), model_revision="0123456789abcdef" * 2 + "01234567"
    )


def test_models_are_searched_sorted_linked_and_loaded(visit, few_runs):
    frame = published(few_runs)
    with serving(board_of(frame)) as url:
        page = visit(f"{url}/models")
        rows = page.locator("#models tbody tr")
        expect(rows).to_have_count(frame["run_id"].nunique())
        page.locator("#models summary").click()
        page.get_by_label("Contributor").check()
        expect(page.locator("#models th", has_text="Contributor")).to_be_visible()
        page.locator("#search textarea, #search input").first.press_sequentially("llama-3-s3")
        count = frame.loc[frame["base_model"].str.endswith("s3"), "run_id"].nunique()
        expect(rows).to_have_count(count)
        page.wait_for_url("**/models?search=llama-3-s3&*published-models.columns=*contributor*")
        again = visit(page.url)
        expect(again.locator("#models tbody tr")).to_have_count(count)
        expect(again.locator("#models th", has_text="Contributor")).to_be_visible()
        expect(again.locator("#snippet")).to_contain_text("from_pretrained")
        plot = again.locator("#pareto-plot .js-plotly-plot")
        expect(plot).to_have_attribute("aria-label", re.compile("Final loss on .* against non-zero parameters"))
        page.locator("#search textarea, #search input").first.press_sequentially(" nothing like it")
        expect(page.locator("#models .empty")).to_contain_text("nothing like it")


@pytest.mark.slow
def test_what_logs_say_is_text_on_every_page(visit, few_runs):
    """The check refuses most of these; the pages do not rely on it."""
    plain = ("run_id", "method", "objective")
    texts = [name for name in few_runs.select_dtypes(["object", "string", "category"]) if name not in plain]
    evil = published(few_runs).assign(**dict.fromkeys((*texts, "model_repo"), EVIL))
    with serving(board_of(evil)) as url:
        for path in (*PAGES, f"curves?run={evil['run_id'].iloc[0]}"):
            page = visit(f"{url}/{path}")
            page.locator("#stamp footer").wait_for()
            if path != "own":  # which shows nothing of the logs before a file is dropped
                expect(page.locator(".warning, tbody tr, .facts, .empty").first).to_be_visible()
            assert page.locator("#page img[src=x], #page script:text('alert')").count() == 0
            assert page.locator("a[href^='javascript']").count() == 0
            page.close()


@pytest.mark.slow
def test_one_run_alone_is_shown_and_what_it_cannot_say_is_said(visit, few_runs, log_file):
    one = few_runs[few_runs["run_id"] == few_runs["run_id"].iloc[0]]
    (bad,) = check_files([log_file(one, rate=2.0)], ["runs/ann/broken.parquet"]).reports
    with serving(board_of(one, (bad,))) as url:
        for path in PAGES:
            page = visit(f"{url}/{path}", width=PHONE)
            expect(page.locator("#stamp")).to_contain_text("1 left out")
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE
            if path == "about":
                expect(page.locator("#state")).to_contain_text("runs/ann/broken.parquet")
            if path == "curves":
                expect(page.locator("#runs tbody tr")).to_have_count(1)
            page.close()


@pytest.mark.slow
def test_pages_show_a_new_state_as_soon_as_it_is_served(visit, few_runs):
    store, count = board_of(few_runs), few_runs["run_id"].nunique()
    with serving(store) as url:
        old = visit(url)
        expect(old.locator("#stamp")).to_contain_text(f"{count} runs")
        expect(old.locator("#text")).to_be_hidden()
        expect(old.locator("#budget-plot .main-svg").first).to_be_visible()
        store.board = board_of(pd.concat([few_runs, few_runs.assign(eval_data="other", contributor="ann")])).board
        new = visit(url)
        expect(new.locator("#stamp")).to_contain_text(f"{2 * count} runs")
        choose(new, "text", "other")
        new.wait_for_url("**text=other*")
        expect(new.locator("#answer .sentence")).to_contain_text("tokens")
        for page in (old, new):
            expect(page.locator("#budget-plot .main-svg").first).to_be_visible()  # whole before their server ends
            page.close()


def test_a_run_that_two_people_made_has_a_page_for_each(visit, few_runs):
    run_id = few_runs["run_id"].iloc[0]
    again = few_runs[few_runs["run_id"] == run_id].assign(contributor="ann")
    with serving(board_of(pd.concat([few_runs, again.assign(seed=again["seed"] + 7)]))) as url:
        page = visit(f"{url}/curves?search={run_id}")
        expect(page.locator("#runs tbody tr")).to_have_count(2)
        expect(page.locator("#stamp")).to_contain_text(f"{few_runs['run_id'].nunique() + 1} runs")
        page.locator("#runs tbody a[href*='ann']").click()
        expect(page.locator("#run .facts")).to_contain_text("ann")
        expect(page.locator("#run .facts")).to_contain_text(f"Seed{again['seed'].iloc[0] + 7}")
        expect(page.locator("#run-plot .js-plotly-plot")).to_have_attribute("aria-label", re.compile("This run"))
        page.close()


def test_a_table_for_a_spreadsheet_holds_no_formula(few_runs):
    evil = '=HYPERLINK("http://evil","x")'
    frame = published(few_runs).assign(base_model=pd.Categorical([evil] * len(few_runs)))  # as load_logs gives it
    with serving(board_of(frame)) as url:
        for name in ("runs", "models"):
            read = pd.read_csv(f"{url}/download/{name}.csv")
            assert set(read["base_model"]) == {f"'{evil}"}, name
            assert (read["rate"] > 0).all()


@pytest.mark.slow
def test_two_thousand_runs_are_listed_in_parts(visit, few_runs):
    many = pd.concat([few_runs.assign(run_id=few_runs["run_id"].astype(str).str[:-4] + f"{i:04x}") for i in range(125)])
    with serving(board_of(many)) as url:
        page = visit(f"{url}/curves")
        rows = page.locator("#runs tbody tr")
        expect(rows).to_have_count(200)
        page.locator("#more").click()
        expect(rows).to_have_count(many["run_id"].nunique())
        expect(page.locator("#curves-plot .main-svg").first).to_be_visible()  # the page is whole before its server ends
        page.close()
