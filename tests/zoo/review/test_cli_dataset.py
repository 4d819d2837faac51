"""The loop from a terminal: set up, submit, check, merge, read back."""

import json
import os
import subprocess
import sys

import pytest

from zoo.devhub import client_env

DATASET = "owner/logs"


@pytest.mark.slow
def test_the_owner_checks_and_merges_from_the_command_line(hub_url, own_cache, owner, ann, log, send):
    env = os.environ | client_env(hub_url, "hf_owner_token")

    def p2zoo(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "zoo", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=200)

    path, data = log()
    send(ann, {path: data})
    send(ann, {"runs/bob/x.parquet": b"\x1b[2J"})
    merged = p2zoo("check", DATASET, "--pr", "1", "--comment", "--merge-if-clean", "--json")
    assert merged.returncode == 0, merged.stderr
    said = json.loads(merged.stdout)
    assert (said["ok"], said["merged"], said["author"]) == (True, owner.dataset_info(DATASET).sha, "ann")
    refused = p2zoo("check", DATASET, "--pr", "2")
    assert refused.returncode == 1
    assert "outside_your_folder" in refused.stdout
    usage = p2zoo("check", DATASET, "--comment")
    assert (usage.returncode, usage.stdout) == (2, "")
    assert "need --pr N" in usage.stderr
    assert "hf_owner_token" not in "".join(d.stdout + d.stderr for d in (merged, refused, usage))
