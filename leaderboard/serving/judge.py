"""A log's whole verdict, wherever it is asked for: sound by itself, like its neighbours, expected by the laws."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from leaderboard.logs.check import check_files
from leaderboard.logs.findings import Report
from leaderboard.ranking.neighbours import beside
from leaderboard.ranking.unexpected import unexpected


def judged(paths: Sequence[Path], known: pd.DataFrame, names: Sequence[str] | None = None) -> tuple[Report, ...]:
    """A report for each file, beside each other and the rows of `known` runs; `names` as in check_files."""
    return unexpected(beside(check_files(paths, names, known=known, few=len(paths)), known), known).reports
