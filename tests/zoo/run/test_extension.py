"""A finished run goes on as one curve; interrupted it ends the same; what cannot go on is told in words."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from leaderboard import load_logs
from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import VOLATILE
from tests.commands import p2zoo
from tests.zoo.run.test_pipeline import QUIET, Stopping
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.gather import Trained, gather
from zoo.preemption import Preempted
from zoo.pruning.zeros import check_zeros
from zoo.recipe.files import load_recipe
from zoo.run.extension import look
from zoo.run.pipeline import run

FEW = ["train.tokens=512", "prune.method='depth+2:4'", "prune.importance=block-influence+magnitude"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def asked(bench_folder):
    """asked(tokens, *overrides) -> the recipe."""
    return lambda tokens, *more: load_recipe(bench_folder / "recipe.yaml", [*FEW, f"train.tokens={tokens}", *more])


@pytest.fixture(scope="module")
def short(asked, tmp_path_factory):
    """A finished run of 512 tokens with its last checkpoint, and the same without."""
    folder = tmp_path_factory.mktemp("short") / "kept"
    run(asked(512), folder, console=QUIET, keep=True)
    shutil.copytree(folder, folder.with_name("left"))
    shutil.rmtree(folder.with_name("left") / "checkpoint")
    return {"kept": folder, "rebuilt": folder.with_name("left")}


@pytest.fixture
def copy(short, tmp_path):
    def make(kind="rebuilt", name="run"):
        return shutil.copytree(short[kind], tmp_path / name)

    return make


def rows(folder):
    return pd.read_parquet(folder / "log.parquet").drop(columns=list(VOLATILE))


@pytest.mark.parametrize("kind", [pytest.param("kept", marks=pytest.mark.slow), "rebuilt"])
def test_one_curve_that_names_what_it_extends(copy, asked, kind, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = copy(kind)
    before, first = rows(folder), json.loads((folder / "run.json").read_text())
    state = run(asked(1024), folder, resume=True, console=QUIET)
    log = rows(folder)
    assert (state["extends"]["run_id"], state["extends"]["optimizer"]) == (first["run_id"], kind)
    assert set(log["extends"]) == {first["run_id"]} != {state["run_id"]}
    pd.testing.assert_frame_equal(log[["tokens", "loss"]][: len(before)], before[["tokens", "loss"]], check_exact=True)
    assert log["tokens"].iloc[-1] == 1024
    assert (np.diff(log["loss"][1:]) < 0).all()
    assert set(log["lr"][1:]) == {0.001}
    check_zeros(AutoModelForCausalLM.from_pretrained(folder / "model"))
    (report,) = check_files([folder / "log.parquet"]).reports
    assert not report.findings
    assert sorted(p.name for p in folder.iterdir()) == [
        "curve.png", "log.jsonl", "log.parquet", "model", "recipe.yaml", "run.json",
    ]  # fmt: skip
    shutil.copyfile(copy(name="again") / "log.parquet", folder / "shorter.parquet")
    assert set(load_logs(folder).frame["run_id"].astype(str)) == {state["run_id"]}


@pytest.mark.sample
@pytest.mark.slow
def test_interrupted_and_extended_again_it_ends_the_same_to_the_last_bit(copy, asked):
    """Once before anything was trained, once after a checkpoint."""
    whole, stopped = copy(name="whole"), copy(name="stopped")
    for folder, words in ((whole, ()), (stopped, ("goes on from", " 768 tokens"))):
        for word in words:
            with pytest.raises(Preempted):
                run(asked(1536), folder, resume=True, console=Console(file=Stopping(word), width=200))
        run(asked(1536), folder, resume=True, console=QUIET)
        run(asked(2048), folder, resume=True, console=QUIET)
    pd.testing.assert_frame_equal(rows(stopped), rows(whole), check_exact=True)
    models = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, stopped)]
    assert models[0] == models[1]
    assert json.loads((whole / "run.json").read_text())["extends"]["stages"] == [512, 1536]


def test_the_text_is_fresh(asked, short, bench_folder, tmp_path):
    """No block of an extension was trained on before, whatever the packing; the last of what was are at hand."""
    for packing in ("wrapped", "bfd_split"):
        recipe, tokenizer = asked(512, f"train.packing={packing}"), load_tokenizer(bench_folder / "model")
        longer = asked(1024, f"train.packing={packing}")
        commits = {"train": "", "heldout": ""}
        first = gather(recipe, tokenizer, commits, tmp_path / packing / "a" / "train").train
        more = gather(longer, tokenizer, commits, tmp_path / packing / "b" / "train", Trained((512,), first.sha256))
        texts = [{row.tobytes() for row in blocks.ids} for blocks in (first, more.train)]
        assert not texts[0] & texts[1]
        assert len(texts[1]) == len(more.train.ids)
        assert first.tokens + more.train.tokens >= 1024 > first.tokens + more.train.tokens - 128
        assert more.before.sha256 == first.sha256


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.tokens=1024", "train.batch_tokens=256"], "train.batch_tokens was 128, is 256"),
        (["train.tokens=1024", "train.seed=1"], "train.seed was 0, is 1"),
        (["train.tokens=1024", "evaluate.tokens=128"], "evaluate.tokens was 256, is 128"),
        (["train.tokens=256"], "already, train.tokens asks for 256"),
        (["train.tokens=511"], "already, train.tokens asks for 511"),
    ],
)
def test_what_is_no_extension_is_refused_by_dry_run_and_run(short, bench_folder, overrides, words):
    folder = short["rebuilt"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    recipe = load_recipe(bench_folder / "recipe.yaml", [*FEW, *overrides])
    for refuse in (lambda: look(folder, recipe, True), lambda: run(recipe, folder, True, QUIET)):
        with pytest.raises(P2Error, match=words):
            refuse()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_without_resume_and_on_a_decayed_schedule_it_says_what_can_be_done(copy, asked):
    folder = copy()
    with pytest.raises(P2Error, match="add --resume to extend it to 1,024"):
        look(folder, asked(1024), False)
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("schedule: constant", "schedule: cosine"))
    with pytest.raises(P2Error, match=r"cosine schedule has lowered .* `p2zoo forecast .* train.schedule: constant"):
        look(folder, asked(1024, "train.schedule=cosine"), True)


@pytest.mark.slow
def test_what_cannot_be_trained_leaves_the_finished_run(copy, asked, bench_folder):
    """Text that nearly suffices is found out late; another length, or none, is still there to ask for."""
    folder = copy()
    finished = json.loads((folder / "run.json").read_text())
    with pytest.raises(P2Error, match=r"asks for 13,\d+; give more text"):
        run(asked(13_000), folder, resume=True, console=QUIET)
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    with pytest.raises(P2Error, match="add --resume"):
        run(asked(1024), folder, console=QUIET)
    assert run(asked(512), folder, console=QUIET) == finished
    assert run(asked(640), folder, resume=True, console=QUIET)["tokens"] == 640


def test_an_extension_under_way_is_finished_first(copy, asked):
    folder = copy()
    with pytest.raises(Preempted):
        run(asked(1536), folder, resume=True, console=Console(file=Stopping(" 768 tokens"), width=200))
    for tokens in (512, 2048):
        with pytest.raises(P2Error, match="extension to 1,536 tokens is under way; finish that"):
            run(asked(tokens), folder, resume=True, console=QUIET)


def test_changed_text_or_weights_stop_it(copy, asked, bench_folder, tmp_path):
    moved = shutil.copytree(bench_folder, tmp_path / "bench")
    with (moved / "train.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    changed = load_recipe(moved / "recipe.yaml", [*FEW, "train.tokens=1024", "name=bench-recipe"])
    name = asked(1024).name
    object.__setattr__(changed, "name", name)
    with pytest.raises(P2Error, match="train changed since the run began"):
        run(changed, copy(), resume=True, console=QUIET)
    other = copy(name="other")
    from safetensors.torch import load_file, save_file

    weights = load_file(other / "model" / "model.safetensors")
    save_file({k: v * 1.1 for k, v in weights.items()}, other / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(P2Error, match=r"has a held-out loss of .* ended with .* put its weights back"):
        run(asked(1024), other, resume=True, console=QUIET)


@pytest.mark.slow
def test_the_command_shows_what_it_would_extend(short, bench_folder):
    sets = [word for item in [*FEW, "train.tokens=1024"] for word in ("--set", item)]
    words = ("run", bench_folder / "recipe.yaml", "--out", short["kept"], *sets, "--resume", "--dry-run")
    assert "goes on from 512 to 1,024 tokens, on fresh text; optimiser state kept" in p2zoo(*words).stdout
    assert json.loads(p2zoo(*words, "--json").stdout)["extends"]["to"] == 1024
