"""The tables of leaderboard/README.md, and the ranking in README.md, are what the kept commands print."""

import re
from pathlib import Path

import pytest

from leaderboard import LAWS, load_logs
from leaderboard.ranking.rank import rank
from leaderboard.studies.ablation import ablate
from leaderboard.studies.crossval import cross_validate, summary
from leaderboard.studies.metric_choice import metric_choice

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "leaderboard" / "README.md"
KINDS = {
    "size": "size",
    "rate": "rate",
    "both": "size and rate",
    "lowest": "lowest rate",
    "other sizes": "other sizes",
    "tokens": "tokens",
    "family": "family",
}


def _table(first: str, page: Path = PAGE) -> list[list[str]]:
    """Cells of the table whose heading begins with `first`, the heading first."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(first))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [row for row in rows if not set(row[0]) <= set("-")]


@pytest.mark.slow
def test_held_out_errors_are_those_of_the_cross_validation():
    heading, *rows = _table("| law | size |")
    table = summary(cross_validate(load_logs().frame))
    assert len(rows) >= 8
    for row in rows:
        name = re.sub(r"\*|\(.*", "", row[0]).strip()
        name = {"P²": "p2", "P² without N_C": "p2-no-nc"}.get(name, name)
        assert name in LAWS
        for kind, cell in zip(heading[1:], row[1:], strict=True):
            if cell:
                assert float(cell) == pytest.approx(table.loc[name, KINDS[kind]], abs=0.6 * 10 ** -len(cell[1:])), name


def test_the_ranking_is_what_the_command_prints(seed, seed_cells):
    """The order and the ranks; the figures to their last printed digit, which may round either way."""
    _, *rows = _table("| rank | law | ASD ratio", ROOT / "README.md")
    ranked = rank(seed, cells=seed_cells)
    assert [(int(row[0]), row[1].strip("`")) for row in rows] == list(zip(ranked["rank"], ranked["law"], strict=True))
    for name, column, digit in (("score", 2, 0.01), ("score_doubling", 3, 0.01), ("rmse_heldout", 4, 0.001)):
        assert [float(row[column]) for row in rows] == pytest.approx(ranked[name].tolist(), abs=0.6 * digit), name


@pytest.mark.slow
def test_the_ablation_is_what_the_command_prints():
    heading, row = _table("| without | D |")
    table = ablate(load_logs().frame).set_index("without")
    names = {"ρ": "rho", "N_C term": "the N_C term"}
    for without, cell in zip(heading[1:], row[1:], strict=True):
        ratio, low, high = map(float, re.findall(r"[\d.]+", cell))
        own = table.loc[names.get(without, without)]
        assert [ratio, low, high] == pytest.approx([own["asd_ratio"], own["low"], own["high"]], abs=0.006)


@pytest.mark.slow
def test_the_metrics_are_what_the_command_prints():
    heading, *rows = _table("| chosen in sample by | ASD |")
    table = metric_choice(load_logs().frame, LAWS).set_index("metric")
    names = {
        "ASD": "asd",
        "ASD a doubling": "asd_doubling",
        "R²": "r2",
        "Huber": "huber",
        "RMSE": "rmse",
        "AICc": "aicc",
    }
    columns = {"best": ["hits", "low", "high"], "regret": ["regret", "regret_low", "regret_high"]}
    assert set(map(names.get, heading[1:])) == set(table.index)
    for row in rows:
        for metric, cell in zip(heading[1:], row[1:], strict=True):
            own = table.loc[names[metric], columns[row[0]]].tolist()
            assert list(map(float, re.findall(r"[\d.]+", cell))) == pytest.approx(own, abs=0.006), (row[0], metric)
