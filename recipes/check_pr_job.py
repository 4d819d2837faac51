# /// script
# requires-python = ">=3.11"
# dependencies = ["huggingface_hub>=2.4,<3", "datasets>=5.2,<6"]
# [tool.hf-jobs]
# flavor = "cpu-basic"
# timeout = "20m"
# secrets = ["HF_TOKEN"]
# ///
"""Check pull requests of a log dataset with no server: a Hugging Face Job that a webhook starts.

p2zoo comes as a wheel from an address of yours; maintainers alone can write to main, so the dataset itself will do:

    hf jobs uv run --with https://huggingface.co/datasets/ORG/p2-logs/resolve/main/p2zoo-0.1.0-py3-none-any.whl \\
        recipes/check_pr_job.py ORG/p2-logs

    from huggingface_hub import create_webhook
    create_webhook(job_id="...", watched=[{"type": "dataset", "name": "ORG/p2-logs"}], secrets={"HF_TOKEN": "hf_..."})

The Hub starts the job again for each event, with the event in WEBHOOK_PAYLOAD. The token needs write access to the
dataset's discussions only: merging stays with the maintainers, unless the script is given --merge-if-clean too.
"""

import json
import os
import sys

from zoo.review.webhook import check_in_process, pull_request_of

MERGE = "--merge-if-clean"


def main() -> int:
    """0 where there is nothing to check or it is clean, else what `p2zoo check` ends with."""
    names = [word for word in sys.argv[1:] if word != MERGE]
    dataset = names[0] if names else os.environ["WEBHOOK_REPO_ID"]
    num = pull_request_of(json.loads(os.environ.get("WEBHOOK_PAYLOAD") or "{}"), dataset)
    if num is None:
        print("No open pull request in this event.")
        return 0
    return check_in_process(dataset, num, merge_if_clean=MERGE in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
