"""The law engine against its targets and its peers, in one run: `make bench` or `python tests/bench/bench_engine.py`.

FITS=DIR holds the published fits (epoch/svg_extracted_data.csv, gadre104/models104.csv); without it those rows say
"not run". Times of one thread are CPU seconds, the median of five after a warm-up; the ten thousand runs are told in
wall seconds, with CPU seconds beside them, which say how busy the machine was.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import minimize

from leaderboard import LAWS, FitError, Law, Linear, Nonlinear, fit, rank, score_cells
from leaderboard.fitting.compressed import compress
from leaderboard.fitting.resample import resample
from leaderboard.laws.law import Inputs
from leaderboard.logs.contract import GROUP, build_table, usable, write_log
from leaderboard.logs.load import load_logs
from leaderboard.ranking.cells import NEEDED, NOT_TESTABLE
from leaderboard.ranking.tracks import HELD_OUT, groups

PLANTED = {"alpha": 0.4, "beta": 0.35, "gamma": -1.6, "delta": 0.3, "N_C": 0.05, "D_C": 0.3, "E": 0.2}
SIZES, RATES = np.array([0.5e9, 1.2e9, 3e9, 8e9]), np.array([0.15, 0.25, 0.35, 0.45])
LOSSES = np.array([2.9, 2.6, 2.4, 2.2])


def clock(work: Callable[[], object], times: int = 5) -> float:
    """Median CPU seconds of `work`, which is of one thread, after one warm-up."""
    work()
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def row(what: str, measured: str, target: str = "") -> None:
    """One line of the table."""
    print(f"| {what} | {measured} | {target} |", flush=True)


def simulate(runs: int, evaluations: int, seed: int = 0) -> pd.DataFrame:
    """P² curves with a run effect of 0.004 and noise of 0.002 nats, as law inputs."""
    rng = np.random.default_rng(seed)
    size, rate = rng.integers(0, 4, runs), rng.choice(RATES, runs)
    tokens = np.geomspace(1e7, 1e9, evaluations).round() * rng.choice([1.0, 0.5, 2.0], runs)[:, None]
    frame = pd.DataFrame(
        {
            "run_id": np.repeat([f"r{i}" for i in range(runs)], evaluations),
            "base_model": np.repeat(SIZES[size].astype(str), evaluations),
            "n0": np.repeat(SIZES[size], evaluations),
            "rate": np.repeat(rate, evaluations),
            "l0": np.repeat(LOSSES[size], evaluations),
            "tokens": tokens.ravel(),
        }
    )
    noise = np.repeat(rng.normal(0, 0.004, runs), evaluations) + rng.normal(0, 0.002, len(frame))
    loss = LAWS["p2"].value(PLANTED, LAWS["p2"].read(frame)) + noise
    return frame.assign(loss=loss, n_pruned=frame["n0"] * (1 - frame["rate"]), l_pruned=frame["l0"] + 2 * frame["rate"])


def epoch(folder: Path) -> None:
    """Epoch's 240 points: the optimum, and a published-style L-BFGS grid at a tenth of its starts."""
    points = pd.read_csv(folder / "epoch" / "svg_extracted_data.csv").sort_values("loss").head(240)
    frame = pd.DataFrame({"n_pruned": points["Model Size"], "loss": points["loss"]})
    frame["tokens"] = points["Training FLOP"] / (6 * frame["n_pruned"])

    def ours() -> float:
        return fit(LAWS["chinchilla"], frame, loss="log-huber", delta=1e-3).objective

    seconds = clock(ours)
    row("Epoch's 240 points, log-Huber 1e-3: objective", f"{ours():.14f}", "≤ 0.0010182740179")
    began = time.process_time()
    best = _lbfgs_grid(frame, 450)
    grid = 10 * (time.process_time() - began)
    row("the same: time", f"{seconds:.3f} s", "≤ 0.06 s")
    row(f"the same: 4,500-start L-BFGS (450 run, x 10; reaches {best:.10f})", f"{grid:.0f} s", "")
    row("the same: ratio", f"1/{grid / seconds:.0f}", "≤ 1/1000")


def _lbfgs_grid(frame: pd.DataFrame, starts: int) -> float:
    """Best objective of L-BFGS from a grid over (a, b, e, alpha, beta), the log-sum-exp form of arXiv:2203.15556."""
    n, d, y = (np.log(frame[c].to_numpy(dtype=float)) for c in ("n_pruned", "tokens", "loss"))

    def cost(p: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([p[0] - p[3] * n, p[1] - p[4] * d, np.full_like(n, p[2])])
        top = terms.max(axis=0)
        share = np.exp(terms - top)
        total = share.sum(axis=0)
        r = np.log(total) + top - y
        share = share / total
        slope = np.clip(r, -1e-3, 1e-3)
        value = np.where(abs(r) <= 1e-3, r * r / 2, 1e-3 * (abs(r) - 5e-4)).sum()
        grads = [share[0], share[1], share[2], -share[0] * n, -share[1] * d]
        return float(value), np.array([(slope * g).sum() for g in grads])

    grid = [
        (a, b, e, alpha, beta)
        for a in (0, 5, 10, 15, 20, 25)
        for b in (0, 5, 10, 15, 20, 25)
        for e in (-1, -0.5, 0, 0.5, 1)
        for alpha in (0, 0.5, 1, 1.5, 2)
        for beta in (0, 0.5, 1, 1.5, 2)
    ]
    picked = [grid[i] for i in np.linspace(0, len(grid) - 1, starts).astype(int)]
    return min(minimize(cost, start, jac=True, method="L-BFGS-B").fun for start in picked)


def _shared_basis(theta: np.ndarray, x: Inputs) -> np.ndarray:
    powers = [np.exp(-theta[0] * x.log(name)) for name in ("n_pruned", "tokens")]
    return np.stack([*powers, np.ones_like(powers[0])])


def _shared_jacobian(theta: np.ndarray, x: Inputs) -> np.ndarray:
    n, d, one = _shared_basis(theta, x)
    return np.stack([-x.log("n_pruned") * n, -x.log("tokens") * d, 0 * one])[None]


GADRE = Law(
    name="gadre",
    latex=r"E + A/N^\eta + B/D^\eta",
    source="arXiv:2403.08540, eq. 4, with D = M N",
    inputs=("n_pruned", "tokens"),
    linear=(Linear("A"), Linear("B"), Linear("E")),
    nonlinear=(Nonlinear("eta", (0.01, 2), (0.1, 0.3, 0.6)),),
    basis=_shared_basis,
    jacobian=_shared_jacobian,
)


def gadre(folder: Path) -> None:
    """Gadre's five small models predict the two large ones (RedPajama, C4 validation)."""
    models = pd.read_csv(folder / "gadre104" / "models104.csv").query("dataset == 'rpj'")
    models = models.rename(columns={"N": "n_pruned", "D": "tokens", "loss_c4_val": "loss"})
    small = models[
        ((models.cc_mult == 1) & (models.n_pruned < 1e9)) | ((models.cc_mult == 16) & (models.n_pruned < 2e7))
    ]
    large = models[
        models.name.str.contains("open_lm_7b") | (models.name.str.contains("open_lm_1b") & (models.cc_mult > 1))
    ]
    error = abs(fit(GADRE, small).predict(large) / large["loss"] - 1)
    row("Gadre's five small models -> the two large ones", ", ".join(f"{e:.4%}" for e in error), ".7103 %, .7320 %")


def engine() -> None:
    """One group, resamples, long curves."""
    frame = simulate(18, 100)
    fitted = fit(LAWS["p2"], frame)
    row("P² on 18 runs x 100 evaluations", f"{clock(lambda: fit(LAWS['p2'], frame)):.3f} s", "≤ 0.06 s")
    for method in ("wild", "runs"):
        seconds = clock(lambda method=method: resample(fitted, frame, method, 1000), 3)
        row(f"the same + 1,000 whole-run resamples with refit ({method})", f"{seconds:.2f} s", "≤ 1.0 s")
    times = {}
    for evaluations in (200, 2000):
        many = simulate(1000, evaluations)
        began = time.process_time()
        curves = compress(many, LAWS["p2"].inputs)
        sums = time.process_time() - began
        times[evaluations] = clock(lambda many=many, curves=curves: fit(LAWS["p2"], many, curves=curves), 3)
        row(f"1,000 runs x {evaluations}: the pass that builds the sums ({len(curves.frame):,} nodes)", f"{sums:.2f} s")
    row("fit time from 200 to 2,000 evaluations a run, the pass apart", f"x {times[2000] / times[200]:.2f}", "≤ x 1.3")


def crowd(runs: int = 10_000, evaluations: int = 200) -> None:
    """Ten thousand logs: read and validate, fit all laws, rank with intervals; each stage in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for i, (_, rows) in enumerate(simulate(runs, evaluations).groupby("run_id", sort=False)):
            write_log(Path(folder) / "logs" / f"{i}.parquet", _log(rows, i))
        began = time.perf_counter(), time.process_time()
        for path in Path(folder, "logs").glob("*.parquet"):
            pq.read_table(path)
        peer = time.perf_counter() - began[0], time.process_time() - began[1]
        row(f"{runs:,} files x {evaluations}, peer: pyarrow reads each, judges none", _seconds(*peer))
        for stage in STAGES:
            env = os.environ | {"P2ZOO_CACHE": str(Path(folder) / "cache")}
            subprocess.run([sys.executable, __file__, stage, f"{folder}/logs"], env=env, check=True)


def _seconds(wall: float, cpu: float) -> str:
    return f"{wall:.1f} s ({cpu:.1f} s of CPU)"


@contextmanager
def _timed(what: str, target: str) -> Iterator[None]:
    began = time.perf_counter(), time.process_time()
    yield
    row(what, _seconds(time.perf_counter() - began[0], time.process_time() - began[1]), target)


def _memory(what: str) -> None:
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss would count the parent's
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    row(f"  {what}: peak memory", f"{peak / 1e6:.2f} GB", "≤ 2 GB")


def read_crowd(folder: str) -> None:
    """Every file read and judged."""
    with _timed("  read + validate, file by file", "≤ 12 s"):
        logs = load_logs(folder)
    row("  runs read; files quarantined", f"{logs.frame['run_id'].nunique():,}; {len(logs.quarantined)}")
    _memory("reading file by file")


def use_crowd(folder: str) -> None:
    """The same from the one kept file, then fits and ranks."""
    with _timed("  read + validate, from the one file kept by content hash", "≤ 12 s"):
        logs = load_logs(folder)
    frame = logs.frame[[*NEEDED, *GROUP, "contributor", "warmup_tokens", "l0", "l_pruned", "n_pruned"]]
    del logs
    failed = []
    with _timed(f"  fit of all {len(LAWS)} laws in every group", "≤ 3 s"):
        for _, group in groups(usable(frame)):
            curves = compress(group).designs()
            for law in LAWS.values():
                try:
                    fit(law, group, curves=curves)
                except FitError as error:
                    failed.append(f"{law.name}: {error.code}")
    row("  laws that failed", ", ".join(failed) or "none", "none")
    with _timed("  rank with intervals", "≤ 10 s"):
        rank(frame)
    _memory("reading the kept file, fits and rank")


STAGES = {"read": read_crowd, "use": use_crowd}


def _log(rows: pd.DataFrame, i: int) -> pa.Table:
    first = rows.iloc[0]
    n_pruned = round(first["n0"] * (1 - first["rate"]))
    run = {
        "contributor": "bench", "base_model": first["base_model"], "family": "llama-3", "method": "depth",
        "importance": "block-influence", "rate_requested": first["rate"], "rate": 1 - n_pruned / first["n0"],
        "rate_nonembedding": first["rate"], "n0": int(first["n0"]), "n0_nonembedding": int(first["n0"] * 0.9),
        "n_pruned": n_pruned, "objective": "clm", "train_data": "bench", "seq_len": 512, "batch_tokens": 1,
        "lr_peak": 2e-4, "schedule": "constant", "optimizer": "adamw", "precision": "fp32", "packing": "bfd_split",
        "warmup_tokens": 0, "tokens_planned": int(rows["tokens"].max()), "seed": i, "eval_data": "bench",
        "vocab_size": 128256, "l0": first["l0"], "l_pruned": first["l_pruned"], "created_at": pd.Timestamp.now("UTC"),
    }  # fmt: skip
    one = build_table(run, [{"tokens": 0, "loss": first["l_pruned"]}])
    table = one.take(np.zeros(len(rows) + 1, dtype=int))
    curve = {"tokens": [0, *rows["tokens"].astype(int)], "loss": [first["l_pruned"], *rows["loss"]]}
    for name, values in curve.items():
        place = one.schema.get_field_index(name)
        table = table.set_column(place, one.schema.field(place), pa.array(values, one.schema.field(place).type))
    return table


def seed_errors() -> None:
    """Held-out RMSE on the seed by track, mean over groups, the recommended law first."""
    cells = score_cells(load_logs().frame)
    best = rank(load_logs().frame, cells=cells).set_index("law")["recommended"].idxmax()
    tested = cells[cells["track"].isin(HELD_OUT) & (cells["status"] != NOT_TESTABLE)]
    table = tested.pivot_table(index="law", columns="track", values="rmse", dropna=False)
    for law in [best, *(name for name in LAWS if name != best)]:
        errors = ", ".join(f"{track} {table.loc[law, track]:.4f}" for track in HELD_OUT)
        row(f"seed, held-out RMSE in nats: `{law}`{' (recommended)' * (law == best)}", errors)


def main() -> None:
    """Print the table."""
    print("| what | measured | target |\n|---|---|---|")
    published = Path(os.environ.get("FITS", "missing"))
    for bench in (epoch, gadre):
        if published.is_dir():
            bench(published)
        else:
            row(bench.__doc__.splitlines()[0], "not run: FITS names no folder")
    engine()
    seed_errors()
    crowd(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in STAGES:
        STAGES[sys.argv[1]](sys.argv[2])
    else:
        main()
