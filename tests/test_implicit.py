"""The implicit followers against the explicit one, against exact limits, and caught off the curve."""

import pytest
import torch

from qhlib.affine import affine_margins, follow_affine
from qhlib.data import gaussian_labels, separable_linear
from qhlib.flow import follow
from qhlib.implicit import follow_far, follow_implicit
from qhlib.params import angle, flatten
from qhlib.reference import block_norm, hard_margin


def linear(params, X):
    return params["w"] @ X.T


def diagonal(params, X):
    return params["a"] * X[:, 0] + (params["u"] * params["v"]) @ X[:, 1:].T


def needs_first(seed, n=10):
    """Data that no direction without the first coordinate separates."""
    data = gaussian_labels(n, 3, seed)
    X = data.X.clone()
    X[:, 0] = data.y * (1 + X[:, 0].abs())
    return data._replace(X=X)


def diagonal_start():
    rng = torch.Generator().manual_seed(5)
    draw = lambda k: torch.randn(1, k, generator=rng, dtype=torch.float64)  # noqa: E731
    return {"a": draw(1), "u": draw(2), "v": draw(2)}


def start(seed, scale=1e-3):
    return {
        "w": scale * torch.randn(1, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    }


def test_implicit_is_explicit_at_moderate_loss():
    data = needs_first(0)
    *_, begin = follow(diagonal, data, diagonal_start(), at=[5.0], tol=1e-4)
    *_, explicit = follow(diagonal, data, begin.params, at=[20.0], tol=1e-6)
    *_, implicit = follow_implicit(diagonal, data, begin.params, at=[20.0], rtol=1e-8)
    assert explicit.reached and implicit.reached and implicit.ell.item() == pytest.approx(20.0, rel=1e-6)
    assert float(angle(flatten(explicit.params), flatten(implicit.params))) < 1e-5
    assert implicit.trust.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_affine_is_explicit_and_then_reaches_the_hard_margin(seed):
    data = separable_linear(200, 20, seed)
    best = hard_margin(data).value
    states = list(follow_affine(linear, data, start(seed), at=[5.0, 1e6, 1e8]))
    *_, explicit = follow(linear, data, start(seed), at=[5.0], tol=1e-4)
    assert float(angle(flatten(states[1].params), flatten(explicit.params))) < 1e-3
    for state in states[1:]:
        assert float(-torch.logsumexp(-state.margins, 1)) == pytest.approx(state.ell.item(), rel=1e-12)
        assert state.trust.item() == pytest.approx(1, abs=1e-3)
    gap = [1 - float(s.margins.min() / flatten(s.params).norm()) / best for s in states[2:]]
    assert states[-1].reached and 0 < gap[0] < 2e-6 and gap[1] == pytest.approx(gap[0] / 100, rel=0.1)


def test_affine_models_are_told_from_others():
    data = gaussian_labels(6, 3)
    w = {"w": torch.randn(1, 3, dtype=torch.float64)}
    assert affine_margins(lambda p, X: p["w"] @ X.T + 2, data, w) is not None
    for model in (
        lambda p, X: torch.relu(p["w"] @ X.T),
        lambda p, X: torch.maximum(p["w"] @ X.T, 0.9 * (p["w"] @ X.T)),
        lambda p, X: p["w"] ** 2 @ X.T,
        lambda p, X: torch.tanh(1e-3 * p["w"]) @ X.T,
    ):
        assert affine_margins(model, data, w) is None
        with pytest.raises(ValueError, match="affine"):
            next(follow_affine(model, data, w, at=[10.0]))


def test_diagonal_model_approaches_the_convex_solution_like_one_over_ell():
    data = needs_first(1)
    exact = torch.as_tensor(block_norm(data, [1, 2, 2]).x)[None]
    errors = []
    for state in list(follow_far(diagonal, data, diagonal_start(), at=[1e3, 1e5]))[1:]:
        p = state.params
        beta = torch.cat([p["a"], p["u"] * p["v"]], 1)
        errors.append(float((beta / state.margins.min() - exact).norm() / exact.norm()))
    assert errors[1] < errors[0] / 30 and errors[1] < 1e-3


@pytest.mark.parametrize("method", ["BDF", "LSODA"])
def test_the_guard_catches_a_solver_that_leaves_the_flow(method):
    """At rtol 1e-3 SciPy's solvers jump on this problem and report success; the clock gives it away."""
    data = separable_linear(200, 20, 1)
    states = list(follow_far(linear, data, start(1), at=[1e4, 1e8], rtol=1e-3, method=method))
    assert states[-1].reached is False and "left the flow" in states[-1].reason


def test_limits_and_bad_arguments():
    data, w = separable_linear(20, 20, 0), start(0, 1.0)
    *_, begin = follow(linear, data, w, at=[2.0])
    *_, late = follow_implicit(linear, data, begin.params, at=[1e12], max_seconds=0.0)
    assert late.reached is False and "max_seconds" in late.reason
    *_, late = follow_affine(linear, data, w, at=[1e12], max_seconds=0.0)
    assert late.reached is False and "max_seconds" in late.reason
    two = {"w": torch.cat([begin.params["w"]] * 2)}
    for wrong in ({"at": []}, {"at": [5.0, 4.0]}, {"at": [1.0]}, {"at": [9.0], "method": "Euler"}):
        with pytest.raises(ValueError):
            list(follow_implicit(linear, data, begin.params, **wrong))
    for follower in (follow_implicit, follow_affine):
        with pytest.raises(ValueError, match="seed"):
            list(follower(linear, data, two, at=[10.0]))
    for wrong in ([], [5.0, 4.0], [0.5]):
        with pytest.raises(ValueError):
            list(follow_affine(linear, data, w, at=wrong))
