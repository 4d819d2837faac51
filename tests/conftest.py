"""The environment of every test, set before anything imports huggingface_hub; the time that slow tests have; one server
of fresh processes for all workers."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW_S = 900  # the limit of a slow test; pyproject.toml has that of the others

os.environ.update(
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
    DO_NOT_TRACK="1",
)


def pytest_configure(config: pytest.Config) -> None:
    """Several workers share a server; one process starts its own when it first needs one."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        from zoo import fresh

        os.environ[fresh.ADDRESS] = fresh.prepare()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the whole project are the longest, and come first; slow ones may take their time."""
    items.sort(key=lambda item: item.path.parent != HERE)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
