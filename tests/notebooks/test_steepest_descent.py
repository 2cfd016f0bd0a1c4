"""Steepest descent in other norms: its claims on other seeds, what turns them, what it relies
on."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "steepest_descent"
STEPS = "[np.sign(g[0]), g[1] / np.linalg.norm(g[1]), polar(g[2])]"
SHORT = ('{"smoke": 20_000,', '{"smoke": 8_000,')  # enough for all claims but the tail


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke")


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "n": 40, "tilt": 40.0, "spread": 0.8, "step": 0.2, "epsilon": 1e-3},
        {"seed": 2147483647, "n": 4, "tilt": 5.0, "spread": 0.1, "step": 0.02, "epsilon": 1e-200},
    ],
)
def test_other_parameters(other):
    found = verdicts(NAME, [SHORT], effort="smoke", **other)
    assert set(found.values()) <= {"reproduced", "outside"}, found
    assert found["exponents"] == found["sign"] == found["spectral"] == "reproduced"
    assert found["epsilon"] == "reproduced"


@pytest.mark.parametrize("bad", [{"n": 3}, {"tilt": 45}, {"spread": 1}, {"epsilon": 0}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def turned(*mutations):
    found = verdicts(NAME, mutations, effort="smoke")
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = turned(
        ("lambda g: steepest(g, P[:, None])", "lambda g: steepest(g, np.full((len(P), 1), 2.0))"),
        ("constant = entropy - math.log(1 / shares.max())", "constant = entropy"),
        ("/ (a.prod() * a.sum())", "/ a.prod()"),
    )
    assert found == {"exponents", "tail", "epsilon"}


def test_steps_of_another_norm_find_another_margin():
    other = STEPS.replace("np.sign(g[0])", "polar(g[0])").replace("polar(g[2])", "np.sign(g[2])")
    assert turned(SHORT, (STEPS, other)) >= {"sign", "spectral", "own-column"}


@pytest.mark.parametrize(
    ("wrong", "claim"), [("np.sign(g[0])", "sign"), ("polar(g[2])", "spectral")]
)
def test_gradients_in_place_of_signs_or_polar_factors(wrong, claim):
    plain = wrong.replace("np.sign(", "(").replace("polar(", "(")
    assert turned(SHORT, (STEPS, STEPS.replace(wrong, plain))) >= {claim, "own-column"}


def test_without_the_lag_the_tail_is_another():
    """On data where sign descent has one: an entry that took the wrong sign at first."""
    without = ("predicted=[constant + lag(first)] * 3", "predicted=[constant] * 3")
    assert turned(without) == {"tail"}


# --- what the page relies on -------------------------------------------------------------------


def test_a_step_has_length_one_and_is_the_steepest(page):
    rng = np.random.default_rng(0)
    g = rng.normal(size=(50, 5))
    for p, q in [(1, np.inf), (1.1, 11), (2, 2), (4, 4 / 3), (np.inf, 1)]:
        v = page["steepest"](g, np.full((50, 1), p))
        assert np.linalg.norm(v, p, axis=1) == pytest.approx(1)
        assert (v * g).sum(1) == pytest.approx(np.linalg.norm(g, q, axis=1))
    matrix = rng.normal(size=(3, 4))
    assert (page["polar"](matrix) * matrix).sum() == pytest.approx(np.linalg.norm(matrix, "nuc"))


def test_margins_are_the_least_dual_norms(page):
    """The other side of the duality, by another solver."""
    duals = [lambda g: cp.sum(cp.abs(g)), lambda g: cp.norm(g, "fro"), cp.normNuc]
    for dual, margin in zip(duals, page["best"], strict=True):
        pi = cp.Variable(page["n"], nonneg=True)
        g = sum(pi[i] * a for i, a in enumerate(page["inputs"]))
        problem = cp.Problem(cp.Minimize(dual(g)), [cp.sum(pi) == 1])
        assert problem.solve(solver=cp.SCS, eps=1e-8) == pytest.approx(margin, rel=1e-5)


def test_the_bound_holds_at_every_record_and_gradients_certify(page):
    """No gradient is shorter than the largest margin, in the dual norm."""
    units, flat = page["units"], page["flat"]
    sizes = [lambda g: np.abs(g).sum(), np.linalg.norm, lambda g: np.linalg.norm(g, "nuc")]
    for row, (norm, size) in enumerate(zip(page["NORMS"].values(), sizes, strict=True)):
        for k, W in page["states"].items():
            allowed = (math.log(page["n"]) + (units[:k] ** 2).sum() / 2) / units[:k].sum()
            reached = page["margin"](W[row], norm)
            top = page["best"][row]
            assert top - page["B"][row] * allowed <= reached <= top * (1 + 1e-6)
            q = flat @ W[row].ravel()
            pi = np.exp(q.min() - q)
            g = (pi @ flat / pi.sum()).reshape(3, 4)
            assert size(g) >= top * (1 - 1e-6)


def test_the_direction_is_that_of_torch(page):
    """The first steps of sign descent, by automatic differentiation of the logarithm of the
    loss."""
    A, B = torch.tensor(page["inputs"]), page["B"][0]
    W = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    k = next(iter(page["states"]))
    for unit in page["units"][:k]:
        (g,) = torch.autograd.grad(-torch.logsumexp(-(A * W).sum((1, 2)), 0), W)
        W = (W + unit / B * g.sign()).detach().requires_grad_()
    assert W.detach().numpy() == pytest.approx(page["states"][k][0], abs=1e-12)


def test_the_nats_that_are_collected_solve_their_equation(page):
    """Integrated by a library, from a start where the turn is still to come."""
    log_kappa = math.log(page["kappa"])

    def speed(ell, _):
        return [1 / (1 + math.exp(min(ell + log_kappa, 500)))]

    ells = page["ells"]
    found = solve_ivp(speed, (0, ells[-1]), [0.0], t_eval=ells, rtol=1e-10, atol=1e-10, max_step=1)
    assert page["collected"] == pytest.approx(found.y[0], abs=1e-6)


def test_epsilon_ends_at_the_euclidean_margin(page):
    """On the planar data: once the turn lies far behind, its margin is the larger one."""
    _, path = page["softened"](page["plane"], 40_000)
    P, gammas = list(page["P"]), page["gammas"]
    share = {
        p: (page["plane"] @ path[-1]).min() / page["p_norm"](path[-1], p) / gammas[P.index(p)]
        for p in (2, math.inf)
    }
    assert share[2] > 0.99 and share[math.inf] < share[2]


def test_an_entry_that_is_still_on_its_way_is_outside():
    """Near +-1 in the limit, it walks one way for long; the shares are not those of the limit."""
    found = namespace(NAME, (), "chapter.claim", effort="smoke", seed=3_000_001)
    assert "entry" in found["chapter"].claims["tail"].outside
    assert found["others"] < 0.1 and found["chapter"].claims["tail"].gap > 0.03


def test_a_guess_is_needed_before_the_answer(page):
    assert page["check_guess"](None) == "Write your guess first."
    assert page["check_guess"](10.0).startswith("Not yet")
