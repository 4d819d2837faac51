"""transformers 4, tried: the model's loss there must be its loss here, on the same token ids of the yardstick.

It is installed once into a folder of the cache, without what it shares with this environment (PyTorch, safetensors),
and used by a child process that finds it first.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error, RunFailed
from zoo.files import new_folder
from zoo.inputs.base_model import load_model
from zoo.inputs.tokenizer import load_tokenizer
from zoo.loads.rules import Finding
from zoo.progress import stage
from zoo.run.pruned import cache_folder

PACKAGES = ("transformers==4.57.6", "huggingface_hub==0.36.*", "tokenizers==0.22.*")
TOLERANCE = 1e-3  # nats per token
_ROW, _ROWS = 128, 4  # token ids, of the first pieces of the yardstick
_INSTALL_S, _CHILD_S = 900, 1800


def installed() -> Path:
    """The folder that has transformers 4; installed now, said before, where it is not there yet."""
    folder = cache_folder() / PACKAGES[0].replace("==", "-")
    if folder.is_dir():
        return folder
    with stage(f"installing {', '.join(PACKAGES)} into {folder} (135 MB, once)"), new_folder(folder) as new:
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(new), *PACKAGES]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_INSTALL_S)
        except subprocess.TimeoutExpired:
            raise P2Error(f"check-load: installing {PACKAGES[0]} took over {_INSTALL_S} s; try again.") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise P2Error(
                f"check-load: {PACKAGES[0]} could not be installed ({last}). Where there is a network: "
                f"pip install --no-deps --target {folder} {' '.join(PACKAGES)}"
            )
    return folder


def check(folder: Path) -> list[Finding]:
    """Weights, loss and tokenizer of a model folder, in transformers 4 against the transformers installed here."""
    from zoo.evaluation.yardstick import measured_windows

    packages, texts, tokenizer = installed(), measured_windows()[: 2 * _ROWS], load_tokenizer(folder)
    ids = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    rows = [row[:_ROW] for row in ids if len(row) > 1][:_ROWS]
    with stage("measuring it in this transformers and in transformers 4"):
        here = _loss(folder, rows)
        there = _ask(packages, {"folder": str(folder.resolve()), "rows": rows, "texts": texts})
    wrong = [f"{kind}: {', '.join(names[:3])}" for kind, names in there["wrong"].items() if names]
    same = abs(there["loss"] - here) <= TOLERANCE
    told = there.get("why") or ("the same ids" if there["ids"] == ids else "other token ids than tokenizer.json")
    return [
        Finding("weights", not wrong, "; ".join(wrong) or "every tensor is where it should be"),
        Finding("loss", same, f"{there['loss']:.4f} in transformers {there['version']}, {here:.4f} here"),
        Finding("tokenizer", there["ids"] == ids, told),
    ]


def _loss(folder: Path, rows: list[list[int]]) -> float:
    """What child.py measures, in this process's transformers."""
    import torch

    model = load_model(folder, "fp32").eval()
    total = 0.0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    return total / sum(len(row) - 1 for row in rows)


def _ask(packages: Path, question: dict[str, Any]) -> dict[str, Any]:
    """The child's answer; P2Error where it has none."""
    with tempfile.TemporaryDirectory(prefix="p2zoo-load-") as work:
        path = Path(work) / "question.json"
        path.write_text(json.dumps(question), encoding="utf-8")
        found_first = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": found_first, "HF_HUB_OFFLINE": "1"}
        words = [sys.executable, "-P", str(Path(__file__).with_name("child.py")), str(path)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=_CHILD_S)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RunFailed(f"check-load: {PACKAGES[0]} cannot load it: {last}")
        answer: dict[str, Any] = json.loads(path.with_name("answer.json").read_text(encoding="utf-8"))
        return answer
