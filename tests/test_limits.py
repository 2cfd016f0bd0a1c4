"""Certificates of points whose KKT residual is known, and polishes against independent solvers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.convex import block_norm, hard_margin, nested_qp
from qhlib.data import Data, gaussian_labels, separable_linear
from qhlib.flow import Far, Heun, follow
from qhlib.limits import kkt_residual, polish_smooth
from qhlib.margins import Kinks
from qhlib.models import second_layer, two_layer
from tests.kinks import leaky_relu_kinks


def linear(params, X):
    return params["w"] @ X.T


def diagonal(params, X):
    return params["a"] * X[:, 0] + (params["u"] * params["v"]) @ X[:, 1:].T


DIAGONAL_RATES = {"a": 1.0, "u": 0.5, "v": 0.5}


def built(seed, n=4, extra=3, d=6):
    """A linear problem with a known KKT point: ``w = A^T mu``, margins 1 on n rows, more on the
    others."""
    rng = np.random.default_rng(seed)
    A, mu = rng.standard_normal((n, d)), rng.uniform(0.2, 2, n)
    for _ in range(300):  # move each row along w until its margin is one; few rounds suffice
        w = A.T @ mu
        A += np.outer(1 - A @ w, w) / (w @ w)
    w = A.T @ mu
    B = rng.standard_normal((extra, d))
    B += np.outer(1 + rng.uniform(0.5, 2, extra) - B @ w, w) / (w @ w)
    rows = torch.as_tensor(np.vstack([A, B]))
    return Data(rows, torch.ones(n + extra, dtype=torch.float64)), w, mu


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_zero_at_a_built_kkt_point_whatever_the_scale(seed, scale):
    data, w, mu = built(seed)
    if abs(data.X.numpy()[:4] @ w - 1).max() > 1e-12:
        return
    found = kkt_residual(linear, data, {"w": scale * torch.as_tensor(w)[None]}, {"w": 1.0})
    assert found.worst.item() < 1e-9
    np.testing.assert_allclose(found.multipliers[0, :4], mu, rtol=1e-6)
    assert (found.multipliers[0, 4:] < 1e-9 * found.multipliers.max()).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-8, 0.5))
def test_the_right_value_at_a_perturbed_point(t):
    """One row e1 and w = (1, t): the best multiplier is 1, the residual t / |w|."""
    data = Data(torch.tensor([[1.0, 0.0]]).double(), torch.ones(1).double())
    found = kkt_residual(linear, data, {"w": torch.tensor([[3.0, 3 * t]]).double()}, {"w": 1.0})
    assert found.residual.item() == pytest.approx(t / np.hypot(1, t), rel=1e-7, abs=1e-14)


def test_a_multiplier_that_would_be_negative_or_inactive_does_not_count():
    # w = e1 + e2 = 2 x_1 - x_2 only with mu_2 < 0
    rows = torch.tensor([[1.0, 0.5], [1.0, 0.0]]).double()
    data = Data(rows, torch.ones(2).double())
    assert (
        kkt_residual(
            linear, data, {"w": torch.tensor([[1.0, 1.0]]).double()}, {"w": 1.0}
        ).residual.item()
        > 0.1
    )
    # w lies in the cone of both rows, but the second margin is far from active: complementarity
    # tells
    rows = torch.tensor([[1.0, 0.0], [1.0, 5.0]]).double()
    found = kkt_residual(
        linear, Data(rows, torch.ones(2).double()), {"w": torch.ones(1, 2).double()}, {"w": 1.0}
    )
    assert found.worst.item() > 0.1


def test_lower_rates_cost_nothing_but_must_balance():
    """(P) of the diagonal model, by the reference solver: zero there, not where the free block is
    moved."""
    data = gaussian_labels(10, 3, 0)
    X = data.X.clone()
    X[:, 0] = data.y * (1 + X[:, 0].abs())
    data = Data(X, data.y)
    beta = torch.as_tensor(block_norm(data, [1, 2, 2]).x)
    point = {
        "a": beta[None, :1],
        "u": beta[None, 1:].abs().sqrt(),
        "v": beta[None, 1:].sign() * beta[None, 1:].abs().sqrt(),
    }
    assert kkt_residual(diagonal, data, point, DIAGONAL_RATES).worst.item() < 1e-5
    point["u"] = 1.3 * point["u"]
    assert kkt_residual(diagonal, data, point, DIAGONAL_RATES).worst.item() > 1e-2


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.5])
def test_one_sided_residual_is_wrong_at_a_kink_and_the_clarke_one_right(slope):
    """Two overlapping inputs of opposite labels push each unit onto the other one's kink. Where
    ``y_i a_j < 0`` the margin is concave in ``z_ij``, so the constraints are convex: CVXPY."""
    import cvxpy as cp

    X, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, -1.0])
    data, a = Data(torch.as_tensor(X), torch.as_tensor(y)), second_layer(2)
    model = lambda p, X: two_layer(p, X, slope=slope)  # noqa: E731
    W, c = cp.Variable((2, 2)), y[:, None] * a.numpy()
    z = X @ W.T
    leaky = cp.multiply(np.minimum(c, 0), cp.maximum(z, slope * z))
    q = cp.sum(cp.multiply(np.maximum(c, 0), z) + leaky, axis=1)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(W)), [q >= 1])
    point = 2**0.5 * torch.tensor([[[1.0, -1.0], [0.0, 1.0]]]).double()
    assert problem.solve(solver=cp.CLARABEL) == pytest.approx(point.square().sum().item(), 1e-6)
    finder = leaky_relu_kinks(data, a, slope)
    # which one-sided slope differentiation takes is chance: push the point to either side
    one_sided = []
    for push in (1e-12, -1e-12):
        near = {"W": point + push * torch.ones(2).double()}
        one_sided.append(kkt_residual(model, data, near, {"W": 1.0}).residual.item())
        assert kkt_residual(model, data, near, {"W": 1.0}, kinks=finder).worst.item() < 1e-9
    assert min(one_sided) > 1e-2


@pytest.mark.parametrize("seed", range(3))
def test_smooth_polish_equals_the_reference_solvers(seed):
    data = separable_linear(60, 5, seed)
    rng = torch.Generator().manual_seed(seed)
    *_, flow = follow(
        linear,
        data,
        {"w": torch.randn(2, 5, generator=rng, dtype=torch.float64)},
        at=[50.0],
        stepper=Heun(1e-2),
    )
    limit = polish_smooth(linear, data, flow.params, {"w": 1.0})
    best, doubt = hard_margin(data), 3 * limit.certificate.worst.max().item()
    assert limit.certified.all() and limit.margin.tolist() == pytest.approx(
        [best.value] * 2, rel=doubt + best.gap + 1e-12
    )
    data = gaussian_labels(10, 3, seed)
    X = data.X.clone()
    X[:, 0] = data.y * (1 + X[:, 0].abs())
    data = Data(X, data.y)
    ends = []
    for _ in range(2):
        draw = lambda k: torch.randn(1, k, generator=rng, dtype=torch.float64)  # noqa: E731
        begin = {"a": draw(1), "u": draw(2), "v": draw(2)}
        (state,) = follow(diagonal, data, begin, at=[100.0], stepper=Far())
        ends.append(state.params)
    flow = {name: torch.cat([end[name] for end in ends]) for name in ends[0]}
    limit = polish_smooth(diagonal, data, flow, DIAGONAL_RATES)
    assert (limit.angle < 0.05).all()
    assert limit.certified.all(), limit.reason
    best, doubt = (
        block_norm(data, [1, 2, 2]),
        6 * limit.certificate.worst.max().item(),
    )  # a squared
    assert (limit.params["a"] ** 2).squeeze(1).tolist() == pytest.approx(
        [best.value] * 2, rel=doubt + best.gap + 1e-12
    )


def test_no_limit_is_claimed_where_the_top_block_is_not_needed():
    data = Data(torch.tensor([[0.1, 1.0], [-0.2, 1.0]]).double(), torch.ones(2).double())
    model = lambda p, X: p["a"] * X[:, 0] + p["u"] * p["v"] * X[:, 1]  # noqa: E731
    point = {
        name: torch.full((1, 1), v, dtype=torch.float64)
        for name, v in (("a", 0.5), ("u", 3.0), ("v", 3.0))
    }
    limit = polish_smooth(model, data, point, DIAGONAL_RATES)
    assert not limit.certified.any() and "Not certified" in limit.reason[0]


def test_limits_are_kept_and_said():
    data = separable_linear(60, 5, 0)
    *_, flow = follow(linear, data, {"w": torch.ones(1, 5, dtype=torch.float64)}, at=[50.0])
    short = polish_smooth(linear, data, flow.params, {"w": 1.0}, max_evaluations=1)
    assert not short.certified.any() and "Not certified" in short.reason[0]


def test_bad_arguments_raise():
    data = Data(torch.eye(2).double(), torch.ones(2).double())
    wrong_side = {"w": torch.tensor([[1.0, -1.0]]).double()}
    with pytest.raises(ValueError, match="separated"):
        kkt_residual(linear, data, wrong_side, {"w": 1.0})
    with pytest.raises(ValueError, match="separated"):
        polish_smooth(linear, data, wrong_side, {"w": 1.0})
    good = {"w": torch.ones(1, 2).double()}
    with pytest.raises(ValueError, match="kinks"):
        kkt_residual(linear, data, good, {"w": 1.0}, kinks=lambda at, J: [])
    with pytest.raises(ValueError, match="zero"):
        kkt_residual(linear, data, good, {"w": 0.0})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_nested_programme_satisfies_its_optimality_conditions(seed):
    rng = np.random.default_rng(seed)
    k, K = int(rng.integers(1, 5)), int(rng.integers(0, 6))
    M, sample = rng.standard_normal((k + K + 2, k + K)), rng.integers(0, k, K)
    gram, linear_term = M.T @ M, rng.standard_normal(k + K)
    x = nested_qp(gram, linear_term, k, sample)
    value = lambda v: 0.5 * v @ gram @ v - linear_term @ v  # noqa: E731
    assert (x >= 0).all() and (x[k:] <= x[:k][sample]).all()
    for _ in range(100):
        mu = np.abs(x[:k] + rng.standard_normal(k) * rng.choice([1e-2, 1]))
        trial = np.r_[mu, rng.uniform(0, 1, K) * mu[sample]]
        assert value(trial) >= value(x) - 1e-7 * (1 + abs(value(x)))


def test_a_kink_generator_used_by_hand():
    """q_1 = min(z, 2 z) along e1 at z = 0 needs slope 1.5: gradient e2 + s e1 for s in [1, 2]."""
    data = Data(torch.tensor([[0.0, 1.0]]).double(), torch.ones(1).double())

    def model(p, X):
        z = p["w"][:, :1]
        return p["w"] @ X.T + torch.minimum(z, 2 * z) - 1.5 * z

    here = {"w": torch.tensor([[1e-15, 1.0]]).double()}  # one-sided gradient: (-0.5, 1)
    finder = lambda at, J: [Kinks(np.array([0]), np.array([[1.0, 0.0]]))]  # noqa: E731
    assert kkt_residual(model, data, here, {"w": 1.0}).residual.item() > 0.4
    found = kkt_residual(model, data, here, {"w": 1.0}, kinks=finder)
    assert found.worst.item() < 1e-9
