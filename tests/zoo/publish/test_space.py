"""`p2zoo space deploy` against the embedded Hub, and the deployed Space started from what the Hub has."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from huggingface_hub import HfApi
from packaging.requirements import Requirement

from leaderboard.errors import P2Error
from tests.space.child import free_port, healthy
from zoo import cli
from zoo.devhub import serve
from zoo.publish.space import SECRET, deploy, plan

TOKEN = "hf_owner_token"
SPACE, LOGS = "owner/p2zoo", "owner/logs"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[HfApi]:
    with serve(tmp_path / "hub", {"owner": TOKEN}) as url:
        yield HfApi(endpoint=url, token=TOKEN)


def test_one_commit_has_it_all_and_the_next_changes_nothing(api: HfApi):
    planned = plan(SPACE, LOGS, private=True, secret="s3cret")
    assert "s3cret" not in repr(planned)
    done = deploy(api, planned)
    assert set(done.changed) == set(planned.files)
    assert set(api.list_repo_files(SPACE, repo_type="space")) == {".gitattributes", *planned.files}
    assert [c.title for c in api.list_repo_commits(SPACE, repo_type="space")] == [
        "p2zoo space deploy",
        "initial commit",
    ]
    info = api.space_info(SPACE)
    assert (info.private, info.sdk, info.sha) == (True, "gradio", done.revision)
    variables = {key: one.value for key, one in api.get_space_variables(SPACE).items()}
    assert variables == {"P2ZOO_LOGS": LOGS, "P2ZOO_MOUNTED_LOGS": "/logs"}
    assert list(api.get_space_secrets(SPACE)) == [SECRET]
    (volume,) = api.get_space_runtime(SPACE).volumes
    assert (volume.type, volume.source, volume.mount_path, volume.read_only) == ("dataset", LOGS, "/logs", True)
    again = deploy(api, planned)
    assert (again.changed, again.revision, again.notes) == ((), done.revision, ())


def test_what_differs_is_sent_and_what_is_gone_is_deleted(api: HfApi):
    deploy(api, plan(SPACE, LOGS))
    kind = {"repo_id": SPACE, "repo_type": "space"}
    for name in ("space/older.py", "notes.md"):
        api.upload_file(path_or_fileobj=b"old", path_in_repo=name, **kind)
    done = deploy(api, plan(SPACE, "owner/other-logs"))
    assert set(done.changed) == {"README.md", "space/older.py"}
    assert "notes.md" in api.list_repo_files(**kind)
    assert api.get_space_variables(SPACE)["P2ZOO_LOGS"].value == "owner/other-logs"
    assert [v.source for v in api.get_space_runtime(SPACE).volumes] == ["owner/other-logs"]


def test_the_front_matter_and_the_requirements(tmp_path: Path):
    files = plan(SPACE, LOGS).files
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    import gradio

    assert (front["sdk"], front["sdk_version"], front["app_file"]) == ("gradio", gradio.__version__, "app.py")
    assert front["hf_oauth"] is True
    assert front["datasets"] == [LOGS]
    assert {"leaderboard", "arxiv:2411.10272"} <= set(front["tags"])
    names = {Requirement(line).name for line in files["requirements.txt"].decode().splitlines()}
    assert {"gradio", "pandas", "scipy", "pyarrow", "huggingface_hub", "plotly"} <= names
    assert not {"torch", "transformers", "trl", "datasets", "typer"} & names
    assert "leaderboard/seed/runs/p2lab" in {str(Path(name).parent) for name in files}
    assert not [name for name in files if "__pycache__" in name or name.startswith(("zoo/", "tests/"))]


@pytest.mark.parametrize(("space", "logs"), [("p2zoo", LOGS), ("a/b/c", LOGS), (SPACE, "logs"), (SPACE, "../x/y")])
def test_a_name_that_is_none_is_refused(space, logs):
    with pytest.raises(P2Error, match="space deploy"):
        plan(space, logs)


def test_a_dry_run_lists_and_sends_nothing(api: HfApi, monkeypatch, capsys):
    asked = ["p2zoo", "space", "deploy", SPACE, "--logs", LOGS, "--dry-run", "--json", "--endpoint", api.endpoint]
    monkeypatch.setenv("HF_ENDPOINT", api.endpoint)
    monkeypatch.setenv("P2ZOO_WEBHOOK_SECRET", "s3cret")
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr().out
    assert ended.value.code in (0, None)
    listed = json.loads(printed)
    assert set(listed["files"]) == set(plan(SPACE, LOGS).files)
    assert listed["secrets"] == [SECRET]
    assert "s3cret" not in printed
    assert not api.repo_exists(SPACE, repo_type="space")


def test_without_the_extra_it_says_what_to_install():
    absent = "sys.meta_path.insert(0, type('A', (), {'find_spec': lambda s, n, *a: _none(n)})())"
    code = (
        "import sys\ndef _none(name):\n    if name.split('.')[0] == 'gradio':\n"
        f"        raise ModuleNotFoundError(name, name=name)\n{absent}\n"
        "sys.argv = ['p2zoo', 'space']\nfrom zoo import cli\ncli.main()"
    )
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert refused.returncode == 2
    assert refused.stderr == "error: space: gradio not installed; pip install 'p2zoo[space]'.\n"


@pytest.mark.slow
def test_the_deployed_space_starts(api: HfApi, tmp_path: Path):
    """Nothing of the checkout is on the child's path; its variables are the Space's, its log data set unreachable."""
    deploy(api, plan(SPACE, LOGS))
    folder = api.snapshot_download(SPACE, repo_type="space", local_dir=tmp_path / "space")
    for page in Path(folder).glob("space/pages/__init__.py"):  # shows that this copy runs, no other on the path
        page.write_text(page.read_text().replace('"Token budget"', '"The deployed copy"'))
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {key: one.value for key, one in api.get_space_variables(SPACE).items() if one.value}
    env |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "P2ZOO_OFFLINE": "1"}
    env |= {"P2ZOO_CACHE": str(tmp_path / "cache")}
    with healthy([sys.executable, "app.py"], port, cwd=Path(folder), env=env) as url:
        health = httpx.get(f"{url}/healthz").json()
        assert (health["status"], health["runs"]) == ("ok", 37)
        assert "bundled with p2zoo" in health["note"]
        page = httpx.get(f"{url}/", timeout=30)
        assert page.status_code == 200
        assert "The deployed copy" in page.text
