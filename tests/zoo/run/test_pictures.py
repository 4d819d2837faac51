"""The pictures: files that image readers accept, with the curves on them."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from typer.testing import CliRunner

from leaderboard import load_logs
from leaderboard.errors import P2Error
from leaderboard.logs.load import SEED
from zoo.cli import app
from zoo.run.plot import CURVE, draw_curve
from zoo.sweep.gallery import draw_gallery

ROWS = [{"tokens": tokens, "loss": 3 - tokens / 1e4} for tokens in (0, 100, 1_000, 4_000)]


def drawn(path, color=None) -> np.ndarray:
    """Where a picture shows `color`, or any colour that is no grey: (height, width) bool. Raises on half a PNG."""
    pixels = imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 300
    if color is None:
        return np.ptp(pixels, axis=-1) > 0.2  # text, axes and grid are nearly grey
    return np.abs(pixels - to_rgb(color)).max(axis=-1) < 0.02


def reach(mask) -> float:
    """The share of the width from the first to the last column that shows something."""
    columns = np.flatnonzero(mask.any(axis=0))
    return float(np.ptp(columns) / mask.shape[1]) if len(columns) else 0.0


def test_a_curve_is_drawn(tmp_path):
    """From left to right, in its colour, falling as the losses do."""
    draw_curve(tmp_path / "curve.png", ROWS, l0=2.4, l_pruned=3.0, title="tiny, depth")
    curve = drawn(tmp_path / "curve.png", CURVE)
    assert reach(curve) > 0.6
    columns = np.flatnonzero(curve.any(axis=0))
    first, last = (np.flatnonzero(curve[:, column]).mean() for column in (columns[0], columns[-1]))
    assert last - first > 0.3 * len(curve)  # rows count downwards


def test_other_losses_make_another_picture(tmp_path):
    for name, l0 in (("one", 2.4), ("two", 1.0)):
        draw_curve(tmp_path / name, ROWS, l0=l0, l_pruned=3.0, title="tiny, depth")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_a_gallery_has_a_panel_a_group_with_a_law_where_runs_allow_one(tmp_path):
    """Ten runs of one group, and one run of another, on other text."""
    frame = load_logs().frame
    frame = frame[frame["family"] == "llama-3"]
    one = frame[frame["run_id"] == frame.loc[frame["method"] == "width", "run_id"].iloc[0]]
    frame = pd.concat([frame[frame["method"] == "depth"], one.assign(eval_data="other")], ignore_index=True)
    titles = draw_gallery(tmp_path / "gallery.png", frame, ["damage", "p2-no-nc"])
    assert titles == ["llama-3 depth on p2lab/docs-heldout", "llama-3 width on other"]
    runs = drawn(tmp_path / "gallery.png")
    middle = runs.shape[1] // 2
    assert all(reach(half) > 0.3 for half in (runs[:, :middle], runs[:, middle:]))


def test_the_plot_command(tmp_path):
    log = next(iter(sorted(SEED.rglob("*.parquet"))))
    result = CliRunner().invoke(app, ["plot", str(log), "--out", str(tmp_path / "one.png")])
    assert result.output == f"{tmp_path / 'one.png'}: 1 run in 1 group\n"
    assert reach(drawn(tmp_path / "one.png")) > 0.3  # one of two columns


def test_a_run_given_twice_is_drawn_once_and_said(tmp_path):
    log = next(SEED.rglob("*.parquet"))
    result = CliRunner().invoke(app, ["plot", str(log), str(log.parent), "--out", str(tmp_path / "seed.png")])
    assert result.exit_code == 0
    assert "left out" in result.stderr
    assert result.stderr.count("one file a run and contributor") == 1


def test_a_picture_that_cannot_be_written_and_a_law_that_is_none(tmp_path):
    log = str(next(iter(sorted(SEED.rglob("*.parquet")))))
    result = CliRunner().invoke(app, ["plot", log, "--out", str(tmp_path / "nowhere" / "one.png")])
    assert isinstance(result.exception, P2Error)
    assert "cannot be written" in str(result.exception)
    result = CliRunner().invoke(app, ["plot", log, "--law", "dammage"])
    assert "unknown law 'dammage'. Did you mean 'damage'" in str(result.exception)
