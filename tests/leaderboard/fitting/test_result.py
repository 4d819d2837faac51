"""Saved fits: bit for bit the same, and refused where they would mislead."""

import json
from dataclasses import replace

import numpy as np
import pytest

from leaderboard import LAWS, Fit, P2Error, fit
from leaderboard.fitting import result as result_module
from leaderboard.laws.law import Powers
from leaderboard.logs.frame import data_hash


@pytest.fixture(scope="module")
def group(seed):
    """One family and method of the seed."""
    return seed[(seed["family"] == "qwen-2.5") & (seed["method"] == "depth")]


@pytest.mark.parametrize(("law", "loss"), [("p2", "ls"), ("damage-drift", "log-huber"), ("chinchilla", "log-ls")])
def test_what_comes_back_is_the_same_to_the_last_bit(law, loss, group, tmp_path):
    found = fit(LAWS[law], group, loss=loss)
    again = Fit.load(found.save(tmp_path / "new" / "fit.npz"))
    assert again == found
    assert again.pinned == found.pinned
    assert again.predict(group).tobytes() == found.predict(group).tobytes()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["fit.npz"]


def test_a_file_holds_no_pickle_and_reads_as_json(group, tmp_path):
    path = fit(LAWS["p2"], group).save(tmp_path / "fit.npz", data_hash(group))
    with np.load(path, allow_pickle=False) as file:
        words = json.loads(file["words"].tobytes())
        assert {file[name].dtype.kind for name in file.files} == {"u", "f"}
    assert words["law"] == "p2"
    assert words["data"] == data_hash(group)
    assert words["engine"] == result_module.ENGINE_VERSION


def test_a_fit_of_other_data_is_refused(group, tmp_path):
    path = fit(LAWS["p2"], group).save(tmp_path / "fit.npz", data_hash(group))
    assert Fit.load(path, data=data_hash(group)).params
    with pytest.raises(P2Error, match="is a fit of the data"):
        Fit.load(path, data=data_hash(group.iloc[:-1]))


def test_another_engine_is_refused(group, tmp_path, monkeypatch):
    path = fit(LAWS["p2"], group).save(tmp_path / "fit.npz")
    monkeypatch.setattr(result_module, "ENGINE_VERSION", result_module.ENGINE_VERSION + 1)
    with pytest.raises(P2Error, match="was fitted by engine 1, this one is 2; fit again"):
        Fit.load(path)


def test_a_law_that_is_not_registered_must_be_given(group, tmp_path):
    own = replace(LAWS["p2"], name="mine")
    found = fit(own, group)
    path = found.save(tmp_path / "fit.npz")
    with pytest.raises(P2Error, match="'mine' is not registered"):
        Fit.load(path)
    with pytest.raises(P2Error, match="is a fit of the law 'mine', not of 'p2'"):
        Fit.load(path, LAWS["p2"])
    assert Fit.load(path, own) == found


def test_a_law_that_has_changed_is_refused(group, tmp_path):
    path = fit(LAWS["p2"], group).save(tmp_path / "fit.npz")
    powers = Powers(
        {"alpha": ("n0", -1), "beta": ("tokens", -1), "gamma": ("rate", 1), "delta": ("n0", -1)},
        (("gamma", "delta", "alpha"), ("gamma", "delta", "beta"), ("gamma", "delta")),
    )
    other = replace(LAWS["p2"], basis=powers.basis, jacobian=powers.jacobian)
    with pytest.raises(P2Error, match="has changed since"):
        Fit.load(path, other)


def test_what_is_no_saved_fit_is_said(group, tmp_path):
    whole = fit(LAWS["p2"], group).save(tmp_path / "fit.npz").read_bytes()
    for content in (b"", b"no zip at all", whole[: len(whole) // 2], whole.replace(b"params", b"parans")):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(P2Error, match="is not a saved fit, or is damaged"):
            Fit.load(tmp_path / "bad.npz")
    with pytest.raises(P2Error, match="no such file"):
        Fit.load(tmp_path / "absent.npz")


def test_a_failed_write_leaves_the_old_file(group, tmp_path, monkeypatch):
    found = fit(LAWS["p2"], group)
    path = found.save(tmp_path / "fit.npz")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        replace(found, notes=(object(),)).save(path)
    full = OSError(28, "No space left on device")

    def no_space(*_, **__):
        raise full

    monkeypatch.setattr(np, "savez", no_space)
    with pytest.raises(OSError, match="No space left"):
        found.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]
