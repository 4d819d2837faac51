"""From a log in a visitor's hands to a row on the board: sign in, pull request, merge, refresh, against a real hub."""

import os
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytest.importorskip("authlib", reason="comes with gradio[oauth]")

import httpx
from huggingface_hub import HfApi
from playwright.sync_api import expect

from tests.commands import until
from tests.space.child import free_port, healthy
from zoo.devhub import client_env, serve

ROOT = Path(__file__).parents[3]
USERS = {"owner": "hf_owner_token", "ann": "hf_ann_token"}
LOGS, SECRET = "owner/logs", "a webhook's secret"
OAUTH = {
    "SPACE_ID": "owner/p2", "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "a-space", "OAUTH_CLIENT_SECRET": "a-secret",
    "OAUTH_SCOPES": "openid profile write-discussions", "P2ZOO_WEBHOOK_SECRET": SECRET,
}  # fmt: skip


@pytest.mark.slow
def test_a_visitor_signs_in_and_sends_a_log_that_appears_once_it_is_merged(visit, few_runs, log_file, tmp_path):
    runs = few_runs.groupby("run_id", observed=True)
    last = str(few_runs["run_id"].iloc[-1])
    with serve(tmp_path / "hub", USERS) as hub:
        owner = HfApi(endpoint=hub, token=USERS["owner"])
        owner.create_repo(LOGS, repo_type="dataset")
        for run_id, rows in runs:
            if run_id != last:
                there = {"repo_id": LOGS, "repo_type": "dataset", "path_in_repo": f"runs/p2lab/{run_id}.parquet"}
                owner.upload_file(path_or_fileobj=log_file(rows), **there)
        port = free_port()
        command = [sys.executable, "-W", "ignore", "-m", "space", "--logs", LOGS, "--port", str(port)]
        env = os.environ | client_env(hub, "") | OAUTH | {"OPENID_PROVIDER_URL": hub, "HF_HOME": str(tmp_path / "home")}
        with healthy(command, port, ROOT, env) as url:
            page = visit(f"{url}/contribute", on_hub=True, hosts=(hub.removeprefix("http://"),))
            page.get_by_role("button", name="Sign in with Hugging Face").click()
            page.get_by_role("link", name=re.compile("ann")).click()
            page.get_by_role("button", name=re.compile("ann")).wait_for()
            mine = log_file(runs.get_group(last), contributor="ann")
            page.set_input_files("#log input[type=file]", mine)
            page.locator("#send:not([disabled])").click()
            expect(page.locator("#sent")).to_contain_text("pull request 1")
            (pull,) = owner.get_repo_discussions(LOGS, repo_type="dataset")
            assert (pull.author, pull.status) == ("ann", "open")
            owner.merge_pull_request(LOGS, pull.num, repo_type="dataset")
            event = {"repo": {"type": "dataset", "name": LOGS}, "event": {"action": "update", "scope": "repo.content"}}
            told = httpx.post(f"{url}/webhook", json=event, headers={"X-Webhook-Secret": SECRET})
            assert told.json() == {"refreshing": True}
            until(lambda: httpx.get(f"{url}/healthz").json()["runs"] == len(runs))
            page.goto(f"{url}/curves?contributor=ann")
            expect(page.locator("#runs tbody tr")).to_have_count(1)
            expect(page.locator("#runs tbody")).to_contain_text(last)
            page.locator("#curves-plot .main-svg").first.wait_for()
