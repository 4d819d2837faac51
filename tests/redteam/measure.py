"""What hostile files and poison do: crash, hang, memory, verdict, and how far a standard budget moves.

`python -m tests.redteam.measure [--files 2000] [--sets 66]` prints the figures that leaderboard/README.md is about.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from leaderboard import child, load_logs
from leaderboard.errors import P2Error
from leaderboard.logs.contract import GROUP, usable, write_log
from leaderboard.logs.findings import CLEAN, UNUSUAL, WRONG, printable
from leaderboard.logs.origin import standard
from leaderboard.planning.budget import Question
from leaderboard.planning.recommend import predictor
from leaderboard.ranking.tracks import groups
from leaderboard.serving.judge import judged
from leaderboard.studies.influence import question_of, tokens_of
from tests.redteam.poison import WHO, Poison, sets
from tests.zoo.review import hostile
from zoo.review.effects import effects

HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Moved:
    """What one set does: its verdict, and by group how many times more or fewer tokens are answered after it merged.

    `own` are groups that the set sends runs to.
    """

    name: str
    logs: int
    verdict: str
    own: dict[str, float]
    others: dict[str, float]


def poisoned(poisons: Iterable[Poison]) -> Iterator[Moved]:
    """Judge each set beside the bundled runs as a pull request is; what merges by itself is merged, and every standard
    budget is answered again."""
    known = load_logs().frame
    asked = {tuple(key[name] for name in GROUP): question_of(rows) for key, rows in groups(standard(usable(known)))}
    before: dict[tuple[str, ...], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, poison in enumerate(poisons):
            paths = [Path(folder) / f"{number}-{i}.parquet" for i in range(len(poison.tables))]
            for path, table in zip(paths, poison.tables, strict=True):
                write_log(path, table)
            yield _merged(poison, paths, known, asked, before)


def _merged(
    poison: Poison,
    paths: list[Path],
    known: pd.DataFrame,
    asked: dict[tuple[str, ...], Question],
    before: dict[tuple[str, ...], float],
) -> Moved:
    reports = judged(paths, known, [path.name for path in paths])
    worst = max((r.verdict for r in reports), key=["clean", "unusual", "wrong"].index)
    if worst != CLEAN:
        return Moved(poison.name, len(paths), worst, {}, {})
    new = pd.concat([pq.read_table(path).to_pandas() for path in paths], ignore_index=True)
    frame = pd.concat([known.astype(dict.fromkeys(GROUP, object)), new], ignore_index=True)
    author = str(new["contributor"].iloc[0])
    if any(effect.finding is not None for effect in effects(known, frame, author)):
        return Moved(poison.name, len(paths), UNUSUAL, {}, {})
    before |= {} if before else _budgets(known, asked)
    after = _budgets(frame, asked)
    touched = set(new[list(GROUP)].astype(str).itertuples(index=False, name=None))
    change = {key: _times(before[key], after[key]) for key in asked}
    named = {key: f"{key[0]} {key[1]}" for key in asked}
    own = {named[key]: times for key, times in change.items() if key in touched}
    return Moved(poison.name, len(paths), worst, own, {named[k]: t for k, t in change.items() if k not in touched})


def _budgets(frame: pd.DataFrame, asked: dict[tuple[str, ...], Question]) -> dict[tuple[str, ...], float]:
    """Tokens of each group's standard budget, as `p2zoo budget` answers it; NaN where there is none."""
    told = {}
    for key, question in asked.items():
        try:
            found = predictor(frame, **dict(zip(GROUP, key, strict=True)), l_pruned_known=question.l_pruned is not None)
            told[key] = tokens_of(found, question)
        except P2Error:
            told[key] = float("nan")
    return told


def _times(before: float, after: float) -> float:
    """How many times more or fewer, 1 or more; infinite where an answer came or went."""
    if before != before or after != after:
        return 1.0 if before != before and after != after else float("inf")
    return max(before / after, after / before)


def stormed(count: int, seed: int = 3) -> dict[str, object]:
    """Judge `count` hostile files in a process of its own; what was told, what ended children, memory, the slowest."""
    code = "import sys; from tests.redteam.measure import judge_files; judge_files(int(sys.argv[1]), int(sys.argv[2]))"
    env = os.environ | {"PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(count), str(seed)],
        cwd=HERE,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=3_600,
    )
    if done.returncode:
        raise AssertionError(f"the process that judges ended with {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def judge_files(count: int, seed: int) -> None:
    """Print, as JSON, how many files were judged, by verdict, which passed, and the cost."""
    verdicts: Counter[str] = Counter()
    passed, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = hostile.write(Path(folder), count, seed)
        known = load_logs().frame
        for start in range(0, count, 50):
            part, begun = paths[start : start + 50], time.monotonic()
            for report in judged(part, known):
                verdicts[report.verdict] += 1
                passed += [printable(Path(report.path).name)] if report.verdict == CLEAN else []
            slowest = max(slowest, time.monotonic() - begun)
        breaches = [name for name in passed if _breach(Path(folder) / name)]
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    told = {"files": count, "verdicts": dict(verdicts), "broken_but_clean": breaches, "peak": peak}
    print(json.dumps(told | {"died": child.health()["died"], "slowest_50_s": round(slowest, 1)}))


def _breach(path: Path) -> str | None:
    from tests.zoo.review.test_hostile import breach

    return breach(path)


def summary(moved: list[Moved]) -> dict[str, float]:
    """The figures that the targets are about."""
    one = [m for m in moved if m.logs == 1]
    many = [m for m in moved if m.logs > 1]
    return {
        "sets": len(moved),
        "wrong": sum(m.verdict == WRONG for m in moved),
        "wait for a person": sum(m.verdict not in (CLEAN, WRONG) for m in moved),
        "merged": sum(m.verdict == CLEAN for m in moved),
        "one log, another group, times": _worst(one, "others"),
        "one log, its own group, times": _worst(one, "own"),
        "one contributor, any group, times": max(_worst(many, "own"), _worst(many, "others")),
    }


def _worst(moved: list[Moved], which: str) -> float:
    return round(max((t for m in moved for t in getattr(m, which).values()), default=1.0), 3)


def main() -> None:
    """Print what each set did, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--sets", type=int, default=66)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moved = []
    for m in poisoned(sets(options.sets, options.seed)):
        far = ", ".join(f"{name} {times:.2f}" for name, times in {**m.others, **m.own}.items() if times > 1.05)
        print(f"{m.name}: {m.logs} logs by {WHO}, {m.verdict}{': ' + far if far else ''}", flush=True)
        moved.append(m)
    print(json.dumps(summary(moved), indent=2))
    print(json.dumps(stormed(options.files), indent=2))


if __name__ == "__main__":
    main()
