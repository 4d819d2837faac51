"""Whether a model loads elsewhere, program by program, and what its card says of that.

transformers-4 is tried in a child process; gguf (llama.cpp's converter) and vllm are judged by rule. What was tried of
a run's model stands in its run.json, for the weights whose hash stands beside it.
"""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.files import write_atomic
from zoo.loads import transformers4
from zoo.loads.rules import GGUF, VLLM, Finding, judge
from zoo.run.finished import weights_sha256
from zoo.run.folder import read_state

TRIED = "transformers-4"
PROGRAMS = {TRIED: "transformers 4", GGUF: "GGUF by llama.cpp's converter", VLLM: "vLLM"}
KEY = "loads"  # in run.json


@dataclass(frozen=True)
class Loads:
    """One program's answer: `ok` unless a finding says no; those that say neither are `open`."""

    program: str
    by_rule: bool
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return all(finding.ok is not False for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {"program": self.program, "by_rule": self.by_rule, "ok": self.ok} | {
            "findings": [asdict(finding) for finding in self.findings]
        }


def check(folder: Path, program: str) -> Loads:
    """Ask one program of PROGRAMS about a model folder that base_model has accepted."""
    if program != TRIED:
        return Loads(program, True, judge(folder, program))
    return Loads(program, False, transformers4.check(folder))


def note(run_dir: Path, found: Loads) -> None:
    """Keep what was tried in run.json."""
    state = read_state(run_dir)
    state[KEY] = {"weights_sha256": weights_sha256(run_dir / "model"), found.program: found.as_dict()}
    write_atomic(run_dir / "run.json", json.dumps(state, indent=2, allow_nan=False) + "\n")


def words(folder: Path, state: Mapping[str, Any], weights: str) -> str:
    """For a card: `Loads in: ...; by rule: ...; not tried: ...`, and what speaks against it."""
    kept = state.get(KEY) or {}
    tried = kept.get(TRIED) if kept.get("weights_sha256") == weights else None
    loads = [f"transformers {importlib.metadata.version('transformers')} (a fresh process, equal weights and logits)"]
    not_tried, against = [], []
    if tried is None:
        not_tried.append(PROGRAMS[TRIED])
    elif tried["ok"]:
        loads.append(f"{PROGRAMS[TRIED]} (equal loss and token ids)")
    else:
        against += [f"{PROGRAMS[TRIED]}: {one['what']}: {one['said']}" for one in tried["findings"] if not one["ok"]]
    by_rule = []
    for program in (GGUF, VLLM):
        found = check(folder, program)
        if found.ok:
            by_rule.append(PROGRAMS[program])
        against += [f"{PROGRAMS[program]} asks that {one.what}" for one in found.findings if one.ok is False]
    parts = (("Loads in", loads), ("by rule", by_rule), ("not tried", not_tried), ("does not load in", against))
    return "; ".join(f"{head}: {', '.join(names)}" for head, names in parts if names) + "."
