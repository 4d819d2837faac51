"""The dataset's card: made from the contract, written once, what maintainers wrote is kept."""

import pytest
import yaml

from leaderboard.logs.contract import COLUMNS
from leaderboard.logs.hub import read_dataset
from zoo.publish.log_dataset import BEGIN, END, card, init

DATASET = "owner/logs"


def test_init_twice_writes_once_and_the_seed_reads_back(as_user, tmp_path):
    datasets = pytest.importorskip("datasets", reason="in the extra [train]")
    api = as_user("owner")
    assert {"README.md"} <= set(init(api, DATASET))
    assert len(init(api, DATASET, seed=True)) == 37
    commit = api.dataset_info(DATASET).sha
    assert init(api, DATASET, seed=True) == []
    assert api.dataset_info(DATASET).sha == commit
    assert read_dataset(DATASET, api=api).frame["run_id"].nunique() == 37
    local = api.snapshot_download(DATASET, repo_type="dataset", local_dir=tmp_path / "local")
    rows = datasets.load_dataset(local, split="train", cache_dir=str(tmp_path / "cache"))
    assert [f.dtype for f in rows.features.values()] == [
        f["dtype"] for f in yaml.safe_load(card(DATASET).split("---\n")[1])["dataset_info"]["features"]
    ]
    assert len(set(rows["run_id"])) == 37


def test_the_card_names_every_column_and_keeps_what_others_wrote():
    text = card(DATASET)
    assert all(f"| {c.name} |" in text for c in COLUMNS)
    assert card(DATASET, text) == text
    edited = text.replace(BEGIN, f"# Our zoo\n\n{BEGIN}", 1).replace(END, f"{END}\n\nAsk us anything.", 1)
    outdated = edited.replace("| tokens |", "| steps |")
    assert card(DATASET, outdated) == edited


def test_a_stranger_may_not_set_a_dataset_up(as_user, owner):
    from leaderboard import P2Error

    with pytest.raises(P2Error, match="may not do this"):
        init(as_user("ann"), "owner/new")
