# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.hf-jobs]
# flavor = "h200"
# timeout = "12h"
# secrets = ["HF_TOKEN"]
# ///
"""Run a recipe as a Hugging Face Job: checkpoints go to a private repository, a preempted job goes on from there.

`p2zoo run RECIPE --on hf-jobs:h200` starts it. By hand, with p2zoo as a wheel at an address of yours:

    hf jobs uv run --with "p2zoo[train] @ https://huggingface.co/ME/REPO/resolve/main/p2zoo-0.1.0-py3-none-any.whl" \\
        recipes/job.py qwen-2.5-0.5b/depth-0.25 --state ME/p2zoo-state --to ME --logs ORG/p2-logs

On a machine that has p2zoo, `uv run recipes/job.py` with p2zoo on PYTHONPATH installs nothing.
"""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")  # `p2zoo run RECIPE --state ...`
    main()
