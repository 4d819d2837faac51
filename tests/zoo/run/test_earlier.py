"""An l0 that is not that of earlier logs of the same base and text is told."""

import shutil

import pyarrow.parquet as pq

from leaderboard.logs.load import SEED
from zoo.run.earlier import doubt

ALIKE = ("base_model", "base_revision", "eval_data", "eval_tokens", "seq_len", "packing")


def test_l0_is_compared_with_runs_beside_this_one_and_with_the_bundled(tmp_path):
    log = sorted(SEED.rglob("*.parquet"))[0]
    row = pq.read_table(log).to_pylist()[0]
    alike = {name: row[name] for name in ALIKE}
    assert doubt(tmp_path / "mine", alike, row["l0"]) is None
    assert "earlier logs of this base, text and protocol" in doubt(tmp_path / "mine", alike, row["l0"] + 0.3)
    other = alike | {"base_revision": "mine"}
    assert doubt(tmp_path / "mine", other, row["l0"] + 0.3) is None
    for name in ("mine", "before"):
        (tmp_path / name).mkdir()
        shutil.copy(log, tmp_path / name / "log.parquet")
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "log.parquet").write_bytes(b"PAR1")
    assert str(tmp_path / "before") in doubt(tmp_path / "mine", alike, row["l0"] + 0.3)
