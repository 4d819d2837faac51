"""Most wanted runs: the mathematics against brute force, and the ranking against runs that are made up and added."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, fit
from leaderboard.fitting.resample import resample
from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.planning.bases import Base, measured_bases
from leaderboard.planning.budget import Question, invert
from leaderboard.planning.candidates import group_mixtures
from leaderboard.planning.gpus import gpu_hours
from leaderboard.planning.information import knowledge, slopes, steepness, variances
from leaderboard.planning.wanted import COLUMNS, ladder, standard_questions, wanted

LAW = LAWS["p2-no-nc"]
RUN_SD, ROW_SD = 0.011, 0.007  # as between and within the seed's runs


@pytest.fixture(scope="module")
def rows(seed) -> pd.DataFrame:
    """Usable rows of one family and method, texts as plain strings."""
    own = usable(seed[(seed["family"] == "qwen-2.5") & (seed["method"] == "depth")])
    return own.astype(dict.fromkeys(own.columns[own.dtypes == "category"], str)).reset_index(drop=True)


@pytest.fixture(scope="module")
def mixture(rows):
    """What answers about it: the one law."""
    return group_mixtures(rows, LAW, None, "test")[0]


@pytest.fixture(scope="module")
def group(mixture):
    """The law's fit, lent rows and all."""
    return mixture.members[0]


@pytest.fixture(scope="module")
def table(seed):
    """All candidates of the seed under one law."""
    return wanted(seed, law=LAWS["p2"])


def test_a_row_a_candidate_best_first(table, seed):
    assert list(table.columns) == list(COLUMNS)
    assert table["gain"].is_monotonic_decreasing
    assert (table["gain"] >= 0).all()
    assert table["narrower"].between(0, 1).all()
    assert not table[["family", "method", "n0", "rate", "tokens"]].duplicated().any()
    assert set(zip(table["family"], table["method"], strict=True)) == {
        (f, m) for f in ("llama-3", "qwen-2.5") for m in ("depth", "width", "2:4")
    }


def test_candidates_go_a_step_beyond_the_runs(table, seed):
    own = table[(table["family"] == "llama-3") & (table["method"] == "depth")]
    new = own[own["base_model"] == ""]
    ratio = (33_930_176 / 4_312_192) ** 0.5
    assert set(new["n0"]) == {round(33_930_176 * ratio)}
    assert set(new["l0_from"]) == {"power law"}
    assert new["new"].str.contains("larger base").all()
    highest = seed.loc[(seed["family"] == "llama-3") & (seed["method"] == "depth"), "rate"].max()
    beyond = own[own["new"].str.contains("higher rate")]
    assert set(beyond["rate"]) == {round(1.4 * highest, 3)}
    assert own.loc[own["new"].str.contains("more tokens"), "tokens"].unique() == pytest.approx(3 * 9_994_240)


def test_gpu_hours_are_those_of_the_run(table):
    row = table.iloc[0]
    assert row["gpu_hours"] == gpu_hours(row["tokens"], row["n0"], row["rate"], row["method"], "h100")[0]
    assert row["gain_per_gpu_hour"] == pytest.approx(row["gain"] / row["gpu_hours"])


def test_slopes_are_derivatives(group):
    here = slopes(group.fit, group.rows)
    for i, q in enumerate(LAW.parameters):
        h = 1e-6 * max(1e-2, abs(group.fit.params[q.name]))
        x = LAW.read(group.rows)
        up, down = (LAW.value(group.fit.params | {q.name: group.fit.params[q.name] + s * h}, x) for s in (1, -1))
        np.testing.assert_allclose(here[:, i], (up - down) / (2 * h), rtol=1e-5, atol=1e-8, err_msg=q.name)


def test_information_is_that_of_correlated_noise(group):
    known = knowledge(group, RUN_SD, ROW_SD)
    run = group.rows[curve_numbers(group.rows) == 0]
    j = slopes(group.fit, run) * known.scale
    covariance = ROW_SD**2 * np.eye(len(run)) + RUN_SD**2
    twice = pd.concat([run, group.rows[curve_numbers(group.rows) == 1]])
    other = known.information(twice) - known.information(run)
    np.testing.assert_allclose(other, known.information(twice.iloc[len(run) :]), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(known.information(run), j.T @ np.linalg.inv(covariance) @ j, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("goal", [{}, {"excess": 0.1}, {"gain": 0.02}])
def test_the_budgets_slopes_are_those_of_the_answer(goal, group):
    asked = Question(family="qwen-2.5", method="depth", rate=0.3, n0=13e6, l0=2.86, **goal)
    known = knowledge(group, RUN_SD, ROW_SD)
    tokens = invert(group.fit, asked)[0]
    found = known.miss_slopes(asked, tokens) / steepness(group.fit, asked, tokens)
    for i, q in enumerate(LAW.parameters):
        h = 1e-4 * abs(group.fit.params[q.name])
        answers = [
            np.log(invert(_moved(group.fit, q.name, sign * h), asked)[0] or np.nan) for sign in (1, -1)
        ]  # whole tokens, so to a few digits
        assert found[i] == pytest.approx(known.scale[i] * (answers[0] - answers[1]) / (2 * h), rel=2e-2), q.name


def _moved(fitted, name, by):
    return replace(fitted, params=fitted.params | {name: fitted.params[name] + by})


def _measured(truth, rows, rng) -> pd.DataFrame:
    """The rows with losses as the law would give them, a level for every run and noise in every row."""
    run = curve_numbers(rows)
    noise = RUN_SD * rng.normal(size=run.max() + 1)[run] + ROW_SD * rng.normal(size=len(rows))
    return rows.assign(loss=truth.predict(rows) + noise)


def _width(rows, questions, seed) -> float:
    """Mean half width of the 80 % interval of ln tokens over the questions, by resampling and refitting."""
    fitted = fit(LAW, rows)
    spread = resample(fitted, rows, draws=100, seed=seed)
    found = []
    for asked in questions:
        if tokens := invert(fitted, asked)[0]:
            at = np.array([float(tokens)])
            apart = asked.miss(fitted.predict, 1.01 * at) - asked.miss(fitted.predict, at / 1.01)
            steep = float(apart[0]) / (2 * np.log(1.01))
            found.append(float(spread.quantile(0.8) * asked.miss(spread.predict, at).std() / abs(steep)))
    return float(np.mean(found))


def test_the_first_candidate_narrows_the_budgets_as_told_and_the_last_does_not(rows, mixture):
    table = wanted(rows, law=LAW)
    bases = ladder(measured_bases(rows), "qwen-2.5")
    questions, truth = standard_questions(mixture, rows, bases), fit(LAW, rows)
    wins, widths = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        data = _measured(truth, rows, rng)
        new = (_measured(truth, _new_run(table.iloc[i], bases, rows), rng) for i in (0, -1))
        first, last = (_width(pd.concat([data, run]), questions, seed) for run in new)
        wins += first < last
        widths.append((first, last))
    assert wins >= 17
    first, last = np.mean(widths, axis=0)
    assert 1 - first / last == pytest.approx(table["narrower"].iloc[0], abs=0.2)


def _new_run(row, bases, rows) -> pd.DataFrame:
    """The evaluations of a candidate, on the grid of a run that is there."""
    (base,) = [b for b in bases if b.n0 == row["n0"]]
    old = rows[curve_numbers(rows) == 0]
    tokens = old["tokens"] / old["tokens"].max() * row["tokens"]
    return old.assign(run_id="new", base_model=base.name, n0=base.n0, rate=row["rate"], l0=base.l0, tokens=tokens)


def test_the_ladder_needs_two_sizes_for_a_next_one(seed):
    bases = measured_bases(seed)
    assert [b.name for b in ladder(bases, "qwen-2.5")] == ["p2lab/qwen-2.5-s1", "p2lab/qwen-2.5-s2", ""]
    assert [b.name for b in ladder([b for b in bases if b.name.endswith("s1")], "qwen-2.5")] == ["p2lab/qwen-2.5-s1"]


def test_ones_own_questions_decide(rows, group):
    asked = Question(family="qwen-2.5", method="depth", rate=0.2, n0=13e6, l0=2.86, excess=0.1)
    table = wanted(rows, law=LAW, questions=[asked])
    assert table["gain"].iloc[0] > 0
    spread = group.resample(draws=1)
    known = knowledge(group, spread.run_sd, spread.row_sd)
    tokens = invert(group.fit, asked)[0]
    slope = known.miss_slopes(asked, tokens) / steepness(group.fit, asked, tokens)
    before = variances(known.precision, slope[None])[0]
    assert 0 < table["gain"].iloc[0] < before
    with pytest.raises(P2Error, match="none of the questions has an answer"):
        wanted(rows, law=LAW, questions=[Question(family="other", method="depth", rate=0.2, n0=13e6, l0=2.86)])


def test_runs_that_are_lent_help_the_other_family(seed):
    own = seed[seed["method"].isin(["depth"])]
    table = wanted(own, law=LAWS["capacity"])
    assert (table["gain"] > 0).all()
    alone = wanted(own[own["family"] == "llama-3"], law=LAWS["capacity"])
    assert len(alone) < len(table)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gpu": "h1000"}, "Did you mean 'h100'"),
        ({"family": "lama-3"}, "Did you mean 'llama-3'"),
        ({"law": LAWS["damage-drift"]}, "needs l_pruned"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong, words, seed):
    with pytest.raises(P2Error, match=f"^wanted: .*{words}"):
        wanted(seed, **({"law": LAW} | wrong))


def test_a_loss_that_does_not_fall_has_no_budget_to_narrow(rows):
    for loss in (3.0, 3.0 + rows["tokens"] / 1e8):
        with pytest.raises(P2Error, match="none of the questions has an answer"):
            wanted(rows.assign(loss=loss), law=LAW)


def test_one_run_alone_still_gives_an_order(rows):
    table = wanted(rows[rows["run_id"] == rows["run_id"].iloc[0]], law=LAW)
    assert len(table)
    assert np.isfinite(table["gain"]).all()


def test_questions_have_the_states_of_budgets(seed):
    near = Question(family="llama-3", method="depth", rate=0.2, n0=13e6, l0=2.86, excess=0.1)
    far = Question(family="llama-3", method="depth", rate=0.25, n0=1.236e9, l0=2.4, excess=0.05)
    bases = [Base("meta-llama/Llama-3.2-1B", "llama-3", 1_235_814_400, 973_146_112, 2.4)]
    table = wanted(seed, family="llama-3", bases=bases, questions=[near, far])
    assert set(table["law"]) == {"mixture"}
    pilot = table["base_model"] == bases[0].name
    measured = table["base_model"].str.startswith("p2lab")
    assert set(table.loc[measured, "state"]) == {"inside", "beyond"}
    own = table["method"] == "depth"
    best, rest = table.loc[own & pilot, "narrower"], table.loc[own & measured, "narrower"]
    assert best.min() > rest.max()  # no other run brings the second question within reach
