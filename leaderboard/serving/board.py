"""A board: one state of the run logs, and every answer about it worked out once.

For servers: a new state of the data is a new board, made ready beside the old one and put in its place. Boards do not
change; what is asked twice is computed once, whoever asks.
"""

from contextlib import suppress
from copy import copy
from functools import cached_property

import pandas as pd

from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.result import Fit
from leaderboard.laws.catalogue import LAWS
from leaderboard.logs.contract import GROUP, curve_numbers, require, usable
from leaderboard.logs.frame import Logs
from leaderboard.logs.origin import ORIGIN, PROTOCOL, WORDS, origin, protocol
from leaderboard.once import Once
from leaderboard.planning.bases import BASES, Base, measured_bases, with_losses
from leaderboard.planning.budget import NEEDED, Budget, Question, answer
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.plan import plan
from leaderboard.planning.recommend import fit_new_model, predictor, same_text
from leaderboard.planning.rivals import deployed_size, near_bases, priced, with_own
from leaderboard.planning.wanted import wanted
from leaderboard.ranking.asd import noise_floor
from leaderboard.ranking.cells import CELL, score_cells
from leaderboard.ranking.rank import rank
from leaderboard.ranking.tracks import groups, on_text
from leaderboard.serving.models import models_table
from leaderboard.serving.runs import runs_table
from leaderboard.studies.ablation import ablate
from leaderboard.studies.influence import influence

MOST_KEPT = 64  # answers to what visitors choose


class Board:
    """One state of the run logs. Cheap to make; tables and fits are made when first asked for."""

    def __init__(self, logs: Logs):
        require(logs.frame, NEEDED, "board")
        self.logs = logs
        self._tables = Once()
        self._answers = Once(MOST_KEPT)
        self._budgets = Once(MOST_KEPT)
        self._texts = Once(MOST_KEPT)

    def ready(self) -> "Board":
        """Work out what visitors ask first, so that none of them waits; what has no answer is passed over."""
        for key, _ in self.groups:
            with suppress(P2Error):
                self.predictor(key["family"], key["method"], eval_data=key["eval_data"], objective=key["objective"])
        with suppress(P2Error):
            _ = self.wanted
        _ = self.ranking, self.runs, self.models
        return self

    def told_of(self, logs: Logs) -> "Board":
        """This board and its answers for logs of the same rows that differ in what is said of them."""
        same = copy(self)
        same.logs = logs
        return same

    @property
    def usable(self) -> bool:
        """Whether a run can be fitted at all: something was pruned, and trained beyond the warm-up."""
        return bool(self.groups)

    @property
    def frame(self) -> pd.DataFrame:
        """All rows of all good runs."""
        return self.logs.frame

    @cached_property
    def groups(self) -> list[tuple[dict[str, str], pd.DataFrame]]:
        """The groups that share a fit, by name, with their usable rows."""
        return groups(usable(self.frame))

    @cached_property
    def _heads(self) -> pd.DataFrame:
        """A usable row for each run and group: enough to tell which group is meant."""
        return usable(self.frame).drop_duplicates(["run_id", *GROUP, *(name for name in WORDS if name in self.frame)])

    @cached_property
    def _protocols(self) -> dict[str, str]:
        """How each run that can be fitted was measured, by its name; empty where its text was measured in one way."""
        rows = usable(self.frame)
        return dict(zip(_names(rows), protocol(rows), strict=True))

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run, newest first (runs.py)."""
        return self._tables.get("runs", lambda: runs_table(self.frame))

    @property
    def models(self) -> pd.DataFrame:
        """The published models (models.py)."""
        return self._tables.get("models", lambda: models_table(self.frame))

    @property
    def ranking(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The laws in order, and the cells behind (rank.py, cells.py); both empty where nothing can be fitted."""

        def make() -> tuple[pd.DataFrame, pd.DataFrame]:
            cells = score_cells(self.frame) if self.usable else pd.DataFrame(columns=[*GROUP, *CELL])
            return rank(self.frame, cells=cells), cells

        return self._tables.get("ranking", make)

    @property
    def floor(self) -> dict[str, float]:
        """ASD and slope difference per doubling between seeds of one run."""
        return self._tables.get("floor", lambda: noise_floor(self.frame))

    @property
    def ablation(self) -> pd.DataFrame:
        """P² without each of its inputs (ablation.py)."""
        return self._tables.get("ablation", lambda: ablate(self.frame))

    @property
    def wanted(self) -> pd.DataFrame:
        """The most telling next runs (wanted.py). Raises P2Error where nothing can be fitted."""
        return self._tables.get("wanted", lambda: wanted(self.frame))

    @property
    def influence(self) -> pd.DataFrame:
        """What the standard budget of each group hangs on (influence.py)."""
        return self._tables.get("influence", lambda: influence(self.frame))

    @property
    def texts(self) -> list[str]:
        """Held-out texts, the one with most runs first: losses compare only on one of them."""
        return [str(name) for name in self.runs["eval_data"].value_counts().index]

    def bases(self, eval_data: str) -> list[Base]:
        """Base models of one held-out text by family and size, then the known others; an l0 that nobody measured is
        read off the family's power law where it has two sizes, else None.
        """

        def make() -> list[Base]:
            measured = measured_bases(self.frame[(self.frame["eval_data"] == eval_data).to_numpy()])
            names = {base.name for base in measured}
            every = measured + [base for base in BASES.values() if base.name not in names]
            with_l0 = {base.name: base for base in with_losses(every)}
            return [with_l0.get(base.name, base) for base in every]

        return self._answers.get(("bases", eval_data), make)

    def predictor(
        self,
        family: str,
        method: str,
        *,
        eval_data: str | None = None,
        objective: str | None = None,
        law: str | None = None,
        l_pruned_known: bool = False,
    ) -> Mixture:
        """The fitted law that answers about a family and method, with its resamples (recommend.py).

        Whoever asks for the same group shares one, whether it is named or found; so do all families without runs.
        """
        asked = (family, method, eval_data, objective)
        text, group = self._texts.get(asked, lambda: same_text(self._heads, *asked))
        known = family if family in set(text["family"]) else None

        def make() -> Mixture:
            found = predictor(
                self.frame, family=family, method=method, eval_data=eval_data, objective=objective, law=law,
                l_pruned_known=l_pruned_known,
            )  # fmt: skip
            _ = found.has_interval and found.resamples
            return found

        found = self._answers.get((known, method, *group.values(), law, l_pruned_known), make)
        return found if found.group["family"] == family else found.named(family)

    def budget(
        self,
        question: Question,
        *,
        eval_data: str | None = None,
        objective: str | None = None,
        law: str | None = None,
        gpu: str | None = None,
        price: float | None = None,
    ) -> tuple[Budget, Mixture]:
        """How many tokens, and the predictor that said so."""

        def make() -> tuple[Budget, Mixture]:
            fitted = self.predictor(
                question.family, question.method, eval_data=eval_data, objective=objective, law=law,
                l_pruned_known=question.l_pruned is not None,
            )  # fmt: skip
            return answer(fitted, question, gpu, price), fitted

        return self._budgets.get((question, eval_data, objective, law, gpu, price), make)

    def rivals(
        self,
        question: Question,
        *,
        eval_data: str,
        base: Base | None = None,
        gpu: str | None = None,
        price: float | None = None,
    ) -> pd.DataFrame:
        """Every way to the deployed size of `question` after the tokens of its budget, unpruned bases among them, its
        own way as the budget answers it (rivals.py). `base` is the model that it is about, None for one unknown here.
        """
        budget, fitted = self.budget(question, eval_data=eval_data, gpu=gpu, price=price)
        tokens = budget.tokens or float(self.frame["tokens"].max())
        near = near_bases(self.bases(eval_data), question, "" if base is None else base.name)
        size = deployed_size(question)

        def make() -> pd.DataFrame:
            return plan(
                self.frame, deployed=size, tokens=tokens, family=question.family, bases=near, eval_data=eval_data
            )  # fmt: skip

        key = ("plan", round(size), round(tokens), question.family, tuple(near), eval_data)
        rows = with_own(self._answers.get(key, make), question, fitted, tokens, base)
        return priced(rows, question, gpu, price)

    def fits(self, law: str) -> list[tuple[dict[str, str], Fit | FitError]]:
        """A law fitted in every group, or why it cannot be."""

        def one(key: dict[str, str], text: pd.DataFrame) -> Fit | FitError:
            try:
                return fit_new_model(LAWS[law], text, key["family"], key["method"]).fit
            except FitError as error:
                return error

        def make() -> list[tuple[dict[str, str], Fit | FitError]]:
            rows = usable(self.frame)
            return [(key, one(key, on_text(rows, key))) for key, _ in self.groups]

        return self._tables.get(("fits", law), make)

    def predicted(self, rows: pd.DataFrame, law: str) -> pd.DataFrame:
        """Log rows of any groups with what a law fitted to all runs says of them: columns predicted, excess (measured
        less l0), predicted_excess and residual (measured less predicted), in nats; NaN where the law cannot say.
        """
        said = pd.Series(float("nan"), index=rows.index)
        names = {name: rows[name].astype(str) for name in GROUP}
        ways = _names(rows).map(self._protocols)
        for key, found in self.fits(law):
            own = pd.Series(origin(rows) == key.get(ORIGIN, ""), index=rows.index)
            for name in GROUP:
                own &= names[name] == key[name]
            own &= ways == key.get(PROTOCOL, "")
            if isinstance(found, Fit) and own.any():
                said[own] = found.predict(rows[own])
        return rows.assign(
            predicted=said,
            excess=rows["loss"] - rows["l0"],
            predicted_excess=said - rows["l0"],
            residual=rows["loss"] - said,
        )

    def run(self, name: str) -> pd.DataFrame:
        """The rows of the run `contributor/run_id`, by tokens; of a bare run_id, the first contributor's. Empty where
        there is none of that name: two people may have made the same run.
        """
        contributor, _, run_id = name.rpartition("/")
        own = self.frame[(self.frame["run_id"] == run_id).to_numpy()]
        own = own[(own["contributor"] == contributor).to_numpy()] if contributor else own
        first = curve_numbers(own) == 0 if len(own) else slice(0)
        return own[first].sort_values("tokens", ignore_index=True)


def _names(rows: pd.DataFrame) -> pd.Series:
    """The name of each row's run, contributor/run_id."""
    names: pd.Series = rows["contributor"].astype(str) + "/" + rows["run_id"].astype(str)
    return names
