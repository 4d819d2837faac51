"""Benchmarks on the card: lm-eval on a task made here, and what is said without it."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from zoo.publish.benchmarks import measure
from zoo.publish.publish import plan
from zoo.run.finished import weights_sha256

TASK = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: DATA}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [red, green]
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


@pytest.fixture
def folder(runs, tmp_path) -> Path:
    return Path(shutil.copytree(runs(), tmp_path / "run"))


def test_results_stand_on_the_card_of_the_weights_they_were_measured_on(folder):
    metrics = {"acc": {"value": 0.25, "stderr": 0.125}, "acc_norm": {"value": 0.5, "stderr": None}}
    arc = {"version": 1.0, "shots": 0, "samples": 1200, "dataset": "allenai/ai2_arc", "metrics": metrics}
    state = json.loads((folder / "run.json").read_text())
    sha = plan(folder, "ann", licence="apache-2.0").claimed.weights_sha256
    kept = {"lm_eval": "0.4.13", "results": {"arc_easy": arc}}
    (folder / "run.json").write_text(json.dumps(state | {"tasks": kept | {"weights_sha256": sha}}))
    card = ModelCard(plan(folder, "ann", licence="apache-2.0").card().decode())
    assert "| `arc_easy` | 1.0 | 0 | 1,200 | acc | 0.2500 ± 0.1250 |" in card.text
    found = {r.metric_type: (r.dataset_type, r.metric_value) for r in card.data.eval_results}
    assert found["acc"] == ("allenai/ai2_arc", 0.25)
    (folder / "run.json").write_text(json.dumps(state | {"tasks": kept | {"weights_sha256": "of others"}}))
    assert "arc_easy" not in plan(folder, "ann", licence="apache-2.0").card().decode()


def test_a_group_that_was_measured_is_not_measured_again(folder):
    state = json.loads((folder / "run.json").read_text())
    kept = {"weights_sha256": weights_sha256(folder / "model"), "groups": ["glue"], "results": {"cola": {}, "mnli": {}}}
    (folder / "run.json").write_text(json.dumps(state | {"tasks": kept}))
    assert measure(folder, ["glue", "cola"]) == kept["results"]


@pytest.mark.slow
def test_without_lm_eval_it_says_what_to_install(folder):
    script = f"import sys; sys.modules['lm_eval'] = None; sys.argv[1:] = {['publish', str(folder), '--to', 'me']!r}"
    script += "; sys.argv += ['--tasks', 'arc_easy']; from zoo.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "lm_eval is not installed; run `pip install 'p2zoo[tasks]'`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_task_of_ones_own_is_measured_once(folder, tmp_path):
    pytest.importorskip("lm_eval", reason="in the extra [tasks]")
    questions = [{"question": f"light number {i} is", "answer": i % 2} for i in range(10)]
    (tmp_path / "colours.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "colours.yaml").write_text(TASK.replace("DATA", str(tmp_path / "colours.jsonl")))
    script = f"""
        import json, pathlib
        from leaderboard import P2Error
        from zoo.publish.benchmarks import measure
        run = pathlib.Path({str(folder)!r})
        measure(run, [{str(tmp_path / "colours.yaml")!r}])
        before = (run / "run.json").read_text()
        again = measure(run, [{str(tmp_path / "colours.yaml")!r}])
        assert (run / "run.json").read_text() == before
        try:
            measure(run, ["arc_eazy"])
        except P2Error as error:
            print(json.dumps([again, str(error)]))
    """
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=800)
    results, refusal = json.loads(done.stdout.splitlines()[-1])
    assert refusal.startswith("--tasks: unknown task 'arc_eazy'. Near: arc_easy, ")
    (result,) = results.values()
    assert (result["samples"], result["shots"], result["dataset"], list(result["metrics"])) == (10, 0, None, ["acc"])
    assert 0 <= result["metrics"]["acc"]["value"] <= 1
    assert "| `colours` | 1.0 | 0 | 10 | acc | " in plan(folder, "ann", licence="apache-2.0").card().decode()
