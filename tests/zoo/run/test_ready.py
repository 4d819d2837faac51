"""A model pruned elsewhere: taken as it is, its zeros kept; what it is not is refused by dry run and run alike."""

import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files
from leaderboard.shapes import shape_of
from tests.commands import p2zoo
from tests.zoo.run.test_pipeline import QUIET
from zoo.estimate.dry_run import estimate
from zoo.pruning.depth import remove_layers
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.spec import PruneSpec
from zoo.pruning.zeros import check_zeros
from zoo.recipe.files import load_recipe
from zoo.run.finished import portable, read_run
from zoo.run.pipeline import run

W = "model.safetensors"
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def bench(bench_folder, tmp_path_factory):
    """The bench recipe and its model, beside models pruned from it."""
    folder = shutil.copytree(bench_folder, tmp_path_factory.mktemp("ready") / "bench")
    base = lambda: AutoModelForCausalLM.from_pretrained(folder / "model")  # noqa: E731

    def pruned(batches=(), **spec):
        model = base()
        return prune(model, plan(shape_of(model.config.to_dict()), PruneSpec(**spec)), list(batches)).model

    text = torch.randint(0, 250, (2, 32), generator=torch.Generator().manual_seed(0))
    models = {
        "cut": remove_layers(base(), [1]),
        "2of4": pruned(method="2:4", importance="magnitude"),
        "unstructured": pruned(method="unstructured", rate=0.2, importance="magnitude"),
        "both": pruned(method="depth+2:4", layers=(0, 2), importance="given+magnitude"),
        "narrow": pruned([text], method="width", rate=0.3),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return folder


def change(folder, name, edit):
    """A copy of the cut with other weights."""
    shutil.copytree(folder / "cut", folder / name, dirs_exist_ok=True)
    weights = load_file(folder / name / W)
    edit(weights)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / name / W, {"format": "pt"})
    return name


def ready(folder, name, method, *more):
    sets = [f"prune.from=./{name}", f"prune.method='{method}'", "prune.importance=by-hand", "train.tokens=512", *more]
    return load_recipe(folder / "recipe.yaml", sets)


@pytest.mark.parametrize(
    ("name", "method", "n_pruned", "zeros", "layers"),
    [
        ("cut", "depth", 31_584, 0, [1]),
        ("2of4", "2:4", 23_968, 15_360, []),
        ("unstructured", "unstructured", 31_648, 7_680, []),
        ("both", "depth+2:4", 16_160, 7_680, [0, 2]),
        ("narrow", "width", None, 0, None),
    ],
)
def test_counts_layers_and_zeros_are_found(bench, name, method, n_pruned, zeros, layers):
    estimated = estimate(ready(bench, name, method))
    found, removed = estimated.plan, estimated.examined.removed
    config = json.loads((bench / name / "config.json").read_text())
    assert found.target == shape_of(config)
    assert n_pruned in (found.n_pruned, None)
    assert (found.zeros, removed.get("zeros", 0), removed.get("layers")) == (zeros, zeros, layers)
    assert removed["alike"] > 0.99
    assert 0 < found.rate < 1
    assert (found.rate_requested is None) == (method == "2:4")


@pytest.mark.parametrize(
    ("name", "method"), [("2of4", "2:4"), pytest.param("both", "depth+2:4", marks=pytest.mark.slow)]
)
def test_a_run_takes_it_as_it_is_and_keeps_its_mask(bench, tmp_path, name, method):
    recipe = ready(bench, name, method)
    state = run(recipe, tmp_path / "run", console=QUIET)
    log = pd.read_parquet(tmp_path / "run" / "log.parquet")
    head = log.iloc[0]
    assert (head["method"], head["importance"], head["base_model"]) == (method, "by-hand", "model")
    assert head["pruned_from"].startswith(f"{name}@")
    assert head["rate"] == estimate(recipe).plan.rate
    assert head["l0"] != head["l_pruned"] == head["loss"]
    assert state["removed"]["from"] == f"./{name}"
    (report,) = check_files([tmp_path / "run" / "log.parquet"]).reports
    assert not report.findings
    before, after = (load_file(path / W) for path in (bench / name, tmp_path / "run" / "model"))
    masked = [key for key, weight in before.items() if "proj" in key and (weight == 0).any()]
    assert masked
    assert all(bool((after[key][before[key] == 0] == 0).all()) for key in masked)
    assert any(bool((after[key] != before[key]).any()) for key in masked)
    check_zeros(AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model"))
    finished = read_run(tmp_path / "run")
    assert portable(finished.recipe).prune.from_ == f"./{name}"
    assert portable(finished.recipe).sha256 == recipe.sha256


def nan(weights):
    weights[UP][3, 4] = float("nan")


def inf(weights):
    weights["model.norm.weight"][3] = float("-inf")


def unequal(weights):
    weights[UP] = weights[UP][:40]


def lacks(weights):
    del weights[UP]


def more(weights):
    weights["model.layers.3.mlp.up_proj.weight"] = weights[UP].clone()


def swapped(weights):
    one, other = "model.layers.0.", "model.layers.1."
    for key in [key for key in weights if key.startswith(one)]:
        twin = key.replace(one, other)
        weights[key], weights[twin] = weights[twin], weights[key]


def another_base(weights):
    generator = torch.Generator().manual_seed(1)
    for key, weight in weights.items():
        weights[key] = torch.randn(weight.shape, generator=generator) * 0.2


def mostly_zero(weights):
    weights[UP][:, ::2] = 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (nan, "layers.1.mlp.up_proj.weight holds values that are no numbers"),
        (inf, "norm.weight holds values that are no numbers"),
        (unequal, "layer 1's mlp.up_proj is 40 x 32, its config says 48 x 32"),
        (lacks, "it lacks model.layers.1.mlp.up_proj.weight"),
        (more, "also has model.layers.3"),
        (swapped, "its layer 1 resembles layer 0 of the base most"),
        (another_base, "Name the base it was made from as model.name"),
        (mostly_zero, "zero; training keeps them only where prune.method names them: 'depth\\+unstructured'"),
    ],
)
def test_weights_that_are_no_cut_of_the_base_are_refused(bench, tmp_path, edit, words):
    recipe = ready(bench, change(bench, edit.__name__, edit), "depth")
    with pytest.raises(P2Error, match=f"prune.from: ./{edit.__name__}: .*{words}"):
        run(recipe, tmp_path / "run", console=QUIET)


@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("model", "depth", "shape of its base, so nothing was pruned by depth"),
        ("model", "2:4", "none of its weights is zero"),
        ("cut", "width", "3 of 4 layers, which is depth"),
        ("cut", "depth+width", "is not narrower than its base"),
        ("cut", "depth+2:4", "none of its weights is zero"),
        ("narrow", "depth", "which is width"),
        ("2of4", "unstructured", "names them: '2:4'"),
        ("unstructured", "2:4", "28 of 28 matrices are not 2:4"),
        ("both", "depth", "names them: 'depth\\+2:4'"),
        ("absent", "depth", "prune.from: ./absent: no config.json"),
    ],
)
def test_another_method_than_was_named_is_refused(bench, name, method, words):
    with pytest.raises(P2Error, match=words):
        estimate(ready(bench, name, method))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prune.importance=null"], "prune.importance: got None; name what chose"),
        (["prune.importance='a b'"], "prune.importance"),
        (["prune.method=none", "prune.importance=x"], "name how it was pruned"),
        (["prune.rate=0.2"], "prune.rate: what went is found"),
        (["prune.layers=[1]"], "prune.layers: what went is found"),
        (["prune.contiguous=true"], "prune.contiguous"),
        (["prune.revision=abc"], "a folder has none"),
        (["prune.from=./other.yaml"], "allowed is a model"),
        (["prune.from=null", "prune.rate=0.2", "prune.importance=null", "prune.revision=abc"], "prune.revision"),
    ],
)
def test_what_a_recipe_may_say_beside_it(bench, overrides, words):
    with pytest.raises(P2Error, match=words):
        ready(bench, "cut", "depth", *overrides)


def test_another_vocabulary_or_width_is_told_by_the_config(bench):
    for key, value, words in (
        ("vocab_size", 300, "its vocab is 300, the base's 260"),
        ("num_hidden_layers", 5, "its layers is 5, more than the base's 4"),
        ("tie_word_embeddings", False, "its tied is False"),
    ):
        folder = shutil.copytree(bench / "cut", bench / f"other-{key}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(P2Error, match=words):
            estimate(ready(bench, folder.name, "depth"))


def test_the_dry_run_of_the_command_says_what_was_found(bench):
    sets = ["--set", "prune.from=./cut", "--set", "prune.importance=by-hand"]
    done = p2zoo("run", bench / "recipe.yaml", *sets, "--dry-run")
    assert "layers 4 -> 3; 39,328 -> 31,584 parameters" in done.stdout
    assert "from: ./cut" in done.stdout


@pytest.mark.slow
def test_staged_pruning_names_its_origin_and_says_which_zeros_go(bench, tmp_path):
    first = run(ready(bench, "2of4", "2:4"), tmp_path / "first", console=QUIET)
    sets = [f"model.name={tmp_path / 'first'}", "train.tokens=512", "prune.layers=[1]"]
    second = run(load_recipe(bench / "recipe.yaml", sets), tmp_path / "second", console=QUIET)
    log = pd.read_parquet(tmp_path / "second" / "log.parquet")
    assert set(log["base_run"]) == {first["run_id"]}
    assert (second["origin"]["method"], second["origin"]["base_model"]) == ("2:4", "model")
    assert any("matrices are zero, and training fills them" in note for note in second["notes"])
