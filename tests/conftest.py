"""The environment of every test, set before anything imports huggingface_hub."""

import os

os.environ.update(
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
    DO_NOT_TRACK="1",
)
