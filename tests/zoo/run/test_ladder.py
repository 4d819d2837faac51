"""A toy ladder: a base pretrained from text, pruned, trained on clean and noisy text, distilled; and the report."""

import json
import lzma
import os
import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest

from leaderboard import load_logs
from leaderboard.errors import P2Error
from zoo.inputs.base_model import describe, load_tokenizer, resolve
from zoo.inputs.gather import gather
from zoo.inputs.scratch import initial_model
from zoo.inputs.text import documents, shuffle_lines
from zoo.publish.card import render
from zoo.publish.publish import plan as plan_publication
from zoo.recipe.files import load_recipe, to_yaml
from zoo.sweep.report import as_text
from zoo.sweep.report import gather as gather_report
from zoo.sweep.report_page import page
from zoo.sweep.sweep import plan

TOY = {
    "base.yaml": """
data:
  train: {dataset: nobody/nothing, skip: 10, take: 30}
  heldout: {dataset: nobody/nothing, take: 10}
train:
  {tokens: 1_024, seq_len: 64, batch_tokens: 256, lr_peak: 0.001, precision: fp32, warmup_tokens: 256,
   checkpoint_tokens: 1_024}
evaluate: {tokens: 512, log_points: 2, linear_points: 2}
""",
    "bases/toy.yaml": """
extends: ../base.yaml
model: {name: toy, scratch: {family: mistral, size: s0, vocab_size: 400}}
prune: {method: none}
data: {train: {skip: 40, take: null}}
train: {tokens: 4_096, schedule: cosine-to-10%, lr_peak: 0.005}
""",
    "depth.yaml": """
extends: base.yaml
model: {name: ./bases/toy.yaml}
prune: {method: depth, rate: 0.3, calibration_tokens: 256}
""",
    "noisy.yaml": "extends: depth.yaml\ndata: {train: {noise: 0.5}}\n",
    "distilled.yaml": "extends: depth.yaml\ntrain: {objective: distill}\n",
}


@pytest.fixture(scope="module")
def toy(quickstart, tmp_path_factory):
    """The recipes in a folder, and a packed text beside them that stands in for their data set."""
    folder = tmp_path_factory.mktemp("ladder") / "toy"
    (folder / "bases").mkdir(parents=True)
    for name, text in TOY.items():
        (folder / name).write_text(text)
    texts = pq.read_table(quickstart / "text" / "train.parquet")["text"].to_pylist()
    with lzma.open(folder / "corpus.txt.xz", "wt", encoding="utf-8") as file:
        file.write("\0".join(text[:1500] for text in texts[:80]))
    return folder


@pytest.mark.slow
def test_the_toy_ladder_from_pretraining_to_the_report(toy, tmp_path):
    command = [sys.executable, "-m", "zoo", "sweep", str(toy), "--out", str(tmp_path), "--jobs", "2", "--json"]
    environment = os.environ | {"CORPUS": str(toy / "corpus.txt.xz"), "P2ZOO_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {run["name"]: run["status"] for run in told["runs"]} == {
        "toy": "finished", "toy-depth": "finished", "toy-distilled": "finished", "toy-noisy": "finished",
    }  # fmt: skip
    base = json.loads((tmp_path / "bases" / "toy" / "run.json").read_text())
    assert base["loss"] < base["l0"] - 0.3
    logs = load_logs(tmp_path).frame
    pruned = logs[logs["method"] != "none"]
    assert set(pruned["base_tokens"]) == {4_096}  # as the base's own run counted
    assert logs.loc[logs["method"] == "none", "base_tokens"].isna().all()
    assert set(logs["objective"].astype(str)) == {"pretrain", "clm", "distill"}
    pruned = logs[logs["objective"].astype(str) != "pretrain"]
    assert pruned["l_pruned"].nunique() == pruned["l0"].nunique() == 1  # one base, pruned on clean text
    assert pruned["run_id"].nunique() == 3
    assert set(pruned["base_model"].astype(str)) == {"toy"}
    assert pruned["l0"].iloc[0] == pytest.approx(base["loss"], abs=1e-6)
    assert any("+noise=0.5@" in text for text in pruned["train_data"].astype(str))
    rate = logs[logs["objective"].astype(str) == "pretrain"]["lr"].dropna()
    assert rate.iloc[-1] == pytest.approx(0.0005, rel=0.25)  # a tenth of the peak
    assert "toy-distilled" in (tmp_path / "report.html").read_text()
    assert {run["name"] for run in told["summary"]["runs"]} == {"toy-depth", "toy-distilled", "toy-noisy"}
    assert [level["share"] for level in told["summary"]["noise"]] == [0.5]
    again = subprocess.run([*command, "--dry-run"], env=environment, capture_output=True, text=True, timeout=800)
    assert {run["status"] for run in json.loads(again.stdout)["runs"]} == {"finished"}
    publication = plan_publication(tmp_path / "bases" / "toy", "me", licence="apache-2.0")
    card = render(publication.run, "me/toy", publication.licence, publication.claimed)
    assert publication.repo == "me/toy"
    assert "pretrained by p2zoo" in card
    assert "base_model" not in card.partition("\n---\n")[0]
    with pytest.raises(P2Error, match="log data sets are of pruned models"):
        plan_publication(tmp_path / "bases" / "toy", "me", "me/logs", licence="apache-2.0")


def test_bases_come_first_and_their_runs_wait_for_them(toy, tmp_path):
    items = plan(str(toy), tmp_path, ["train.seed=1"], toy / "corpus.txt.xz")
    assert [item.name for item in items] == ["toy", "toy-depth", "toy-distilled", "toy-noisy"]
    base, depth = items[:2]
    assert (base.pretrains, base.needs, depth.needs) == (True, None, "toy")
    assert base.folder == tmp_path / "bases" / "toy"
    assert "train.seed=1" in depth.words
    assert "train.seed=1" not in base.words
    assert depth.words[-1] == f"model.name={base.folder.resolve()}"
    given = load_recipe(toy / "depth.yaml", ["model.name=/elsewhere/toy"])
    assert given.sha256 == load_recipe(toy / "depth.yaml").sha256  # wherever the base was made
    with pytest.raises(P2Error, match="makes a base model that is not there yet"):
        resolve(load_recipe(toy / "depth.yaml").model, toy)


def test_an_untrained_model_has_the_size_of_its_row_and_one_seed_gives_one_model(toy, tmp_path):
    recipe = load_recipe(toy / "bases" / "toy.yaml", corpus=toy / "corpus.txt.xz")
    one, other = (initial_model(recipe, "", tmp_path / name) for name in ("one", "other"))
    assert (
        one.revision
        == other.revision
        != initial_model(
            load_recipe(toy / "bases" / "toy.yaml", ["train.seed=1"], toy / "corpus.txt.xz"), "", tmp_path / "third"
        ).revision
    )
    assert one.shape == describe(recipe.model, toy).shape
    assert (one.label, one.family) == ("toy", "mistral")
    tokenizer = load_tokenizer(one.folder)
    text = "def f(x):\n    return x + 1  # naïve"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) <= 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.scratch.family=llama", "unknown family 'llama'"),
        ("model.scratch.size=s9", "unknown size 's9'"),
        ("model.scratch.vocab_size=10", "every byte is a token"),
        ("model.name=./toy", "takes a plain name"),
        ("data.heldout.noise=0.5", "measured on text as it is"),
        ("data.train.noise=1.5", r"allowed is a share in \(0, 1\]"),
        ("train.objective=kl", "unknown objective 'kl'"),
        ("prune={method: none, rate: 0.1}", "the method none removes nothing"),
    ],
)
def test_what_a_recipe_cannot_ask_for(toy, change, said):
    with pytest.raises(P2Error, match=said):
        load_recipe(toy / "bases" / "toy.yaml", [change], toy / "corpus.txt.xz")


def test_shuffled_lines_keep_their_words_and_the_rest_stays_in_place():
    text = "\n".join(f"line {i}" for i in range(40)) + "\n"
    noisy = shuffle_lines(text, 0.25, seed=0)
    assert sorted(noisy.split("\n")) == sorted(text.split("\n"))
    moved = sum(a != b for a, b in zip(text.split("\n"), noisy.split("\n"), strict=True))
    assert 5 <= moved <= 10
    assert noisy == shuffle_lines(text, 0.25, seed=0) != shuffle_lines(text, 0.25, seed=1)


def test_noise_touches_the_training_text_and_not_the_calibration(toy, quickstart, tmp_path):
    tokenizer = load_tokenizer(quickstart / "tiny-llama-3")
    found = {}
    for noise in ("null", "0.5"):
        recipe = load_recipe(toy / "depth.yaml", [f"data.train.noise={noise}"], toy / "corpus.txt.xz")
        found[noise] = gather(recipe, tokenizer, {"train": "", "heldout": ""}, tmp_path / noise)
    clean, noisy = found.values()
    assert clean.train.sha256 != noisy.train.sha256
    assert all(a.equal(b) for a, b in zip(clean.calibration, noisy.calibration, strict=True))
    assert clean.heldout.sha256 == noisy.heldout.sha256
    assert load_recipe(toy / "noisy.yaml").data.train.label == "nobody/nothing/train[10:40]+noise=0.5"


def test_a_packed_corpus_stands_in_for_a_data_set(toy):
    recipe = load_recipe(toy / "depth.yaml", corpus=toy / "corpus.txt.xz")
    texts = list(documents(recipe.data.train, recipe.folder, "data.train"))
    assert len(texts) == 30
    assert not any("\0" in text for text in texts)
    assert recipe.data.train.label == "corpus.txt.xz[10:40]"
    assert "nobody" not in to_yaml(recipe)


@pytest.mark.slow
def test_the_report_says_whether_the_clean_law_predicts_noisy_curves():
    frame = load_logs().frame.query("family == 'llama-3' and method == 'depth'")
    noisy = frame.assign(run_id=frame["run_id"].astype(str) + "n")
    noisy = noisy.assign(loss=noisy["loss"].where(noisy["tokens"] == 0, noisy["loss"] + 0.05))
    both = pd.concat([frame.assign(run_id=frame["run_id"].astype(str)), noisy])
    report = gather_report(both, "Noise", noise=dict.fromkeys(noisy["run_id"].unique(), 0.5))
    (level,) = report.noise
    assert level.shift.gap.value == pytest.approx(0.05, abs=0.005)
    assert level.shift.predicted is False
    assert set(report.clean["run_id"]) == set(frame["run_id"].astype(str))
    assert "Noise 50% of lines, llama-3 depth, 10 runs: the clean law does not predict them" in as_text(report)
    assert "does not predict</td>" in page(report)


def test_words_of_others_are_text_on_the_page():
    frame, evil = load_logs().frame.query("family == 'llama-3' and method == 'depth'"), "<script>alert('&')</script>"
    frame = frame[frame["run_id"] == frame["run_id"].iloc[0]].assign(base_model=evil)
    text = page(gather_report(frame, evil, failed={evil: evil}))
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)") == 7  # title 2, base, failed 2, next run and its command
