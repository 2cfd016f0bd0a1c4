"""Margins, their loss and their derivatives against definitions, finite differences and mpmath."""

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.data import Data, gaussian_labels
from qhlib.margins import (
    hessian,
    jacobian,
    log_inverse_loss,
    loss_weights,
    margins,
    negative_gradient,
)
from qhlib.params import flatten, unflatten


def net(params, X):
    """Smooth and nonlinear, with a block that is not used at all."""
    return torch.einsum("sj,sjn->sn", params["a"], torch.tanh(params["W"] @ X.T))


def classifier(params, X):
    return torch.tanh(X @ params["W"].mT)


def params_for(model, seeds, seed=0):
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(seeds, *shape, generator=rng, dtype=torch.float64)  # noqa: E731
    return (
        {"W": draw(3, 4)}
        if model is classifier
        else {"a": draw(3), "W": draw(3, 4), "unused": draw(2)}
    )


CASES = [
    (net, gaussian_labels(5, 4)),
    (classifier, Data(gaussian_labels(5, 4).X, torch.tensor([0, 1, 2, 2, 1]))),
]


@pytest.mark.parametrize(("model", "data"), CASES)
def test_derivatives_agree_with_finite_differences(model, data):
    params = params_for(model, 2)
    theta = flatten(params)
    q = lambda t: margins(model, data, unflatten(t, params))  # noqa: E731
    J, g = jacobian(model, data, params), negative_gradient(model, data, params)[2]
    single = {name: t[:1] for name, t in params.items()}
    H = hessian(model, data, single)
    h = 1e-6
    for j in range(theta.shape[1]):
        e = torch.zeros_like(theta)
        e[:, j] = h
        slope = (q(theta + e) - q(theta - e)) / (2 * h)
        torch.testing.assert_close(J[:, :, j], slope, rtol=1e-7, atol=1e-8)
        rise = (log_inverse_loss(q(theta + e)) - log_inverse_loss(q(theta - e))) / (2 * h)
        torch.testing.assert_close(g[:, j], rise, rtol=1e-7, atol=1e-8)
        ahead, behind = (
            negative_gradient(model, data, unflatten((theta + s * e)[:1], single))[2][0]
            for s in (1, -1)
        )
        torch.testing.assert_close(H[:, j], (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("model", "data"), CASES)
def test_gradient_is_the_weighted_jacobian_and_seeds_do_not_mix(model, data):
    params = params_for(model, 3)
    q, ell, g = negative_gradient(model, data, params)
    torch.testing.assert_close(
        g, torch.einsum("sk,skp->sp", loss_weights(q), jacobian(model, data, params))
    )
    for s in range(3):
        alone = negative_gradient(model, data, {name: t[s : s + 1] for name, t in params.items()})
        for together, one in zip((q, ell, g), alone, strict=True):
            torch.testing.assert_close(together[s : s + 1], one, rtol=1e-13, atol=1e-13)


def test_class_margins_are_differences_to_the_own_class():
    data = CASES[1][1]
    params = params_for(classifier, 2)
    scores, q = classifier(params, data.X), margins(classifier, data, params)
    for s in range(2):
        for n in range(5):
            own = int(data.y[n])
            expected = sorted(
                float(scores[s, n, own] - scores[s, n, c]) for c in range(3) if c != own
            )
            assert sorted(q[s, 2 * n : 2 * n + 2].tolist()) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e8, 1e8), min_size=1, max_size=6))
def test_log_loss_and_weights_far_below_the_smallest_float(q):
    with mpmath.workdps(60):
        terms = [mpmath.e ** (-mpmath.mpf(v)) for v in q]
        total = mpmath.fsum(terms)
        exact = float(-mpmath.log(total))
        shares = [float(t / total) for t in terms]
    t = torch.tensor([q], dtype=torch.float64)
    assert log_inverse_loss(t).item() == pytest.approx(exact, rel=1e-14, abs=1e-14)
    assert loss_weights(t)[0].tolist() == pytest.approx(shares, rel=1e-6, abs=1e-12)


def test_scores_of_the_wrong_shape_raise():
    data = gaussian_labels(4, 2)
    with pytest.raises(ValueError, match="S, n"):
        margins(lambda p, X: torch.ones(1, 4, 2), data, {})
    with pytest.raises(ValueError, match="S, n, C"):
        margins(lambda p, X: torch.ones(1, 4), Data(data.X, torch.zeros(4, dtype=torch.int64)), {})
    with pytest.raises(ValueError, match="one seed"):
        hessian(net, data, {"W": torch.ones(2, 3, 2), "a": torch.ones(2, 3)})
