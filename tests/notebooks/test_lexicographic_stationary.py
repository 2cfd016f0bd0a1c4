"""The companion on stationary points: its claims on other seeds, what turns them, what it relies
on."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.limits import kkt_residual
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "lexicographic_stationary"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "pull": 2.0, "leave": 100.0},
        {"seed": 2147483647, "pull": 4.0, "leave": 500.0},
        {"seed": 7, "pull": 2.5, "leave": 200.0},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize("bad", [{"pull": 1.0}, {"pull": 5.0}, {"leave": 10.0}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", seed=1)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_a_descent_that_is_stopped_early_turns_what_is_said_of_its_limit():
    """Judged is what descent reached: a polish would forgive this."""
    found = deviating(("at=[steps // 4, steps]", "at=[12, 16]"))
    assert {"residual", "margin"} <= found


def test_a_descent_that_goes_astray_turns_them_all():
    wrong = (
        "return unflatten(-torch.minimum",
        "g = g + 0.5 * g.flip(1)\n    return unflatten(-torch.minimum",
    )
    assert {"residual", "certificate", "margin"} <= deviating(wrong)


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("certificates = np.array([1.0, pull, 4.0])", "certificates = np.array([1.0, 1.0, 1.0])"),
        ("(2 * pull + 1), 1.0, 0.5]", "(2 * pull + 1), 1.1, 0.5]"),
        ("p1 ** (pull - 1) * (pull - 0.5)", "p1 ** (pull - 0.9) * (pull - 0.5)"),
        ("limit = (5 - 2 * pull) / (4 * pull - 1)", "limit = (5 - 2 * pull) / (4 * pull)"),
        ('chapter.claim("alarm", predicted=pull', 'chapter.claim("alarm", predicted=1.0'),
        ("early = middle < leave / 3", "early = middle < 3 * leave"),
    )  # fmt: skip
    assert {"certificate", "margin", "leaves", "logarithm", "alarm", "plateau"} <= found


# --- what the page relies on -------------------------------------------------------------------


@pytest.mark.parametrize("m", [2.0, 3.0, 4.0])
def test_the_table_of_stationary_points(m):
    Z = np.array([[1, m], [2, 0.5]])
    multipliers = [(3 / (4 * m - 1), (2 * m - 2) / (4 * m - 1)), (1, 0), (0, 2)]
    rows = zip(multipliers, (1, m, 4), ((4 * m - 1) / (2 * m + 1), 1, 0.5), strict=True)
    for k, (prices, number, margin) in enumerate(rows):
        alive = [[0, 1], [0], [1]][k]
        best = linprog(np.ones(len(alive)), -Z[:, alive], -np.ones(2))
        assert 1 / best.fun == pytest.approx(margin)
        assert -best.ineqlin.marginals == pytest.approx(prices, abs=1e-9)
        assert np.abs(np.array(prices) @ Z).max() == pytest.approx(number)
        assert np.abs(np.array(prices) @ Z)[alive] == pytest.approx(1)


def test_all_three_points_are_stationary_and_only_one_is_optimal(page):
    beta = np.array([np.linalg.solve(page["Z"], [1, 1]), [1, 0], [0, 2]])
    root = torch.as_tensor(np.sqrt(beta))
    found = kkt_residual(
        page["diagonal"], page["data"], {"u": root, "v": root}, {"u": 0.5, "v": 0.5}
    )
    assert found.worst.max() < 1e-12
    assert beta.sum(1).argmin() == 0


def test_dead_pairs_stay_dead(page):
    beta, group = page["beta"], page["group"]
    assert (beta[group == 1, 1] == 0).all() and (beta[group == 2, 0] == 0).all()
    assert (np.abs(beta[group == 0]) > 0).all()


def test_the_missing_mode_follows_its_power_law(page):
    """On the plateau p_2 is a power of p_1."""
    on = [s for s, rho in zip(page["states"], page["rho"], strict=True) if rho < page["leave"] / 3]
    p = np.array([((s.params["u"] + s.params["v"])[0].numpy() / 2) ** 2 for s in on])
    slope = np.diff(np.log(p[:, 1])) / np.diff(np.log(p[:, 0]))
    assert slope == pytest.approx(np.full(len(slope), page["pull"]), abs=1e-3)
