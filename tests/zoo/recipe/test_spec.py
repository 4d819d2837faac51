"""Recipes: strict types, inheritance, overrides, and messages that name the file and the key."""

import runpy
import shutil
from pathlib import Path

import pytest
import yaml

from leaderboard.errors import P2Error
from leaderboard.planning.bases import base_at_hand
from leaderboard.shapes import parameters
from zoo.estimate.dry_run import estimate, report
from zoo.inputs.base_model import describe
from zoo.recipe.catalog import copy_recipes, find_recipe, recipe_names, recipes_folder
from zoo.recipe.files import load_recipe, to_yaml
from zoo.recipe.grid import log_then_linear
from zoo.recipe.spec import ModelSpec

ONE_GPU = 80e9  # bytes
DEPTH = recipes_folder() / "quickstart" / "depth.yaml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.method=[2]", r"prune.method: unknown pruning method '\[2\]'"),
        ("train.tokens=1e-9B", r"train\.tokens: got '1e-9B' \(text\), allowed is a whole number"),
        ("train.tokens=1.5e-3", r"train\.tokens: got 0\.0015 \(float\), allowed is a whole number"),
        ("train.tokens=100.5", r"train\.tokens: got 100\.5 \(float\), allowed is a whole number"),
        ("train.gradient_checkpointing=1", r"gradient_checkpointing: got 1 \(int\), allowed is true or false"),
        ("prune.rate=25", r"prune\.rate: got 25\.0, allowed is a share in \(0, 1\); 0\.25 removes a quarter"),
        ("prune.layers={a: 8}", r"prune\.layers\[0\]: got .* \(a mapping\), allowed is a whole number"),
        ("prune.layers=[a]", r"--set: prune\.layers\[0\]: got 'a' \(text\), allowed is a whole number"),
        ("prune.method=dept", r"prune\.method: unknown pruning method 'dept'\. Did you mean 'depth'\?"),
        ("prune.methd=depth", r"prune\.methd: unknown key 'methd'\. Did you mean 'method'\?"),
        ("trian.tokens=1", r"trian: unknown key 'trian'\. Did you mean 'train'\?"),
        ("train.packing=bfd", r"train\.packing: 'bfd' cuts every document .*drops the rest.*'bfd_split'.*'wrapped'"),
        ("train.packing=wraped", r"unknown packing 'wraped'\. Did you mean 'wrapped'\?"),
        (
            "train.precision=bf16",
            r"train\.precision: 'bf16' alone .*small updates are lost.*'bf16-master' if you mean it",
        ),
        ("train.batch_tokens=1000", r"train\.batch_tokens: got 1,000, allowed is a multiple of .*256 x 8 = 2,048"),
        ("train.tokens=100", r"train\.tokens: got 100, allowed is one step \(2,048\) or more"),
        ("train.schedule=cosin", r"train\.schedule: unknown schedule 'cosin'\. Did you mean 'cosine'\?"),
        ("contributor=José", r"contributor: got 'José', allowed are up to 96 of a-z"),
        ("name=../elsewhere", r"name: got '\.\./elsewhere', allowed are"),
        ("train=5", r"train: got 5 \(int\), allowed is a mapping"),
        ("model.name=null", r"model\.name: got nothing, allowed is text"),
        ("data.train.dataset=a/b", r"exactly one of `file` and `dataset`"),
        ("data.heldout.file=text/train.parquet", r"data\.heldout: shares documents with data\.train"),
        ("evaluate.grid=log", r"evaluate\.grid: unknown grid 'log'"),
    ],
)
def test_refusals_name_place_value_and_remedy(override, message):
    with pytest.raises(P2Error, match=message) as caught:
        load_recipe(DEPTH, [override])
    assert str(caught.value).startswith(("--set: ", str(DEPTH), str(DEPTH.parent / "base.yaml")))


def test_named_layers_stand_in_place_of_a_rate_of_the_file(tmp_path):
    assert load_recipe(DEPTH, ["prune.layers=[8, 9]"]).prune.layers == (8, 9)
    with pytest.raises(P2Error, match="remove one of the two"):
        load_recipe(DEPTH, ["prune.layers=[8,9]", "prune.rate=0.1"])
    child = tmp_path / "named.yaml"
    child.write_text(f"extends: {DEPTH}\nprune: {{layers: [1]}}\n")
    named = load_recipe(child)
    assert (named.prune.layers, named.prune.rate) == ((1,), None)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(named, tmp_path))
    assert load_recipe(again).sha256 == named.sha256
    assert load_recipe(child, ["prune.rate=0.2"]).prune.layers is None


def test_numbers_and_names_are_read_as_they_are_meant(tmp_path):
    changes = ["prune.method=2:4", "prune.rate=null", "train.tokens=2_048e3", "train.lr_peak=2e-5"]
    recipe = load_recipe(DEPTH, [*changes, "model.name=a/b", "model.revision=12e4567"])
    assert (recipe.prune.method, recipe.train.tokens, recipe.train.lr_peak) == ("2:4", 2_048_000, 2e-5)
    (tmp_path / "again.yaml").write_text(to_yaml(recipe, tmp_path))
    again = load_recipe(tmp_path / "again.yaml")
    assert (again.model.revision, again.sha256) == ("12e4567", recipe.sha256)
    (tmp_path / "bare.yaml").write_text(to_yaml(recipe, tmp_path).replace("'2:4'", "2:4"))
    assert load_recipe(tmp_path / "bare.yaml").prune.method == "2:4"


def test_set_reads_counts_and_lists_as_people_write_them():
    recipe = load_recipe(DEPTH, ["train.tokens=1B", "train.batch_tokens=4096", "evaluate.tokens='32,768'"])
    assert (recipe.train.tokens, recipe.evaluate.tokens) == (10**9, 32_768)
    assert load_recipe(DEPTH, ["prune.layers=8,9, 10"]).prune.layers == (8, 9, 10)
    assert load_recipe(DEPTH, ["prune.layers=8"]).prune.layers == (8,)


def test_the_message_names_the_file_that_set_the_value(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {tokens: '1e9'}\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nmodel: {name: a/b}\nprune: {method: '2:4'}\n")
    with pytest.raises(P2Error, match=r"child\.yaml: data: missing"):
        load_recipe(tmp_path / "child.yaml")
    text = "extends: base.yaml\nmodel: {name: a/b}\nprune: {method: '2:4'}\n"
    text += "data: {train: {dataset: a/b}, heldout: {dataset: c/d}}\n"
    (tmp_path / "child.yaml").write_text(
        text + "train: {batch_tokens: 8, seq_len: 8, lr_peak: 0.1, checkpoint_tokens: 8}\n"
    )
    with pytest.raises(P2Error, match=r"^\S+/base\.yaml: train\.tokens: got '1e9' \(text\).* Write 1_000_000_000"):
        load_recipe(tmp_path / "child.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: me.yaml", "cannot extend itself"),
        ("extends: [a.yaml, b.yaml]", "one other recipe file"),
        ("extends: nowhere.yaml", r"nowhere\.yaml: no such recipe"),
        ("model: [", "not valid YAML"),
        ("- a\n- b", "a recipe is a mapping"),
        ("prune: {rate: 0.1, rate: 0.2}", "key 'rate' is written twice"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, message):
    (tmp_path / "me.yaml").write_text(text)
    with pytest.raises(P2Error, match=message):
        load_recipe(tmp_path / "me.yaml")


def test_a_cycle_through_two_files_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(P2Error, match="cannot extend itself"):
        load_recipe(tmp_path / "a.yaml")


def test_overrides_replace_and_null_takes_away():
    recipe = load_recipe(DEPTH, ["prune.method=2:4", "prune.rate=null", "train.tokens=4_096", "name=mine"])
    assert recipe == load_recipe(DEPTH, ["prune.method='2:4'", "prune.rate=null", "train.tokens=4_096", "name=mine"])
    assert (recipe.name, recipe.prune.method, recipe.prune.rate, recipe.train.tokens) == ("mine", "2:4", None, 4096)
    with pytest.raises(P2Error, match="allowed is KEY=VALUE"):
        load_recipe(DEPTH, ["prune.rate"])


@pytest.mark.parametrize("name", recipe_names())
def test_resolved_recipes_round_trip_and_keep_their_hash(name, tmp_path):
    recipe = load_recipe(find_recipe(name))
    here = recipe.folder / "base.yaml"
    again = load_recipe_text(to_yaml(recipe), here.parent, tmp_path, recipe)
    assert again.sha256 == recipe.sha256
    moved = tmp_path / "moved.yaml"
    moved.write_text(to_yaml(recipe, tmp_path))
    elsewhere = load_recipe(moved)
    assert elsewhere.sha256 == recipe.sha256
    if recipe.data.train.file:
        assert elsewhere.path(elsewhere.data.train.file) == recipe.path(recipe.data.train.file)


def load_recipe_text(text, folder, tmp_path, recipe):
    from zoo.recipe.files import parse_recipe

    again = parse_recipe(yaml.safe_load(text), folder)
    assert again == recipe
    return again


@pytest.mark.parametrize("absolute", [True, False])
def test_a_model_made_by_a_run_has_the_name_of_its_run_folder(absolute, quickstart, tmp_path):
    shutil.copytree(quickstart / "tiny-llama-3", tmp_path / "my-base" / "model")
    (tmp_path / "my-base" / "run.json").write_text("{}")
    where = tmp_path if absolute else Path()
    named = ModelSpec(name=f"{'' if absolute else './'}{where / 'my-base'}")
    found = describe(named, tmp_path)
    assert (found.label, found.folder) == ("my-base", tmp_path / "my-base" / "model")
    with pytest.raises(P2Error, match="name the run's folder"):
        describe(ModelSpec(name=f"{named.name}/model"), tmp_path)


def test_every_change_changes_the_hash():
    same = load_recipe(DEPTH).sha256
    for override in ("prune.rate=0.2", "train.seed=1", "evaluate.tokens=4096", "data.train.take=100", "contributor=a"):
        assert load_recipe(DEPTH, [override]).sha256 != same


def test_the_recipe_files_are_what_their_script_makes():
    made = runpy.run_path(str(recipes_folder() / "make_recipes.py"))["files"]()
    paths = {path.relative_to(recipes_folder()).as_posix(): path for path in recipes_folder().rglob("*.yaml")}
    by_hand = {"base.yaml", "ladder/base.yaml", "ladder/bases/base.yaml"}
    by_script = {
        name: path
        for name, path in paths.items()
        if not name.startswith(("quickstart/", "recovery/", "smollm2/")) and name not in by_hand
    }
    assert {name: path.read_text() for name, path in by_script.items()} == made


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_passes_a_dry_run_from_what_ships(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = load_recipe(find_recipe(name))
    found = estimate(recipe)
    assert found.plan is not None
    if recipe.prune.rate is not None:
        assert found.plan.rate == pytest.approx(recipe.prune.rate, abs=0.022)  # OLMo 2 loses a layer in 4.5 %
    per_parameter = 4 if recipe.train.lora else 6 if recipe.train.optimizer == "adamw-8bit" else 16
    assert per_parameter * 0.99 * parameters(found.plan.target) < found.least_bytes < ONE_GPU
    if not recipe.model.local:
        assert found.plan.n0 == base_at_hand(recipe.model.name).n0
    shown = report(found)
    assert found.plan.summary in shown
    assert f"{found.tokens:,} in {found.steps:,} steps" in shown
    assert "nothing was downloaded" in shown


def test_memory_estimate_is_near_what_was_measured():
    """Llama-3.2-1B, 8 x 2,048 tokens, fp32 master and bf16 autocast: 49 GiB measured on an H100."""
    from leaderboard.shapes import bundled_config, shape_of
    from zoo.estimate.memory import GIB, memory

    train = load_recipe(find_recipe("llama-3.2-1b/depth-0.25")).train
    shape = shape_of(bundled_config("meta-llama/Llama-3.2-1B"))
    assert memory(shape, train, 0, 8, False) / GIB == pytest.approx(49, rel=0.1)


def test_the_grid_is_log_then_linear():
    steps = log_then_linear(1000, 4, 5, 0.1)
    assert steps == [1, 5, 22, 100, 280, 460, 640, 820, 1000]
    assert log_then_linear(1, 6, 6, 0.3) == [1]


def test_recipes_copy_gives_working_recipes(tmp_path):
    copies = copy_recipes(tmp_path / "mine")
    assert {path.stem for path in copies} >= {"depth", "width", "2of4"}
    assert estimate(load_recipe(tmp_path / "mine" / "quickstart" / "depth.yaml")).plan is not None
    with pytest.raises(P2Error, match="is not empty"):
        copy_recipes(tmp_path / "mine")
    with pytest.raises(P2Error, match=r"unknown recipe 'quickstart/deph'\. Did you mean 'quickstart/depth'") as error:
        find_recipe("quickstart/deph")
    assert f"`p2zoo recipes list` lists {len(recipe_names()) - 3} others." in str(error.value)
    with pytest.raises(P2Error, match=rf"'zzz'\. `p2zoo recipes list` lists all {len(recipe_names())}\."):
        find_recipe("zzz")
