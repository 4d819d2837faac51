"""Publishing a finished run to the embedded Hub with the stock client: what arrives, what is refused, what stays."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files
from leaderboard.logs.hub import read_dataset
from leaderboard.logs.submit import title
from tests.zoo.publish.conftest import LOGS, USERS
from zoo.cli.publish import listing
from zoo.devhub import client_env
from zoo.publish.card import numbers_of
from zoo.publish.licences import LICENCES
from zoo.publish.publish import Standing, default_name, plan, publish
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe, to_yaml
from zoo.run.finished import portable, read_run

APACHE = {"licence": "apache-2.0"}


@pytest.fixture(scope="module")
def published(runs, hub_url):
    """The 2:4 run of ann, published."""
    ann = HfApi(endpoint=hub_url, token=USERS["ann"])
    planned = plan(runs(), "ann", LOGS, **APACHE)
    return planned, publish(ann, planned)


@pytest.fixture
def copy(runs, tmp_path) -> Callable[..., Path]:
    """A copy of a run folder, to change."""
    return lambda *which: Path(shutil.copytree(runs(*which), tmp_path / "copy"))


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_text(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def files(api: HfApi, repo: str, **where: str) -> list[str]:
    return api.list_repo_files(repo, **where)


def test_what_arrives(published, as_user, runs, tmp_path):
    planned, done = published
    api, run = as_user("owner"), read_run(runs())
    assert done.model == planned.repo == "ann/model-2of4-0.39"
    assert files(api, done.model) == [
        ".gitattributes",
        "LICENSE",
        "README.md",
        "config.json",
        "curve.png",
        "generation_config.json",
        "model.safetensors",
        "recipe.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    pull = api.get_discussion_details(LOGS, int(done.pull.split("/")[-1]), repo_type="dataset")
    assert (pull.author, pull.status, pull.is_pull_request) == ("ann", "open", True)
    assert f"{done.url}/commit/{done.revision}" in pull.events[0].content
    assert "CC-BY-4.0" in pull.events[0].content
    ref = {"repo_type": "dataset", "revision": pull.git_reference}
    assert [name for name in files(api, LOGS, **ref) if name.startswith("runs/ann")] == [done.log]
    log = Path(api.hf_hub_download(LOGS, done.log, cache_dir=tmp_path, **ref))
    checked = check_files([log])
    assert checked.reports[0].findings == ()
    row = checked.frame.iloc[0]
    assert (row.contributor, row.model_repo, row.model_revision) == ("ann", done.model, done.revision)
    assert (row.run_id, list(checked.frame.loss)) == (run.run_id, [point["loss"] for point in run.curve])


@pytest.mark.slow
def test_it_loads_with_from_pretrained(published, hub_url, runs, tmp_path):
    import torch
    from safetensors.torch import load_file

    _, done = published
    code = (
        "import sys, safetensors.torch as s\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"where = dict(pretrained_model_name_or_path={done.model!r}, revision={done.revision!r})\n"
        "model, tokenizer = AutoModelForCausalLM.from_pretrained(**where), AutoTokenizer.from_pretrained(**where)\n"
        "s.save_file({n: p.detach().clone() for n, p in model.named_parameters()}, sys.argv[1])\n"
        "print(len(tokenizer('abc')['input_ids']))"
    )
    environment = os.environ | client_env(hub_url, USERS["bob"]) | {"HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code, str(tmp_path / "loaded.safetensors")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=200)
    assert ended.stdout.strip() == "3"
    loaded, saved = load_file(tmp_path / "loaded.safetensors"), load_file(runs() / "model" / "model.safetensors")
    assert all(torch.equal(loaded[name], saved[name]) for name in loaded)


def test_the_card(published, as_user, runs, tmp_path):
    planned, done = published
    path = as_user("bob").hf_hub_download(done.model, "README.md", cache_dir=tmp_path)
    card, run = ModelCard.load(path), read_run(runs())
    data = card.data
    assert (data.base_model, data.license, data.library_name) == ("model", "apache-2.0", "transformers")
    assert data.to_dict()["base_model_relation"] == "finetune"
    assert "arxiv:2411.10272" in data.tags
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("loss", run.loss)
    assert numbers_of(card.content, done.model) == planned.claimed
    for wanted in (
        f"| {run.columns['n_pruned']:,} |",
        f"**{run.loss:.4f}**",
        f"{run.columns['l0']:.4f}",
        f'AutoModelForCausalLM.from_pretrained("{done.model}")',
        "to_sparse_semi_structured",
        "They pay only for large-batch prefill",
        "![Held-out loss against post-training tokens](curve.png)",
        f"[pull request]({done.pull})",
        "A modified version of model",
    ):
        assert wanted in card.text
    assert yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])["prune"]["method"] == "2:4"


def test_the_card_shows_losses_by_source_where_the_run_measured_them(copy):
    folder = copy()
    assert "By source" not in plan(folder, "ann", **APACHE).card().decode()
    before, now = ({"web | x`": {"loss": loss, "tokens": 1200}} for loss in (2.5, 2.75))
    edit_json(folder / "run.json", l0_by_source=before, loss_by_source=now)
    assert "| `web / x'` | 1,200 | 2.5000 | 2.7500 |" in plan(folder, "ann", **APACHE).card().decode()


def test_neither_machine_nor_a_base_that_was_never_pruned_is_told_of(copy):
    assert "hardware" not in to_yaml(portable(load_recipe(find_recipe("quickstart/depth"), ["hardware.gpus=8"])))
    folder = copy()
    one = {"web": {"loss": 2.5, "tokens": 1200}}
    edit_json(folder / "run.json", l0_by_source=one, loss_by_source=one)
    planned = plan(folder, "ann", **APACHE)
    base = dataclasses.replace(planned.run, recipe=load_recipe(find_recipe("ladder/bases/llama-3-s1")))
    card = dataclasses.replace(planned, run=base).card().decode()
    assert "| source | tokens predicted | random weights | this model |" in card


def test_the_runs_of_one_sweep_have_names_of_their_own(runs):
    run = read_run(runs())
    changes = [[], ["train.seed=1"], ["train.objective=distill"], ["data.train.noise=0.25"], ["data.train.noise=0.5"]]
    recipes = [load_recipe(find_recipe("quickstart/depth"), change) for change in changes]
    names = [default_name(dataclasses.replace(run, recipe=recipe), LICENCES["apache-2.0"]) for recipe in recipes]
    assert [name.removeprefix(names[0]) for name in names] == ["", "-seed1", "-distill", "-noise-0.25", "-noise-0.5"]


def test_no_path_of_this_machine_leaves_it(published, as_user, tmp_path):
    _, done = published
    folder = as_user("bob").snapshot_download(done.model, cache_dir=tmp_path)
    for name in ("README.md", "recipe.yaml"):
        text = (Path(folder) / name).read_text()
        assert str(Path.home()) not in text
        assert "../" not in text
        assert "/tmp" not in text


def test_twice_is_once(published, as_user):
    planned, done = published
    api = as_user("ann")
    before = api.list_repo_commits(done.model), list(api.get_repo_discussions(LOGS, repo_type="dataset"))
    assert publish(api, planned) == done
    assert (api.list_repo_commits(done.model), list(api.get_repo_discussions(LOGS, repo_type="dataset"))) == before


def test_new_weights_of_a_run_update_its_pull_request_and_after_the_merge_open_another(copy, as_user):
    ann, owner = as_user("ann"), as_user("owner")
    owner.create_repo("owner/again-logs", repo_type="dataset")
    folder = copy("depth")

    def send():
        return publish(ann, plan(folder, "ann", "owner/again-logs", name="again", **APACHE))

    first = send()
    (folder / "model" / "generation_config.json").write_text("{}")
    second = send()
    assert second.pull == first.pull
    assert second.revision != first.revision
    owner.merge_pull_request("owner/again-logs", 1, repo_type="dataset")
    assert send() == second
    logs = read_dataset("owner/again-logs", api=owner)
    assert set(logs.frame.model_revision) == {second.revision}
    (folder / "model" / "generation_config.json").write_text('{"a": 1}')
    assert send().pull.endswith("/discussions/2")
    owner.change_discussion_status("owner/again-logs", 2, "closed", repo_type="dataset")
    third = send()
    assert third.pull.endswith("/discussions/3")
    ann.delete_repo("ann/again")
    fourth = send()
    assert fourth.pull == third.pull
    assert fourth.revision != third.revision


def test_a_draft_of_the_same_run_is_opened_and_filled(runs, as_user):
    ann, owner = as_user("ann"), as_user("owner")
    owner.create_repo("owner/draft-logs", repo_type="dataset")
    planned = plan(runs(), "ann", "owner/draft-logs", name="draft", **APACHE)
    assert (
        ann.create_pull_request("owner/draft-logs", title(planned.run.columns), repo_type="dataset").status == "draft"
    )
    done = publish(ann, planned)
    assert done.pull.endswith("/discussions/1")
    assert ann.get_discussion_details("owner/draft-logs", 1, repo_type="dataset").status == "open"
    assert done.log in files(ann, "owner/draft-logs", repo_type="dataset", revision="refs/pr/1")


def test_a_repository_that_holds_something_else_is_left_alone(published, runs, as_user):
    planned, done = published
    with pytest.raises(P2Error, match=f"holds run {planned.run.run_id}; give this model another name"):
        publish(as_user("ann"), plan(runs("depth"), "ann", name=done.model.split("/")[1], **APACHE))
    as_user("ann").create_repo("ann/notes")
    as_user("ann").upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="ann/notes")
    with pytest.raises(P2Error, match="holds files that are not p2zoo's"):
        publish(as_user("ann"), plan(runs(), "ann", name="notes", **APACHE))


def test_without_logs_only_the_model_goes_and_private_stays_private(runs, as_user):
    done = publish(as_user("ann"), plan(runs(), "ann", name="secret", private=True, **APACHE))
    assert (done.pull, done.log) == (None, None)
    assert as_user("ann").model_info(done.model).private
    with pytest.raises(Exception, match="404"):
        as_user("bob").model_info(done.model)


@pytest.mark.parametrize(
    ("to", "logs", "words"),
    [
        ("bob", None, r"model bob/model-2of4-0\.39: your token may not do this.*HTTP 403"),
        ("ann", "owner/nowhere", r"log data set owner/nowhere: not found, or private.*HTTP 404"),
    ],
)
def test_refusals_of_the_hub_in_words(runs, as_user, to, logs, words):
    with pytest.raises(P2Error, match=words):
        publish(as_user("ann"), plan(runs(), to, logs, **APACHE))


def test_an_unknown_token_is_refused_in_words_that_do_not_hold_it(runs, hub_url):
    api = HfApi(endpoint=hub_url, token="hf_wrongsecretwrongsecretw")
    with pytest.raises(P2Error, match=r"sign in with `hf auth login`|Sign in with `hf auth login`") as refused:
        publish(api, plan(runs(), "ann", **APACHE))
    assert "wrongsecret" not in repr(refused.value)


def test_a_plan_touches_no_network(runs, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a plan opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    planned = plan(runs(), "ann", LOGS, **APACHE)
    model, log, link = planned.as_dict()["commits"]
    assert log["files"] == {
        f"runs/<your Hub name>/{read_run(runs()).run_id}.parquet": (runs() / "log.parquet").stat().st_size
    }
    assert model["files"]["model.safetensors"] == (runs() / "model" / "model.safetensors").stat().st_size
    assert list(link["files"]) == ["README.md"]
    said = listing(planned, Standing(why="not signed in"))
    assert "your Hub name, are not known: not signed in" in said
    assert all(f"bytes  {name}\n" in said for commit in (model, log, link) for name in commit["files"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "curve.png").unlink(), "curve.png missing"),
        (lambda f: (f / "model" / "model.safetensors").unlink(), "no .*safetensors weights"),
        (lambda f: edit_json(f / "run.json", status="running"), "not finished; `p2zoo run RECIPE --out .* --resume`"),
        (lambda f: edit_json(f / "run.json", run_id="0" * 16), "not of one run"),
        (lambda f: (f / "log.parquet").write_bytes(b"PAR1"), "does not pass `p2zoo check`"),
        (lambda f: edit_text(f / "recipe.yaml", "0.001", "0.002"), "not of one run"),
        (lambda f: edit_json(f / "model" / "config.json", note="hf_" + "a" * 30), "config.json: holds a Hub access"),
    ],
)  # fmt: skip
def test_a_run_folder_that_is_not_whole_is_refused(copy, spoil, words):
    folder = copy()
    spoil(folder)
    with pytest.raises(P2Error, match=words) as refused:
        plan(folder, "ann", LOGS, **APACHE)
    assert "aaaaaa" not in str(refused.value)


@pytest.mark.parametrize(
    ("to", "logs"), [("a b", None), ("", None), ("a/b", None), ("ann", "p2-logs"), ("ann", "../x/y")]
)
def test_names_that_are_none(runs, to, logs):
    with pytest.raises(P2Error, match=r"--to|--logs"):
        plan(runs(), to, logs, **APACHE)


def test_the_token_itself_is_looked_for(runs, as_user):
    planned = plan(runs(), "ann", **APACHE)
    leaky = dataclasses.replace(planned, files={**planned.files, "notes.txt": USERS["ann"].encode()})
    with pytest.raises(P2Error, match=r"notes.txt: holds a Hub access token"):
        publish(as_user("ann"), leaky)


@pytest.mark.slow
def test_the_command_and_that_no_token_is_left_anywhere(runs, hub_url, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_TOKEN": USERS["bob"], "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "zoo", "--endpoint", hub_url, "publish", str(runs()), "--to", "bob"]
    command += ["--logs", LOGS, "--license", "apache-2.0"]
    done = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, check=True, timeout=200
    )
    result = json.loads(done.stdout)
    assert (result["contributor"], result["model"]) == ("bob", "bob/model-2of4-0.39")
    again = subprocess.run(
        [*command, "--dry-run"], env=environment, capture_output=True, text=True, check=True, timeout=200
    )
    files = [line for line in again.stdout.splitlines() if " bytes  " in line]
    assert len(files) > 8
    assert all(line.endswith("  (published already)") for line in files)
    assert f"runs/bob/{read_run(runs()).run_id}.parquet" in again.stdout
    api = HfApi(endpoint=hub_url, token=USERS["owner"])
    api.snapshot_download(result["model"], local_dir=tmp_path / "model")
    number = result["pull"].split("/")[-1]
    api.snapshot_download(LOGS, repo_type="dataset", revision=f"refs/pr/{number}", local_dir=tmp_path / "logs")
    assert USERS["bob"] not in done.stdout + done.stderr
    written = [p for folder in (tmp_path, runs()) for p in folder.rglob("*") if p.is_file()]
    assert len(written) > 20
    assert not [p for p in written if USERS["bob"].encode() in p.read_bytes()]


def test_models_lists_what_was_merged(runs, as_user, hub_url, tmp_path):
    ann, owner = as_user("ann"), as_user("owner")
    owner.create_repo("owner/zoo-logs", repo_type="dataset")
    for method in ("2:4", "depth"):
        publish(ann, plan(runs(method), "ann", "owner/zoo-logs", name=f"zoo-{method[0]}", **APACHE))
    for number in (1, 2):
        owner.merge_pull_request("owner/zoo-logs", number, repo_type="dataset")
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "zoo", "models", "owner/zoo-logs", "--endpoint", hub_url, "--json"]
    listed = json.loads(
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=200).stdout
    )
    rows = {row["model"]: row for row in listed["models"]}
    assert set(rows) == {"ann/zoo-2", "ann/zoo-d"}
    row = rows["ann/zoo-2"]
    assert (row["licence"], row["gpu_hours"]) == ("apache-2.0", None)
    assert row["snippet"].startswith("AutoModelForCausalLM.from_pretrained('ann/zoo-2', revision='")
    assert any(row["pareto"] for row in rows.values())
