"""What a set of runs says, gathered for one page: runs, laws ranked where the data can test them, the next run.

`gather` makes the facts from run logs and touches no network; `as_text` says them in a terminal, report_page.py
draws them. Losses are nats per token; hours are those of training, evaluations and saves not counted.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboard import words
from leaderboard.errors import P2Error
from leaderboard.logs.controls import with_controls
from leaderboard.logs.load import join_logs, load_logs
from leaderboard.logs.methods import CONTROL
from leaderboard.planning.recipe import recipe_differences
from leaderboard.planning.wanted import offers, wanted
from leaderboard.ranking.cells import FAILED, NOT_TESTABLE, score_cells
from leaderboard.ranking.rank import rank
from leaderboard.ranking.tracks import HELD_OUT, groups
from leaderboard.serving.models import gpus
from leaderboard.studies.noise_shift import Shift, shift
from zoo.run.folder import read_state

LEAST_CLEAN = 3  # runs from which a law is fitted to compare noisy ones with
RUN_COLUMNS = (
    "name", "base_model", "method", "rate", "l0", "l_pruned", "loss", "recovered", "over_control", "tokens", "hours",
    "devices", "hardware", "n0", "family", "eval_data", "run_id",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """`runs` has a row a run (RUN_COLUMNS), `laws` a row a law, best first; `notes` say what is missing and why."""

    title: str
    frame: pd.DataFrame
    runs: pd.DataFrame
    laws: pd.DataFrame
    next_run: dict[str, Any] | None
    failed: dict[str, str]  # name of a run -> why there is no log of it
    notes: tuple[str, ...]
    noise: tuple["Noise", ...] = ()

    @property
    def clean(self) -> pd.DataFrame:
        """The rows of runs on text as it is."""
        noisy = {run for level in self.noise for run in level.runs}
        return self.frame[~self.frame["run_id"].astype(str).isin(noisy)]

    @property
    def law(self) -> str:
        """The law to draw through the curves: the one that predicted best here, else the usual one."""
        best = self.laws[self.laws["rank"].notna()]
        return str(best["law"].iloc[0]) if len(best) else "damage-drift"

    def as_dict(self) -> dict[str, Any]:
        """JSON form, without the curves."""
        runs = self.runs.astype(object).where(self.runs.notna(), None).to_dict("records")
        laws = self.laws.astype(object).where(self.laws.notna(), None).to_dict("records")
        return {
            "title": self.title, "runs": runs, "laws": laws, "next_run": self.next_run, "failed": self.failed,
            "notes": list(self.notes), "noise": [level.as_dict() for level in self.noise],
        }  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """Runs of one group on text of which a share of the lines changed places, against the law of the clean ones."""

    share: float
    group: dict[str, str]
    runs: tuple[str, ...]  # run_ids
    shift: Shift | None
    why: str = ""  # there is none

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"share": self.share, "group": self.group, "shift": self.shift and asdict(self.shift), "why": self.why}

    def words(self) -> str:
        """What the comparison says."""
        if self.shift is None:
            return self.why
        shift = self.shift
        verdict = {
            True: "the clean law predicts them as far as these runs can tell",
            False: "the clean law does not predict them",
            None: f"{shift.noisy_runs} runs are too few for a verdict",
        }[shift.predicted]
        return (
            f"{verdict}: gap {shift.gap.value:+.4f} nats, excess x {shift.scale.value:.3f} and "
            f"{shift.offset.value:+.4f} (law {shift.law}, RMSE {shift.rmse_noisy:.4f}, "
            f"{shift.rmse_shifted:.4f} once shifted, {shift.rmse_clean:.4f} on clean runs)"
        )


def of_folders(folders: Iterable[Path], title: str, failed: Mapping[str, str] | None = None) -> Report:
    """The report of finished run folders, runs named as their recipes. P2Error where none has a log."""
    logs, names, noise = [], {}, {}
    for folder in folders:
        state = read_state(folder)
        names[state["run_id"]] = state["name"]
        if state.get("noise"):
            noise[state["run_id"]] = float(state["noise"])
        logs.append(load_logs(folder))
    if not logs:
        raise P2Error(f"{title}: no finished run, so there is nothing to report.")
    frame, repeats = join_logs(logs)
    report = gather(frame, title, names, failed, noise)
    left_out = tuple(f"Left out: {one.path}: {one.findings[0]}" for one in repeats)
    return replace(report, notes=(*left_out, *report.notes))


def gather(
    frame: pd.DataFrame,
    title: str,
    names: Mapping[str, str] | None = None,
    failed: Mapping[str, str] | None = None,
    noise: Mapping[str, float] | None = None,
) -> Report:
    """The report of a run-log frame; `names` by run_id, runs without one go by their run_id.

    `noise` is the share of lines that changed places, by run_id; laws are fitted to the other runs.
    """
    runs = run_table(frame, names or {})
    shares = frame["run_id"].astype(str).map(dict(noise or {}))
    clean = frame[shares.isna()]
    laws, notes = _laws(clean)
    pruned = runs[runs["method"] != CONTROL]
    if alone := int(pruned["over_control"].isna().sum()):
        notes.append(
            f"{alone} of {len(pruned)} pruned runs have no control (the same base trained alike, method none): their "
            "excess over l0 is not what pruning cost."
        )
    notes += recipe_differences(clean)
    try:
        next_run = next(iter(offers(wanted(clean))), None)
    except P2Error as error:
        next_run = None
        notes.append(f"The next most wanted run cannot be told: {error}")
    report = Report(title, frame, runs, laws, next_run, dict(failed or {}), tuple(notes))
    return replace(report, noise=tuple(_noise(clean, frame.assign(share=shares), report.law)))


def _noise(clean: pd.DataFrame, frame: pd.DataFrame, law: str) -> list[Noise]:
    """Every group and share of noise against the law of the group's clean runs."""
    noises = []
    known = {tuple(key.values()): rows for key, rows in groups(clean)}
    for share in sorted(frame["share"].dropna().unique().tolist()):
        for key, rows in groups(frame[frame["share"] == share]):
            own = known.get(tuple(key.values()), clean.iloc[:0])
            runs = tuple(sorted(set(rows["run_id"].astype(str))))
            if (there := own["run_id"].nunique()) < LEAST_CLEAN:
                why = f"{there} clean runs of the same family, method and text; a law needs {LEAST_CLEAN} or more"
                noises.append(Noise(share, key, runs, None, why))
                continue
            try:
                noises.append(Noise(share, key, runs, shift(own, rows, law)))
            except P2Error as error:
                noises.append(Noise(share, key, runs, None, str(error)))
    return noises


def run_table(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """A row a run: its losses, the share of the damage it won back, tokens and device hours."""
    frame = with_controls(frame)
    frame = frame.assign(over_control=frame["loss"] - frame["control_loss"])
    last = frame.sort_values("tokens").drop_duplicates(["run_id", "contributor"], keep="last")
    hardware = last["hardware"].astype(object)
    devices = hardware.map(gpus).astype(float)
    damage = (last["l_pruned"] - last["l0"]).where(lambda d: d > 0)
    table = last.assign(
        name=[names.get(run, run) for run in last["run_id"].astype(str)],
        recovered=(last["l_pruned"] - last["loss"]) / damage,
        hours=last["wall_s"].where(last["wall_s"] > 0) / 3600 * devices.fillna(1),
        devices=devices,
        hardware=hardware,
    )
    text = ["base_model", "method", "family", "eval_data", "run_id"]
    table = table.assign(**{column: table[column].astype(str) for column in text})
    return table.sort_values(["family", "n0", "method", "rate", "name"])[list(RUN_COLUMNS)].reset_index(drop=True)


def _laws(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Laws in rank order with their error in sample, and what these runs cannot test."""
    columns = ["law", "rank", "score", "rmse_heldout", "rmse_fit", "n_cells"]
    try:
        cells = score_cells(frame)
    except P2Error as error:
        return pd.DataFrame(columns=columns), [f"No law was fitted: {error}"]
    table = rank(frame, cells=cells)
    fitted = cells[(cells["track"] == "fit") & ~cells["status"].isin([FAILED, NOT_TESTABLE])]
    table["rmse_fit"] = table["law"].map(fitted.groupby("law")["rmse"].mean())
    tested = cells[cells["status"] != NOT_TESTABLE]
    needs = {
        "tokens": "a curve of ten evaluations or more after the warm-up",
        "size": "base models of three sizes in one family, method and text",
        "rate": "a base model pruned at two rates or more in one method",
    }
    missing = [track for track in HELD_OUT if track not in set(tested["track"])]
    notes = [f"Nothing held out by {track}: that needs {needs[track]}." for track in missing]
    return table[columns].sort_values(["rank", "rmse_fit"], na_position="last", ignore_index=True), notes


def device(runs: pd.DataFrame) -> str:
    """What the hours are counted in."""
    return "CPU-hours" if runs["devices"].isna().all() else "GPU-hours"


def as_text(report: Report) -> str:
    """The report in a few lines for a terminal."""
    lines = [f"{report.title}: {len(report.runs)} runs, {len(report.failed)} failed"]
    width = max([len(name) for name in report.runs["name"]], default=0)
    unit = device(report.runs)
    for row in report.runs.to_dict("records"):
        won = "" if math.isnan(row["recovered"]) else f"  {row['recovered']:>4.0%} of the damage won back"
        won += "" if math.isnan(row["over_control"]) else f"  {row['over_control']:+.3f} over its control"
        hours = "" if math.isnan(row["hours"]) else f"  {row['hours']:.3g} {unit}"
        losses = f"{row['l0']:.3f} -> {row['l_pruned']:.3f} -> {row['loss']:.3f}"
        lines.append(f"  {row['name']:{width}s}  {row['rate']:.3f}  {losses}  {row['tokens']:,} tokens{won}{hours}")
    lines += [f"  {name}: failed: {why}" for name, why in report.failed.items()]
    ranked = report.laws[report.laws["rank"].notna()]
    if len(ranked):
        best = ranked[ranked["rank"] == ranked["rank"].min()]["law"]
        lines.append(f"Laws that predict best what was held out: {', '.join(best)}")
    for level in report.noise:
        group = f"{level.group['family']} {level.group['method']}"
        lines.append(f"Noise {level.share:.0%} of lines, {group}, {len(level.runs)} runs: {level.words()}")
    lines += report.notes
    if report.next_run:
        lines.append(f"Next most wanted run: {next_words(report.next_run)}")
    return "\n".join(lines)


def next_words(row: Mapping[str, Any]) -> str:
    """The wanted run in words."""
    narrower = f", and budgets of its family and method {row['narrower']:.0%} narrower" if row["joins"] else ""
    return (
        f"{row['base']}, {row['method']} at rate {row['rate']:.3f}, {row['tokens']:,.0f} tokens: "
        f"{words.time(row['gpu_hours'])} of one H100{narrower}. {' && '.join(row['commands'])}"
    )
