"""Nearly homogeneous networks: constants against closed forms, polynomials against their equation,
kinks against KKT."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.data import Data
from qhlib.limits import kkt_residual
from qhlib.margins import hessian, margins
from qhlib.models import apply, draw
from qhlib.near_homogeneity import (
    ACTIVATIONS,
    Order,
    activation_constants,
    activation_defect,
    activation_kinks,
    degree_defect,
    derivative,
    homogenization_bound,
    mish,
    modified_margin,
    polynomial,
)
from qhlib.params import flatten


def two_layer(params, X, phi):
    z = apply(params["W"], X) + params["b"][:, None]
    return (phi(z) * params["a"][:, None]).sum(-1) + params["c"][:, None]


SHAPES = {"W": (4, 3), "b": (4,), "a": (4,), "c": ()}


@pytest.mark.parametrize(
    ("name", "kappa"),
    [
        ("GELU", 2 / (math.e * math.sqrt(2 * math.pi))),
        ("SiLU", 0.439229),
        ("softplus", math.log(2)),
        ("Mish", 0.477897),
    ],
)
def test_constants_of_the_activations(name, kappa):
    phi, found = ACTIVATIONS[name], activation_constants(ACTIVATIONS[name])
    assert found.kappa == pytest.approx(kappa, abs=1e-6)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    # |phi - relu| is the integral of the defect along the ray
    assert (phi(z) - torch.relu(z)).abs().max() <= found.kappa + 1e-9
    assert phi(z).min() >= found.floor - 1e-9
    slopes, (low, high) = derivative(phi, z), found.slopes
    assert low - 1e-9 <= slopes.min() and slopes.max() <= high + 1e-9
    assert activation_defect(ACTIVATIONS[name], z).abs().max() <= found.kappa + 1e-12


def test_mish_is_torchs_and_has_second_derivatives_far_out():
    z = torch.linspace(-20, 20, 801, dtype=torch.float64)
    assert torch.allclose(mish(z), torch.nn.functional.mish(z), atol=1e-14)
    far = torch.tensor([-1e4, 1e4], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(mish(far).sum(), far, create_graph=True)
    assert torch.isfinite(torch.autograd.grad(first.sum(), far)[0]).all()


def test_orders_of_blocks():
    dense, phi, skip = Order(1, 1), Order(0, 1), Order(0, 1)
    branch = dense.after(phi).after(dense)
    assert branch.plus(skip) == Order(2, 1)
    assert dense.after(branch.plus(skip)).after(dense) == Order(4, 1)
    assert branch.times(dense) == Order(3, 2)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31 - 1),
    name=st.sampled_from(sorted(ACTIVATIONS)),
    size=st.floats(0.1, 1e3),
)
def test_defect_and_homogenisation_stay_under_their_polynomials(seed, name, size):
    phi = ACTIVATIONS[name]
    params = draw(SHAPES, 2, seed, scale=size)
    X = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    rho = flatten(params).norm(dim=1)
    p_prime = [0.0, math.sqrt(4 * activation_constants(phi).kappa ** 2 + 1)]
    bound = polynomial(p_prime, rho)[:, None]
    assert (
        degree_defect(partial(two_layer, phi=phi), params, X, 2).abs() <= bound * (1 + 1e-9)
    ).all()
    homogeneous = two_layer(params | {"c": 0 * params["c"]}, X, torch.relu)
    distance = (two_layer(params, X, phi) - homogeneous).abs()
    assert (
        distance <= polynomial(homogenization_bound(p_prime, 2), rho)[:, None] * (1 + 1e-9)
    ).all()


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5), st.integers(0, 3), st.floats(0.1, 10))
def test_gap_solves_its_differential_equation(defect, above, rho):
    degree = len(defect) + above
    p_a = homogenization_bound(defect, degree)
    slope_of_gap = sum(i * c * rho**i for i, c in enumerate(p_a))
    expected = degree * polynomial(p_a, np.float64(rho)) - polynomial(defect, np.float64(rho))
    assert slope_of_gap == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_too_high_a_defect_is_refused():
    with pytest.raises(ValueError, match="at most 1"):
        homogenization_bound([0.0, 0.0, 1.0], 2)


def test_modified_margin_of_an_exactly_homogeneous_model_is_the_smoothed_one():
    ell, rho = torch.tensor([3.0, 8.0]), torch.tensor([1.0, 2.0])
    assert modified_margin(ell, rho, [0.0], 2).tolist() == [3.0, 2.0]


def test_kinks_make_a_parked_relu_a_kkt_point():
    """Two points at an acute angle: at the optimum each unit is parked on the other's point, with
    slope cos."""
    cos = 0.3
    sin = math.sqrt(1 - cos**2)
    X = torch.tensor([[1.0, 0.0], [cos, sin]], dtype=torch.float64)
    data = Data(X, torch.tensor([1.0, -1.0], dtype=torch.float64))

    def model(params, X, phi):
        return (phi(apply(params["W"], X)) * params["a"][:, None]).sum(-1)

    W = torch.tensor([[[1.0, -cos / sin], [0.0, 1 / sin]]], dtype=torch.float64)
    length = W.norm(dim=2).sqrt()
    params = {"W": W / length[..., None], "a": length * torch.tensor([1.0, -1.0])}
    homogeneous = partial(model, phi=torch.relu)
    rates = {"W": 0.5, "a": 0.5}
    assert torch.allclose(
        margins(homogeneous, data, params), torch.ones(1, 2, dtype=torch.float64)
    )
    found = kkt_residual(
        homogeneous, data, params, rates, kinks=activation_kinks(model, data, 1e-9)
    )
    assert found.residual.item() < 1e-9
    # with an obtuse angle the same construction would need the slope cos < 0: not Clarke, but in
    # the range of phi'
    cos = -0.1
    sin = math.sqrt(1 - cos**2)
    X = torch.tensor([[1.0, 0.0], [cos, sin]], dtype=torch.float64)
    data = Data(X, data.y)
    W = torch.tensor([[[1.0, -cos / sin], [0.0, 1 / sin]]], dtype=torch.float64)
    length = W.norm(dim=2).sqrt()
    params = {"W": W / length[..., None], "a": length * torch.tensor([1.0, -1.0])}
    clarke = kkt_residual(
        homogeneous, data, params, rates, kinks=activation_kinks(model, data, 1e-9)
    )
    wider = kkt_residual(
        homogeneous,
        data,
        params,
        rates,
        kinks=activation_kinks(
            model, data, 1e-9, activation_constants(ACTIVATIONS["GELU"]).slopes
        ),
    )
    assert clarke.residual.item() > 1e-2 and wider.residual.item() < 1e-9


def test_kinks_want_one_layer_of_activations():
    data = Data(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    finder = activation_kinks(lambda p, X, phi: phi(phi(p["w"] @ X.T)), data, 1.0)
    with pytest.raises(ValueError, match="has 2"):
        finder({"w": torch.ones(1, 1, dtype=torch.float64)}, torch.zeros(1, 1, 1))


def test_hessian_of_a_mish_network_is_finite_far_out():
    data = Data(torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    params = draw(SHAPES, 1, 0, scale=1e4)
    assert torch.isfinite(hessian(partial(two_layer, phi=mish), data, params)).all()
