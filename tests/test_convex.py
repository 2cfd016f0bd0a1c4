"""Convex solutions by two routes each; answers are built first where that is possible."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from qhlib.convex import (
    SolverError,
    ball_loss,
    ball_norm,
    ball_path_point,
    block_norm,
    cascade,
    hard_margin,
    hard_margin_qp,
    path_point,
)
from qhlib.data import Data, separable_linear


def as_data(A, y=None):
    y = np.ones(len(A)) if y is None else y
    return Data(
        torch.as_tensor(A * y[:, None], dtype=torch.float64),
        torch.as_tensor(y, dtype=torch.float64),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.05, 3), st.floats(1e-3, 1e3))
def test_hard_margin_that_was_built(seed, d, margin, scale):
    """Support vectors ``margin u ± v_k`` with v_k orthogonal to u, others further out: u,
    margin."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    u, V = Q[:, 0], Q[:, 1:].T
    support = np.vstack([margin * u + V, margin * u - V])
    others = support + rng.uniform(0.1, 2, (len(support), 1)) * u
    A = scale * np.vstack([support, others])
    y = rng.choice([-1.0, 1.0], len(A))
    for found in (hard_margin(as_data(A, y)), hard_margin_qp(as_data(A, y))):
        # the solver promises a gap of 1e-8; the minimiser is known to the root of the gap
        assert abs(found.gap) < 1e-7
        assert found.value == pytest.approx(scale * margin, rel=1e-7)
        np.testing.assert_allclose(found.x, u, atol=2 * np.sqrt(abs(found.gap)) + 1e-7)


def test_hard_margin_against_scikit_learn_without_intercept():
    data = separable_linear(40, 3, 0, gap=0.3)
    svc = LinearSVC(
        C=1e6, fit_intercept=False, loss="hinge", dual=True, tol=1e-9, max_iter=2_000_000
    )
    w = svc.fit(data.X.numpy(), data.y.numpy()).coef_[0]
    np.testing.assert_allclose(w / np.linalg.norm(w), hard_margin(data).x, atol=1e-3)


def test_l1_cost_that_was_built_and_its_dual_bound():
    # beta = (s, t) needs 3 s >= 1 and t >= 1: the least |beta|_1 is 4/3
    found = block_norm(as_data(np.array([[3.0, 0.0], [0.0, 1.0]])), [2, 2])
    assert found.gap < 1e-7 and found.value == pytest.approx(4 / 3, rel=1e-7)
    data = separable_linear(30, 5, 1)
    A = (data.X * data.y[:, None]).numpy()
    found = block_norm(data, [2] * 5)
    # any weights on the simplex bound the margin 1 / |beta|_1 by the sup-norm of the mean
    for weights in np.random.default_rng(0).dirichlet(np.full(30, 0.1), 200):
        assert 1 / found.value <= np.abs(weights @ A).max() * (1 + found.gap + 1e-12)
    assert (A @ found.x).min() == pytest.approx(1) and found.gap < 1e-7


@pytest.mark.parametrize("depths", [[1, 2, 2], [2, 3, 3], [1, 1, 2], [2, 2, 3], [3, 4, 4]])
def test_block_norm_is_feasible_optimal_and_scales(depths):
    rng = np.random.default_rng(3)
    A = rng.standard_normal((12, 3))
    A[:, 0] = 1 + np.abs(A[:, 0])
    found = block_norm(as_data(A), depths)
    assert (A @ found.x).min() >= 1 - 1e-9 and found.gap < 1e-7
    top, power = np.array(depths) == min(depths), 2 / min(depths)
    cost = lambda beta: (np.abs(beta[top]) ** power).sum()  # noqa: E731
    assert cost(found.x) == pytest.approx(found.value, rel=1e-8)
    for _ in range(500):  # no random feasible point does better
        trial = found.x + rng.standard_normal(3) * rng.choice([1e-3, 1e-1, 1])
        least = (A @ trial).min()
        if least > 0:
            assert cost(trial / least) >= found.value * (1 - 1e-7)
    doubled = block_norm(as_data(2 * A), depths)
    assert doubled.value == pytest.approx(found.value / 2**power, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 1.4), st.floats(0.02, 0.98))
@example(1.25, 0.125)  # where the solver does not reach its strictest tolerance
def test_ball_against_the_closed_form(angle, share):
    A, m = np.cos(angle), np.sin(angle)
    r = m + share * (1 - m)
    root = np.sqrt(r * r - m * m)
    if root > 0.98 * A or root < 0.02:
        return
    found = ball_norm(np.array([A, m]), r, [1, 2])
    assert found.value**-0.5 == pytest.approx(A - root, rel=1e-5)
    s = 1 / (A - root)
    np.testing.assert_allclose(found.x, [s, s * m / root], rtol=2e-3)
    mu_norm = found.x @ np.array([A, m]) - r * np.linalg.norm(found.x)
    assert mu_norm == pytest.approx(1, abs=1e-7) and found.gap < 1e-6


def test_cascade_discards_what_is_not_needed():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((10, 3))
    A[:, 2] = 1 + np.abs(A[:, 2])  # the deepest coordinate separates alone
    found, discarded = cascade(as_data(A), [1, 2, 3])
    assert discarded == [1, 2] and (found.x[:2] == 0).all() and (A @ found.x).min() >= 1 - 1e-9
    found, discarded = cascade(as_data(A[:, ::-1].copy()), [1, 2, 3])
    first = block_norm(as_data(A[:, ::-1].copy()), [1, 2, 3])
    assert discarded == [] and found.value == pytest.approx(first.value)


def test_what_has_no_answer_raises():
    twins = as_data(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    by_depth = [lambda d, f=f: f(d, [1, 2]) for f in (block_norm, cascade)]
    for solver in (hard_margin, hard_margin_qp, *by_depth):
        with pytest.raises(SolverError):
            solver(twins)
    easy = as_data(np.array([[1.0, 1.0], [-1.0, 2.0]]))
    with pytest.raises(SolverError, match="without"):
        block_norm(easy, [1, 2])
    with pytest.raises(SolverError):
        ball_norm(np.array([0.8, 0.6]), 1.1, [1, 2])
    with pytest.raises(SolverError, match="without"):
        ball_norm(np.array([0.8, 0.6]), 0.3, [1, 2])
    for wrong in ([1], [0, 1], [1, 2, 3]):
        with pytest.raises(ValueError):
            block_norm(easy, wrong)
    with pytest.raises(ValueError, match="convex"):
        block_norm(easy, [3, 3])
    for radius in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError):
            ball_norm(np.array([0.8, 0.6]), radius, [1, 2])
    with pytest.raises(ValueError):
        hard_margin(Data(torch.ones(2, 2), torch.tensor([0, 1])))


@pytest.mark.parametrize("depths", [[1, 1, 2, 2], [2, 2, 3, 3], [3, 4, 4, 4]])
def test_balls_and_blocks_against_cvxpy(depths):
    import cvxpy as cp

    rng = np.random.default_rng(0)
    mu, radius = np.array([0.7, 0.5, 0.4, 0.3]), 0.9
    top = np.array(depths) == min(depths)
    A = mu + radius * (lambda z: z / np.linalg.norm(z, axis=1, keepdims=True))(
        rng.standard_normal((400, 4))
    )
    for constraint, found in (
        (lambda b: mu @ b - radius * cp.norm2(b) >= 1, lambda: ball_norm(mu, radius, depths)),
        (lambda b: A @ b >= 1, lambda: block_norm(as_data(A), depths)),
    ):
        beta = cp.Variable(4)
        cost = cp.sum_squares(beta[top]) if min(depths) == 1 else cp.norm1(beta[top])
        value = cp.Problem(cp.Minimize(cost), [constraint(beta)]).solve(
            solver=cp.SCS, eps=1e-9, max_iters=200_000
        )
        power = 2 / min(depths) if min(depths) > 2 else 1
        assert found().value == pytest.approx(value**power, rel=1e-5)


# --- the regularisation path ---------------------------------------------------------------------


def sampled_ball(radius: float, n: int = 60) -> np.ndarray:
    unit = np.random.default_rng(3).standard_normal((n, 3))
    return np.array([0.8, 0.5, 0.33]) + radius * unit / np.linalg.norm(unit, axis=1)[:, None]


def log_inverse(A: np.ndarray, beta: np.ndarray) -> tuple[float, np.ndarray]:
    q = A @ beta
    w = np.exp(q.min() - q)
    return q.min() - math.log(w.sum()), (w / w.sum()) @ A


@pytest.mark.parametrize("speeds", [1.0, [0.5, 1.0, 1.2]])
@pytest.mark.parametrize("radius", [0.3, 0.5, 0.7])
def test_path_points_solve_the_kkt_equations(radius, speeds):
    depths = np.array([1, 2, 3])
    A, mu, ell = sampled_ball(radius), np.array([0.8, 0.5, 0.33]), 2e3
    for found, loss in (
        (path_point(as_data(A), depths, ell, speeds), lambda b: log_inverse(A, b)),
        (ball_path_point(mu, radius, depths, ell, speeds), lambda b: ball_loss(b, mu, radius)),
    ):
        reached, pull = loss(found.x)[:2]
        assert reached == pytest.approx(ell, rel=1e-9)
        kept, prices = found.x > 0, np.broadcast_to(speeds, 3)
        price = (prices * 2 / depths)[kept] * found.x[kept] ** (2 / depths[kept] - 1)
        worth = price[0] / pull[0] * pull
        assert worth[kept] == pytest.approx(price, rel=1e-6)
        # a coordinate of depth 2 is left out only where it is not worth its price
        assert all(worth[~kept] <= prices[~kept])


@pytest.mark.parametrize("radius", [0.45, 0.7])
def test_path_points_against_a_general_minimiser(radius):
    """In the factors theta, beta = theta^D, the cost is |theta|^2: SLSQP from another start."""
    from scipy.optimize import minimize

    depths, ell = np.array([1, 2, 3]), 50.0
    A, mu = sampled_ball(radius), np.array([0.8, 0.5, 0.33])
    for found, loss in (
        (path_point(as_data(A), depths, ell), lambda b: log_inverse(A, b)),
        (ball_path_point(mu, radius, depths, ell), lambda b: ball_loss(b, mu, radius)),
    ):
        other = minimize(
            lambda theta: theta @ theta,
            (2 * found.x + 5) ** (1 / depths),
            jac=lambda theta: 2 * theta,
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda t, loss=loss: loss(t**depths)[0] - ell},
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert found.value == pytest.approx(other.fun, rel=1e-6)


def test_a_ball_s_loss_is_the_mean_over_its_points():
    """Gradient and Hessian by differences, the value by a fine lattice on the sphere."""
    beta, mu, radius = np.array([2.0, 3.0, 4.0]), np.array([0.8, 0.5, 0.33]), 0.6
    i = np.arange(200_000) + 0.5
    polar, turn = np.arccos(1 - 2 * i / len(i)), math.pi * (1 + math.sqrt(5)) * i
    unit = [np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)]
    mean = np.exp(-(mu + radius * np.stack(unit, 1)) @ beta).mean()
    ell, gradient, hessian = ball_loss(beta, mu, radius)
    assert ell == pytest.approx(-math.log(mean), rel=1e-7)
    for k, step in enumerate(1e-6 * np.eye(3)):
        above, below = (ball_loss(beta + sign * step, mu, radius) for sign in (1, -1))
        assert gradient[k] == pytest.approx((above[0] - below[0]) / 2e-6, rel=1e-6)
        assert hessian[k] == pytest.approx((above[1] - below[1]) / 2e-6, rel=1e-5, abs=1e-7)


def test_bad_path_requests_are_named():
    data, mu = as_data(sampled_ball(0.5)), np.array([0.8, 0.6])
    for wrong in (([1, 2], 1e3), ([1, 2, 0], 1e3), ([1, 2, 3], 0.5)):
        with pytest.raises(ValueError):
            path_point(data, *wrong)
    with pytest.raises(ValueError, match="speeds"):
        ball_path_point(mu, 0.7, [1, 2], 1e3, [1.0, 0.0])
    for radius in (0.0, 1.0):
        with pytest.raises(ValueError, match="radius"):
            ball_path_point(mu, radius, [1, 2], 1e3)
    with pytest.raises(SolverError, match="separable"):
        path_point(as_data(np.array([[1.0, 0.0], [-1.0, 0.0]])), [1, 2], 1e3)
