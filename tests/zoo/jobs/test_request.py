"""Hugging Face Jobs: the request, against the installed client's own types; the script, against the embedded Hub.

The service itself is not here: what it answers is not tested.
"""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, JobHardware, constants
from huggingface_hub._jobs_api import _create_job_spec
from huggingface_hub.cli._uv_script_header import parse_uv_script_header
from typer.testing import CliRunner

from leaderboard.errors import P2Error
from leaderboard.planning.gpus import FLAVORS
from zoo.cli import app
from zoo.devhub import client_env, serve
from zoo.estimate.dry_run import estimate
from zoo.files import new_folder
from zoo.jobs.backup import RESULTS, Backup, download
from zoo.jobs.request import MOUNT, request
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe

ROOT = Path(__file__).parents[3]
WHEEL = "https://hub/me/files/p2zoo-0.1.0-py3-none-any.whl"


def ask(name="qwen-2.5-0.5b/depth-0.25", sets=(), on="hf-jobs:h200", **changes):
    path = find_recipe(str(name))
    given = {"namespace": "me", "wheel": WHEEL, "to": "me", "logs": "org/p2-logs"} | changes
    return request(estimate(load_recipe(path, sets)), path, sets, on, **given)


def test_the_client_takes_the_request_as_it_is():
    asked = ask()
    arguments = asked.arguments("hf_x")
    inspect.signature(HfApi.run_uv_job).bind(HfApi(), **arguments)
    assert constants.HF_JOBS_ARTIFACTS_MOUNT_PATH == MOUNT
    spec = _create_job_spec(
        image="uv", command=["uv", "run"], env=arguments["env"], secrets=arguments["secrets"],
        flavor=arguments["flavor"], timeout=arguments["timeout"], attempts=arguments["attempts"],
        labels=arguments["labels"],
    )  # fmt: skip
    assert spec["timeoutSeconds"] % 3600 == 0
    assert spec["timeoutSeconds"] > asked.hours * 3600
    assert spec["secrets"] == {"HF_TOKEN": "hf_x"}
    assert "hf_x" not in json.dumps(asked.as_dict())
    assert asked.cost == pytest.approx(asked.hours * FLAVORS["h200"].price)


def test_a_distillation_asks_for_the_hours_of_its_teacher():
    plain, taught = ask(), ask(sets=["train.objective=distill"])
    assert 1.3 < taught.hours / plain.hours < 1.6  # a quarter is cut: (6 x 0.75 + 2) / (6 x 0.75) = 1.44


def test_every_flavor_is_one_of_the_clients():
    assert set(FLAVORS) <= {flavor.value for flavor in JobHardware}


def test_a_local_wheel_is_shipped_and_installed_from_where_the_client_mounts_it(tmp_path):
    wheel = tmp_path / "p2zoo-0.1.0-py3-none-any.whl"
    wheel.touch()
    asked = ask(wheel=str(wheel))
    assert asked.words[-2:] == ("--wheel", str(wheel))
    assert asked.dependency == f"p2zoo[train] @ file://{MOUNT}/{wheel.name}"


def test_an_own_recipe_is_shipped_resolved(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"extends: {ROOT}/recipes/qwen-2.5-0.5b/depth-0.25.yaml\ntrain: {{seed: 3}}\n")
    sets = ["train.tokens=10_000_000"]
    asked = ask(tmp_path / "mine.yaml", sets)
    (tmp_path / "shipped.yaml").write_text(asked.recipe)
    shipped = load_recipe(tmp_path / "shipped.yaml")
    assert shipped.sha256 == load_recipe(tmp_path / "mine.yaml", sets).sha256
    assert shipped.hardware.gpus == 1
    assert "--set" not in asked.words


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on": "slurm:8"}, "allowed is hf-jobs:FLAVOR"),
        ({"on": "hf-jobs:h20"}, "Did you mean 'h200'"),
        ({"wheel": None}, "pip wheel"),
        ({"wheel": "dist/none.whl"}, "is no wheel file"),
        (
            {"name": "llama-3.2-3b/2of4", "on": "hf-jobs:l40sx1"},
            "at least 5. GiB on each card.*hf-jobs:a100-large would",
        ),
        ({"name": "ladder/llama-3-s1-depth-2"}, "makes a base model, which a job cannot see"),
        ({"name": "llama-3.1-8b/2of4", "on": "hf-jobs:h200x4"}, "adamw-8bit does not shard"),
        ({"sets": ["train.objective=distill"], "on": "hf-jobs:h200x4"}, "teacher on one device"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_sent(changes, said):
    with pytest.raises(P2Error, match=said):
        ask(**changes)


def test_the_job_uses_every_gpu_of_its_machine():
    asked = ask(on="hf-jobs:h200x4", sets=["hardware.gpus=1"])
    assert load_recipe(find_recipe(asked.words[0]), asked.words[2:5:2]).hardware.gpus == 4


def test_a_bundled_model_goes_with_the_wheel_and_its_licence_is_known():
    assert ask("quickstart/depth").words[0] == "quickstart/depth"


def test_a_recipe_with_files_of_this_machine_is_refused(bench_folder):
    with pytest.raises(P2Error, match="cannot see files of this machine"):
        ask(bench_folder / "recipe.yaml")
    with pytest.raises(P2Error, match=r"model\.name: a job cannot see"):
        ask("quickstart/depth", [f"model.name={bench_folder}/model", "prune.rate=0.1969"])


def test_the_script_says_what_it_needs():
    header = parse_uv_script_header((ROOT / "recipes" / "job.py").read_text(encoding="utf-8"))
    assert (header.flavor, header.secrets) == ("h200", ["HF_TOKEN"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "me"), r"--to, --logs and --license go with --on or --state"),
        (("--state", "me/state", "--on", "hf-jobs:h200"), r"--state: a job with --on has a repository of its own"),
    ],
)
def test_what_goes_with_a_state(options, said):
    result = CliRunner().invoke(app, ["run", "quickstart/depth", *options])
    assert isinstance(result.exception, P2Error)
    assert re.search(said, str(result.exception))


@pytest.fixture
def hub(tmp_path):
    with serve(tmp_path / "hub", {"me": "hf_me", "org": "hf_org"}) as url:
        HfApi(endpoint=url, token="hf_org").create_repo("org/p2-logs", repo_type="dataset")
        yield HfApi(endpoint=url, token="hf_me")


def test_a_save_survives_the_end_of_the_run(hub, tmp_path):
    """The last checkpoint is still on its way when the run removes its scratch folder."""
    run = tmp_path / "run"
    kept = run / ".work" / "checkpoints" / "checkpoint-8" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(2**21))
    (run / "run.json").write_text("{}")
    said = []
    backup = Backup(hub, "me/state", said.append)
    backup.restore(run)
    backup.save(run)
    shutil.rmtree(run / ".work")
    backup.wait()
    assert said == ["job: checkpoint after step 8 is on the Hub"]
    assert ".work/checkpoints/checkpoint-8/model.safetensors" in hub.list_repo_files("me/state")
    assert [path.name for path in tmp_path.iterdir() if "run" in path.name] == ["run"]


def test_a_job_leaves_a_folder_alone_that_is_not_a_runs(hub, tmp_path):
    """Another machine has a state to restore; here --out names a folder of the user's own files."""
    kept = tmp_path / "run" / ".work" / "checkpoints" / "checkpoint-8" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    (tmp_path / "run" / "run.json").write_text("{}")
    backup = Backup(hub, "me/state")
    backup.restore(tmp_path / "run")
    backup.save(tmp_path / "run")
    backup.wait()
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter.tex").write_text("years of work")
    with pytest.raises(P2Error, match="holds no run; choose an empty or new folder with --out"):
        Backup(hub, "me/state").restore(own)
    assert (own / "chapter.tex").read_text() == "years of work"
    Backup(hub, "me/state").restore(tmp_path / "new")
    assert (tmp_path / "new" / "run.json").is_file()


def test_what_was_there_stays_where_a_new_folder_cannot_be_filled(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "kept.txt").write_text("kept")

    def fill() -> None:
        with new_folder(own) as folder:
            (folder / "half.txt").write_text("half")
            raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        fill()
    assert [path.name for path in own.iterdir()] == ["kept.txt"]
    with new_folder(own) as folder:
        (folder / "whole.txt").write_text("whole")
    assert [path.name for path in own.iterdir()] == ["whole.txt"]


def test_a_state_that_is_not_on_the_hub_is_said_in_words(hub, tmp_path):
    with pytest.raises(P2Error, match=r"job: me/nothing: not found, or private and not yours"):
        download(hub, "me/nothing", tmp_path / "run", RESULTS)
    assert not (tmp_path / "run").exists()


def test_a_state_that_holds_a_token_stays_here(hub, tmp_path):
    for name in RESULTS:
        (tmp_path / name).write_text("{}")
    (tmp_path / "run.json").write_text(json.dumps({"said": "hf_" + "a" * 34}))
    with pytest.raises(P2Error, match=r"run\.json: holds a Hub access token"):
        Backup(hub, "me/state").finish(tmp_path, {})


def start(command, recipe, out, hub, tmp_path):
    """The job as a machine would start it; its words line by line."""
    environment = os.environ | client_env(hub.endpoint, hub.token) | {"P2ZOO_CACHE": str(tmp_path / "cache")}
    path = [str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    environment |= {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    script = [
        str(ROOT / "recipes" / "job.py"),
        str(recipe),
        "--state",
        "me/state",
        "--to",
        "me",
        "--license",
        "apache-2.0",
    ]
    return subprocess.Popen(
        [*command, *script, "--logs", "org/p2-logs", "--out", str(out)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def killed_and_started_again(command, bench_folder, hub, tmp_path):
    """A job is killed after its first checkpoint is on the Hub; another machine goes on; a third has nothing to do."""
    recipe = bench_folder / "recipe.yaml"
    with start(command, recipe, tmp_path / "one", hub, tmp_path) as first:
        for line in first.stdout:
            if "is on the Hub" in line:
                os.killpg(first.pid, signal.SIGKILL)  # uv has the script as its child
    assert first.returncode == -signal.SIGKILL
    shutil.rmtree(tmp_path / "one")
    second = start(command, recipe, tmp_path / "two", hub, tmp_path)
    said = second.communicate(timeout=200)[0]
    assert second.returncode == 0, said
    assert "going on from me/state" in said
    assert "resuming after" in said
    (pull,) = hub.get_repo_discussions("org/p2-logs", repo_type="dataset")
    (model,) = [one.id for one in hub.list_models(author="me") if one.id != "me/state"]
    published = len(hub.list_repo_commits(model))
    third = start(command, recipe, tmp_path / "three", hub, tmp_path)
    said = third.communicate(timeout=200)[0]
    assert third.returncode == 0, said
    assert "this run is over" in said
    assert len(list(hub.get_repo_discussions("org/p2-logs", repo_type="dataset"))) == 1
    assert len(hub.list_repo_commits(model)) == published
    assert not [name for name in hub.list_repo_files("me/state") if name.startswith(".work")]
    assert json.loads((tmp_path / "three" / "published.json").read_text())["pull"].endswith(f"/discussions/{pull.num}")
    return json.loads((tmp_path / "two" / "run.json").read_text())


@pytest.mark.slow
@pytest.mark.sample
def test_a_preempted_job_goes_on_from_the_hub_and_publishes_once(bench_folder, hub, tmp_path):
    state = killed_and_started_again([sys.executable], bench_folder, hub, tmp_path)
    assert state["tokens"] == 1536


@pytest.mark.slow
def test_the_same_by_uv_with_nothing_installed_by_it(bench_folder, hub, tmp_path):
    """uv makes an empty environment for the script, whose header names no package; p2zoo is on PYTHONPATH."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "run", "--offline", "--no-project", "--python", sys.executable, "--script"]
    assert killed_and_started_again(command, bench_folder, hub, tmp_path)["tokens"] == 1536
