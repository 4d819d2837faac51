"""Laws from a user's own file: a dozen lines are enough, and what is wrong with one is said before it is fitted."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leaderboard import LAWS, FitError, P2Error, fit
from leaderboard.fitting.result import Status
from leaderboard.laws.law import Linear, Nonlinear, Powers
from leaderboard.laws.user import check_law, choose_laws, find_law, load_law

MODULE = """
from leaderboard import Law, Linear, Nonlinear, Powers

powers = Powers({"b": ("tokens", -1), "g": ("rate", 1)}, (("g", "b"), ("g",)))
MY_LAW = Law(
    name="my-law",
    latex=r"L_0 + \\rho^g (a D^{-b} + e)",
    source="mine",
    inputs=("l0", "rate", "tokens"),
    linear=(Linear("a"), Linear("e", 0)),
    nonlinear=(Nonlinear("b", (0.01, 3), (0.1, 0.5)), Nonlinear("g", (0, 5), (1.0, 2.0))),
    basis=powers.basis,
    jacobian=powers.jacobian,
    offset=lambda x: x["l0"],
)
"""


@pytest.fixture
def law_file(tmp_path: Path):
    """`law_file(text)`: a module with this text."""

    def write(text: str = MODULE) -> Path:
        path = tmp_path / "my_laws.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def mine(law_file):
    """A law that is right."""
    return load_law(f"{law_file()}:MY_LAW")


@pytest.fixture(scope="module")
def group(seed):
    """One family and method of the seed."""
    return seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]


def test_a_dozen_lines_make_a_law(mine, law_file, group):
    found = fit(mine, group)
    assert found.status is Status.OK
    assert found.rmse < 0.1
    assert len(MODULE.strip().splitlines()) <= 15
    assert "my_laws" not in sys.modules
    assert [p.name for p in law_file().parent.iterdir()] == ["my_laws.py"]  # no compiled leftovers


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_every_registered_law_passes(law):
    check_law(law, law.name)


def test_names_restrict_and_files_add(law_file):
    own = f"{law_file()}:MY_LAW"
    assert list(choose_laws([], "rank")) == list(LAWS)
    assert list(choose_laws(["damage", "p2"], "rank")) == ["damage", "p2"]
    assert list(choose_laws([own], "rank")) == [*LAWS, "my-law"]
    assert list(choose_laws(["p2", own], "rank")) == ["p2", "my-law"]
    assert find_law("p2", "fit") is LAWS["p2"]
    assert find_law(own, "fit").name == "my-law"
    with pytest.raises(P2Error, match=r"unknown law 'damge'\. Did you mean 'damage'"):
        find_law("damge", "fit")


def test_a_name_that_is_taken_is_refused(law_file):
    path = law_file(MODULE.replace('"my-law"', '"p2"'))
    with pytest.raises(P2Error, match="two laws are called 'p2'; give yours another name"):
        choose_laws([f"{path}:MY_LAW"], "rank")


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (MODULE, "MY_LOW", "unknown law 'MY_LOW'. Did you mean 'MY_LAW'"),
        (MODULE, "powers", "is a Powers; it must be a leaderboard.Law"),
        (MODULE, "", "write it as FILE.py:NAME"),
        ("import nothing_of_this_name", "X", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def x(:", "X", r"SyntaxError: .*line 1"),
        (MODULE.replace("source=", "sauce="), "MY_LAW", "TypeError: .*'sauce'"),
    ],
)
def test_a_file_without_the_law_is_refused(text, name, words, law_file):
    with pytest.raises(P2Error, match=words):
        load_law(f"{law_file(text)}:{name}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(P2Error, match=r"absent\.py: no such file"):
        load_law(f"{tmp_path / 'absent.py'}:MY_LAW")


def _negative(law):
    return lambda theta, x: law.jacobian(theta, x) * np.array([1, -1]).reshape(2, *[1] * theta.ndim)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda law: {"jacobian": _negative(law)}, "derivative of the a term by g is .* central differences give"),
        (lambda law: {"jacobian": lambda t, x: law.jacobian(t, x) * np.nan}, "derivative by b is not finite"),
        (lambda law: {"jacobian": lambda t, x: law.jacobian(t, x)[0]}, "jacobian has the shape"),
        (lambda law: {"basis": lambda t, x: law.basis(t, x) * np.nan}, "NaN or infinity everywhere"),
        (lambda law: {"basis": lambda t, x: law.basis(t, x) / 0.0}, "NaN or infinity everywhere"),
        (lambda law: {"offset": lambda x: x["l0"] * np.inf}, "NaN or infinity everywhere"),
        (lambda law: {"basis": lambda t, x: law.basis(t, x)[:1]}, r"basis has the shape \(1, 4, 27\).*\(2, 4, 27\)"),
        (lambda law: {"offset": lambda x: 0.0}, r"offset has the shape \(\)"),
        (lambda law: {"offset": lambda x: x["n0"]}, "asks for the input 'n0', which the law does not list"),
        (lambda law: {"offset": lambda x: [][1]}, "offset: IndexError"),
        (lambda law: {"inputs": ("l0", "rate", "token")}, "unknown input 'token'. Did you mean 'tokens'"),
        (lambda law: {"linear": (Linear("a"), Linear("b"))}, "parameter name 'b' is there twice"),
        (lambda law: {"linear": ()}, "needs a linear and a nonlinear parameter"),
        (lambda law: {"nonlinear": (law.nonlinear[0], Nonlinear("g", (0, 5), ()))}, "g has no start values"),
    ],
)
def test_what_is_wrong_with_a_law_is_said(change, words, mine):
    with pytest.raises(P2Error, match=words):
        check_law(replace(mine, **change(mine)), "mine")


def _code(law, group) -> str:
    """A fit's status, or the code of its refusal."""
    try:
        return str(fit(law, group).status)
    except FitError as error:
        return error.code


def test_a_law_that_turns_nan_on_the_data_is_refused_with_a_code(mine, group):
    assert _code(replace(mine, basis=lambda t, x: mine.basis(t, x) * np.nan), group) == "no_finite_start"
    small = replace(mine, basis=lambda t, x: mine.basis(t, x) * np.where(x["tokens"] < 1e-3, np.nan, 1))
    assert _code(small, group) == "no_finite_start"
    assert _code(replace(mine, domain=lambda x: x["l0"] < 0), group) == "no_rows"


def test_a_law_that_is_nan_beyond_some_exponent_is_fitted_below_it(mine, group):
    found = fit(replace(mine, basis=lambda t, x: mine.basis(t, x) * np.where(t[0] > 0.3, np.nan, 1)), group)
    assert found.params["b"] <= 0.3
    assert np.isfinite(found.predict(group)).sum() >= found.n_rows


def test_a_basis_that_is_rank_deficient_everywhere_is_flat(mine, group):
    twice = Powers({"b": ("tokens", -1), "g": ("rate", 1)}, (("g", "b"), ("g", "b")))
    found = fit(replace(mine, basis=twice.basis, jacobian=twice.jacobian), group)
    assert found.status is Status.FLAT
    assert np.isfinite(list(found.params.values())).all()
    shared = Powers({"b": ("tokens", -1), "g": ("tokens", -1)}, (("g", "b"), ()))  # only b + g counts
    assert fit(replace(mine, basis=shared.basis, jacobian=shared.jacobian), group).status is Status.FLAT
