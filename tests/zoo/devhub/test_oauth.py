"""Signing in: gradio's own LoginButton walks the whole flow in a process of its own, and what the hub refuses."""

import json
import os
import subprocess
import sys
import textwrap
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from zoo.devhub import client_env, serve

APP = {"client_id": "a-space", "redirect_uri": "http://127.0.0.1:7860/login/callback?_target_url=%2F"}
SPACE = {
    "SPACE_ID": "owner/p2", "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "a-space", "OAUTH_CLIENT_SECRET": "a-secret",
    "OAUTH_SCOPES": "openid profile write-discussions", "GRADIO_ANALYTICS_ENABLED": "False",
}  # fmt: skip


@pytest.fixture
def sign_in(hub_url: str):
    """sign_in(user, scope) -> the answer of the token endpoint, as an app gets it."""

    def walk(user: str, scope: str, **changes: str) -> httpx.Response:
        asked = {"params": APP | {"user": user, "scope": scope, "state": "s", "response_type": "code"}}
        there = httpx.get(f"{hub_url}/oauth/authorize", **asked).headers["location"]
        assert there.startswith(APP["redirect_uri"])
        back = {name: values[0] for name, values in parse_qs(urlsplit(there).query).items()}
        assert back["state"] == "s"
        form = APP | {"code": back["code"], "grant_type": "authorization_code", "client_secret": "x"} | changes
        return httpx.post(f"{hub_url}/oauth/token", data=form)

    return walk


@pytest.mark.slow
@pytest.mark.sample
def test_a_space_signs_its_user_in_and_opens_a_pull_request_in_their_name(hub_url: str, owner: HfApi, repo: str):
    pytest.importorskip("authlib", reason="comes with gradio[oauth]")
    script = f"""
        import json, re, fastapi, gradio as gr, httpx
        from fastapi.testclient import TestClient
        from huggingface_hub import HfApi, whoami

        def me(profile: gr.OAuthProfile | None, token: gr.OAuthToken | None):
            if profile is None:
                return ["nobody"]
            pull = HfApi(token=token.token).upload_file(
                path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="{repo}", repo_type="dataset", create_pr=True)
            return [profile.username, whoami(token.token)["name"], token.scope, pull.pr_num]

        with gr.Blocks() as demo:
            gr.LoginButton()
            out = gr.JSON()
            demo.load(me, None, out, api_name="me", queue=False)
        app = gr.mount_gradio_app(fastapi.FastAPI(), demo, path="/")
        space = TestClient(app, base_url="https://127.0.0.1:7860", follow_redirects=False)

        def ask():
            return space.post("/gradio_api/run/me", json={{"data": [], "session_hash": "h"}}).json()["data"][0]

        before = ask()
        page = httpx.get(space.get("/login/huggingface").headers["location"]).text
        link = next(a for a in re.findall('href="([^"]+)"', page) if a.endswith("user=ann")).replace("&amp;", "&")
        back = space.get(httpx.get("{hub_url}" + link).headers["location"])
        print(json.dumps([before, back.status_code, back.headers["location"], ask()]))
    """
    env = os.environ | client_env(hub_url, "") | SPACE | {"OPENID_PROVIDER_URL": hub_url}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    before, status, target, after = json.loads(done.stdout.splitlines()[-1])
    assert (before, status, target[:1]) == (["nobody"], 307, "/")
    assert after == ["ann", "ann", SPACE["OAUTH_SCOPES"], 1]
    assert next(owner.get_repo_discussions(repo, repo_type="dataset")).author == "ann"


def test_a_token_is_limited_to_its_scopes(hub_url: str, repo: str, sign_in):
    answer = sign_in("ann", "openid profile").json()
    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope", "id_token"}
    reader = HfApi(endpoint=hub_url, token=answer["access_token"])
    assert reader.whoami()["name"] == "ann"
    assert reader.dataset_info(repo, token=reader.token).id == repo
    with pytest.raises(HfHubHTTPError, match="may only read"):
        reader.create_discussion(repo, "Hello", repo_type="dataset")
    writer = HfApi(endpoint=hub_url, token=sign_in("ann", "profile write-repos").json()["access_token"])
    assert writer.create_discussion(repo, "Hello", repo_type="dataset").author == "ann"
    forged = f"{answer['access_token'][:-1]}{'0' if answer['access_token'][-1] != '0' else '1'}"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub_url, token=forged).whoami()


def test_the_only_user_is_approved_at_once_and_stays_signed_in_over_a_restart(tmp_path):
    with serve(tmp_path, {"only": "hf_only"}) as url:
        code = httpx.get(f"{url}/oauth/authorize", params=APP).headers["location"].split("code=")[1]
        form = APP | {"code": code, "grant_type": "authorization_code", "client_secret": "x"}
        token = httpx.post(f"{url}/oauth/token", data=form).json()["access_token"]
    with serve(tmp_path, {"only": "hf_only"}) as url:
        assert HfApi(endpoint=url, token=token).whoami()["name"] == "only"


def test_a_code_is_good_once_and_for_its_app_only(hub_url: str, sign_in):
    wrong = [{"client_id": "another"}, {"redirect_uri": "http://127.0.0.1:1/"}, {"client_secret": ""}, {"code": "x.y"}]
    assert [sign_in("bob", "openid", **change).json()["error"] for change in wrong] == ["invalid_grant"] * 4
    code = httpx.get(f"{hub_url}/oauth/authorize", params=APP | {"user": "bob"}).headers["location"].split("code=")[1]
    form = APP | {"code": code, "grant_type": "authorization_code", "client_secret": "x"}
    assert [httpx.post(f"{hub_url}/oauth/token", data=form).status_code for _ in range(2)] == [200, 400]


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": "https://evil.example/login/callback"},
        {"redirect_uri": "javascript:alert(1)"},
        {"scope": "openid everything"},
        {"response_type": "token"},
        {"user": "nobody"},
    ],
)
def test_nobody_is_sent_elsewhere(hub_url: str, change: dict[str, str]):
    answer = httpx.get(f"{hub_url}/oauth/authorize", params=APP | change)
    assert (answer.status_code, "location" in answer.headers) == (400, False)
