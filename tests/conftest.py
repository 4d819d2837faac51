"""The environment of every test, set before anything imports huggingface_hub; the time that slow tests have; one server
of fresh processes for all workers."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW_S = 900  # the limit of a slow test; pyproject.toml has that of the others
LONGEST = (  # files that take a minute or so, in the order in which they start; the others follow
    "space/pages/test_pages.py",
    "zoo/sweep/test_sweep.py",
    "test_readme.py",
    "space/pages/test_other_boards.py",
    "zoo/run/test_pipeline.py",
    "space/server/test_api.py",
    "zoo/run/test_launch.py",
    "zoo/run/test_gate.py",
    "zoo/publish/test_publish.py",
    "zoo/test_fresh.py",
)

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
    """The longest files first, whole, so that no process is left alone with one; slow tests may take their time."""
    place = {HERE / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
