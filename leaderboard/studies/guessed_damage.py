"""Would a guess of l_pruned help where nobody measured it? Hold-outs answered without it, and with what the rate says.

The guess is `pruned_loss` (planning/pruned_loss.py) fitted to the rows that the fold leaves, put in place of l_pruned
for all laws. `python -m leaderboard.studies.guessed_damage [LOGS]` prints root mean square errors in nats per token.
"""

import sys
from collections.abc import Iterator

import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.logs.contract import GROUP, usable
from leaderboard.planning.pruned_loss import pruned_loss
from leaderboard.planning.recommend import mixture
from leaderboard.ranking.tracks import groups
from leaderboard.studies.crossval import Fold, folds

KINDS = ("size", "other sizes", "rate", "lowest rate", "size and rate", "family")


def compare(frame: pd.DataFrame) -> pd.DataFrame:
    """Root mean square errors by kind of hold-out: l_pruned `measured`, `guessed` and `unknown`."""
    rows = usable(frame).reset_index(drop=True)
    errors = []
    for _, text in groups(rows, GROUP[2:]):
        text = text.reset_index(drop=True)
        for fold in folds(text):
            if fold.kind in KINDS and fold.test.any() and not fold.held.all():
                errors += list(_errors(text, fold))
    squares = pd.DataFrame(errors, columns=["kind", "measured", "guessed", "unknown"]).groupby("kind", sort=False)
    return squares.mean().pow(0.5).reset_index()


def _errors(text: pd.DataFrame, fold: Fold) -> Iterator[tuple[object, ...]]:
    """Mean squared errors of every group of a fold, where all three can answer."""
    train = text[~fold.held]
    for key, rows in groups(text[fold.test]):
        try:
            known, unknown = (mixture(train, key, None, l_pruned_known=known) for known in (True, False))
            guess = pruned_loss(train, key["method"])
        except P2Error:
            continue
        guessed = rows.assign(l_pruned=rows["l0"] * (1 - rows["rate"]) ** -guess.alpha)
        loss = rows["loss"].to_numpy(dtype=float)
        answers = (known.predict(rows), known.predict(guessed), unknown.predict(rows))
        yield (fold.kind, *(float(((answer - loss) ** 2).mean()) for answer in answers))


def main() -> None:
    """Print the table."""
    from leaderboard.logs.load import load_logs

    print(compare(load_logs(*sys.argv[1:2]).frame).to_string(float_format="{:.4f}".format, index=False))


if __name__ == "__main__":
    main()
