"""Quasi-homogeneity: identities at random parameters and rates, each against an independent
computation."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qhlib.data import Data
from qhlib.homogeneity import (
    euler_defect,
    gradient_defect,
    normalize,
    normalized_margin,
    psi,
    scaling_defect,
    seminorm_squared,
    top_rate,
    unit_margin,
)
from qhlib.margins import margins
from qhlib.models import (
    deep_relu,
    deep_relu_rates,
    deep_relu_shapes,
    diagonal,
    diagonal_rates,
    diagonal_shapes,
    draw,
    linear,
)
from qhlib.params import flatten, rates_vector

SEEDS = st.integers(0, 2**31 - 1)
SHIFTS = st.floats(-2.0, 2.0)
EXACT = 1e-12
DEPTHS = (1, 2, 3)


def inputs(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relu_net(seed: int, shares: list[float]):
    """A ReLU network with biases whose weights have the given rates; parameters of two seeds;
    inputs."""
    rates = deep_relu_rates([r / sum(shares) for r in shares])
    params = draw(deep_relu_shapes([3] + [6] * (len(shares) - 1) + [1]), n_seeds=2, seed=seed)
    X = inputs(8, 3, seed)
    assume(bool((deep_relu(params, X).abs().amax(1) > 0.1).all()))
    return params, rates, X


shares = st.lists(st.floats(0.1, 1.0), min_size=2, max_size=4)


@given(SEEDS, shares, SHIFTS)
@settings(max_examples=30, deadline=None)
def test_identities_hold_for_random_rates(seed, weights, a):
    params, rates, X = relu_net(seed, weights)
    assert scaling_defect(deep_relu, params, X, rates, a).max() < EXACT
    assert euler_defect(deep_relu, params, X, rates).max() < EXACT
    assert gradient_defect(deep_relu, params, X, rates, a).max() < EXACT


@given(SEEDS, shares, st.floats(0.01, 0.5), st.floats(0.2, 2.0))
@settings(max_examples=30, deadline=None)
def test_a_wrong_rate_shows_by_a_predicted_amount(seed, weights, error, a):
    """Without biases, an error e in one weight's rate turns e^a f into e^{a(1+e)} f: each defect
    is known."""
    params, rates, X = relu_net(seed, weights)
    params = {name: t for name, t in params.items() if name.startswith("W")}
    rates = {name: rate for name, rate in rates.items() if name.startswith("W")}
    assume(bool((deep_relu(params, X).abs().amax(1) > 0.1).all()))
    wrong = {**rates, "W2": rates["W2"] + error}
    scaling = torch.full((2,), math.expm1(a * error), dtype=torch.float64)
    euler = torch.full((2,), error, dtype=torch.float64)
    assert torch.allclose(scaling_defect(deep_relu, params, X, wrong, a), scaling, rtol=1e-9)
    assert torch.allclose(euler_defect(deep_relu, params, X, wrong), euler, rtol=1e-9)
    # grad f(psi_a theta) and its prediction differ by the same factor in every coordinate
    assert torch.allclose(gradient_defect(deep_relu, params, X, wrong, a), scaling, rtol=1e-9)


@given(SEEDS, shares)
@settings(max_examples=10, deadline=None)
def test_a_homogeneous_guess_is_caught_where_there_are_biases(seed, weights):
    params, rates, X = relu_net(seed, weights)
    # the last bias needs rate 1; near b_L = 0 and few layers the guess would be nearly right
    assume(bool((params[f"b{len(weights)}"].abs() > 0.1).all()))
    guess = dict.fromkeys(rates, 1 / len(weights))
    assert euler_defect(deep_relu, params, X, guess).max() > 1e-4
    assert scaling_defect(deep_relu, params, X, guess, 1.0).max() > 1e-4


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_euler_agrees_with_central_differences_along_the_characteristic_curve(seed):
    """d/da f(psi_a theta) at a = 0 is <Lambda theta, grad f>, whatever Lambda: no derivative is
    used here."""
    params = draw(diagonal_shapes(DEPTHS), seed=seed)
    X, model = inputs(5, 3, seed), partial(diagonal, depths=DEPTHS)
    generator = np.random.default_rng(seed)
    rates = {name: torch.tensor(generator.uniform(0, 1, t.shape[1])) for name, t in params.items()}
    h = 1e-5
    along = (model(psi(params, rates, h), X) - model(psi(params, rates, -h), X)) / (2 * h)
    f = model(params, X)
    numeric = ((along - f).abs().amax(1) / f.abs().amax(1)).item()
    assert euler_defect(model, params, X, rates).item() == pytest.approx(
        numeric, abs=1e-7, rel=1e-7
    )


@given(SEEDS, SHIFTS, SHIFTS)
@settings(max_examples=20, deadline=None)
def test_psi_is_a_flow(seed, a, b):
    params, rates = draw(diagonal_shapes(DEPTHS), n_seeds=2, seed=seed), diagonal_rates(DEPTHS)
    twice, once = psi(psi(params, rates, a), rates, b), psi(params, rates, a + b)
    assert torch.allclose(flatten(twice), flatten(once), rtol=1e-13)
    per_seed = psi(params, rates, torch.tensor([a, b], dtype=torch.float64))
    alone = psi(params, rates, b)  # other vector lanes: equal to rounding
    assert torch.allclose(per_seed["theta1"][1], alone["theta1"][1], rtol=1e-14, atol=0)


@given(SEEDS, st.floats(-30, 30))
@settings(max_examples=40, deadline=None)
def test_normalised_parameters(seed, log_scale):
    params, rates = draw(diagonal_shapes(DEPTHS), n_seeds=3, seed=seed), diagonal_rates(DEPTHS)
    params = {name: math.exp(log_scale) * t for name, t in params.items()}
    hat, tau = normalize(params, rates)
    assert torch.allclose(
        seminorm_squared(hat, rates), torch.ones(3, dtype=torch.float64), rtol=1e-11
    )

    X, model = inputs(6, 3, seed), partial(diagonal, depths=DEPTHS)
    f, expected = model(params, X), torch.exp(tau)[:, None] * model(hat, X)
    assert torch.allclose(f, expected, rtol=1e-11, atol=1e-11 * f.abs().max().item())

    again, zero = normalize(hat, rates)
    assert zero.abs().max() < 1e-11 and torch.allclose(flatten(again), flatten(hat), rtol=1e-11)
    # theta_hat names the curve, not the point on it
    moved, tau_moved = normalize(psi(params, rates, 1.7), rates)
    assert torch.allclose(flatten(moved), flatten(hat), rtol=1e-11)
    assert torch.allclose(tau_moved - tau, torch.full_like(tau, 1.7), rtol=1e-11, atol=1e-11)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_tau_agrees_with_a_library_root_of_its_definition(seed):
    params, rates = draw(diagonal_shapes(DEPTHS), seed=seed), diagonal_rates(DEPTHS)
    theta, lam = flatten(params)[0].numpy(), rates_vector(rates, params).numpy()

    def excess(tau: float) -> float:
        return float((lam * np.exp(-2 * lam * tau) * theta**2).sum() - 1)

    root = scipy.optimize.root_scalar(excess, bracket=(-30, 30), method="toms748", xtol=1e-13).root
    assert normalize(params, rates)[1].item() == pytest.approx(root, abs=1e-10)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_homogeneous_models_are_normalised_by_their_length(seed):
    """For Lambda = I/L, e^tau = (|theta|^2/L)^{L/2} in closed form: polar coordinates."""
    params = draw(deep_relu_shapes((3, 4, 4, 1), bias=False), n_seeds=2, seed=seed)
    rates = deep_relu_rates(3, bias=False)
    theta = flatten(params)
    hat, tau = normalize(params, rates)
    assert torch.allclose(tau, 1.5 * torch.log((theta**2).sum(1) / 3), rtol=1e-11, atol=1e-11)
    assert torch.allclose(
        flatten(hat), theta / theta.norm(dim=1, keepdim=True) * math.sqrt(3), rtol=1e-11
    )


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_characteristic_curves_cross_the_ellipsoids_at_right_angles(seed):
    params, rates = draw(diagonal_shapes(DEPTHS), seed=seed), diagonal_rates(DEPTHS)
    h = 1e-6
    tangent = (flatten(psi(params, rates, h)) - flatten(psi(params, rates, -h)))[0] / (2 * h)
    theta = flatten(params).requires_grad_()
    lam = rates_vector(rates, params)
    normal = torch.autograd.grad((lam * theta**2).sum() / 2, theta)[0][0]
    assert torch.allclose(tangent, normal, rtol=1e-8, atol=1e-8)


def test_seminorms_and_the_top_block():
    params = {"theta1": torch.tensor([[1.0, 2.0]], dtype=torch.float64)}
    params["theta2"] = torch.tensor([[3.0]], dtype=torch.float64)
    rates = diagonal_rates((1, 2))
    assert seminorm_squared(params, rates).item() == 1 + 0.5 * 4 + 0.5 * 9
    assert seminorm_squared(params, rates, top=True).item() == 1
    largest, mask = top_rate(params, rates)
    assert largest == 1 and mask.tolist() == [True, False, False]


@given(SEEDS, SHIFTS)
@settings(max_examples=20, deadline=None)
def test_margins_do_not_depend_on_the_place_on_the_curve(seed, a):
    """normalized_margin and unit_margin are functions of the characteristic curve alone."""
    X = inputs(6, 3, seed)
    params, rates = draw(diagonal_shapes(DEPTHS), n_seeds=2, seed=seed), diagonal_rates(DEPTHS)
    model = partial(diagonal, depths=DEPTHS)
    # labels by the first seed's scores, and that seed twice: separated by construction
    params = {name: t[:1].expand(2, *t.shape[1:]).clone() for name, t in params.items()}
    scores = model(params, X)[0]
    assume(bool(scores.abs().min() > 1e-3))
    data = Data(X, torch.sign(scores))
    moved = psi(params, rates, a)
    unit, unit_moved = (
        unit_margin(model, data, params, rates),
        unit_margin(model, data, moved, rates),
    )
    assert torch.allclose(
        margins(model, data, unit).amin(1), torch.ones(2, dtype=torch.float64), rtol=1e-11
    )
    assert torch.allclose(flatten(unit), flatten(unit_moved), rtol=1e-10)
    here, there = (normalized_margin(model, data, p, rates) for p in (params, moved))
    assert torch.allclose(here, there, rtol=1e-10)
    q, (_, tau) = margins(model, data, params), normalize(params, rates)
    assert torch.allclose(here, q.amin(1) * torch.exp(-tau), rtol=1e-12)
    smooth = normalized_margin(model, data, params, rates, smoothed=True)
    assert bool((smooth <= here + 1e-12).all())
    assert bool((smooth >= here - math.log(6) * torch.exp(-tau) - 1e-12).all())


def test_classes_have_margins_too():
    data = Data(torch.eye(3, dtype=torch.float64), torch.arange(3))
    params = {"w": 5 * torch.eye(3, dtype=torch.float64)[None]}
    unit = unit_margin(linear, data, params, {"w": 1.0})
    assert torch.allclose(unit["w"], torch.eye(3, dtype=torch.float64)[None])


def test_errors_say_what_is_wrong():
    params, rates = {"w": torch.zeros(1, 2, dtype=torch.float64)}, {"w": 1.0}
    with pytest.raises(ValueError, match="seminorm"):
        normalize(params, rates)
    with pytest.raises(ValueError, match="non-zero"):
        top_rate(params, {"w": 0.0})
    with pytest.raises(ValueError, match="negative"):
        psi(params, {"w": -1.0}, 1.0)
    with pytest.raises(ValueError, match="finite"):
        psi(params, {"w": math.nan}, 1.0)
    with pytest.raises(ValueError, match="rates are given for"):
        psi(params, {"v": 1.0}, 1.0)
    data = Data(torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    with pytest.raises(ValueError, match="not separated"):
        unit_margin(linear, data, {"w": -torch.ones(1, 2, dtype=torch.float64)}, rates)


def test_a_constant_block_may_have_any_rate_but_not_a_wrong_one():
    """Lambda is not unique: for w1 w2 x any lambda1 + lambda2 = 1 is right, and only those."""

    def product(p, X):
        return (p["u"] * p["v"]) @ X.T

    params, X = draw({"u": (2,), "v": (2,)}, seed=3), inputs(4, 2, 3)
    for first in (0.0, 0.1, 0.5, 1.0):
        assert euler_defect(product, params, X, {"u": first, "v": 1 - first}).item() < EXACT
        wrong = {"u": first, "v": 1.25 - first}
        assert euler_defect(product, params, X, wrong).item() == pytest.approx(0.25)
