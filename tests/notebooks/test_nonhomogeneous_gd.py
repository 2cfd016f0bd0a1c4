"""The lead notebook on networks that are not homogeneous: its claims on other seeds, what turns
them, the inequalities it relies on."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.margins import loss_weights, negative_gradient
from qhlib.models import draw
from qhlib.near_homogeneity import ACTIVATIONS, degree_defect
from qhlib.params import flatten
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "nonhomogeneous_gd"
CLARKE = {"clarke-gelu", "clarke-silu", "clarke-mish"}  # deviations that are declared


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def as_declared(found: dict[str, str]) -> bool:
    return {name for name, verdict in found.items() if verdict != "reproduced"} == CLARKE


def test_every_claim_is_declared_and_only_clarkes_reading_deviates(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert as_declared({name: claim.verdict for name, claim in claims.items()})
    assert all(claims[name].expected_deviation for name in CLARKE)
    law = abs(page["cosine"]) / math.sqrt(2 - page["cosine"] ** 2)
    for name in CLARKE:
        assert claims[name].measured == pytest.approx(law, rel=0.05)


@pytest.mark.parametrize("seed", [42, 2147483647])
def test_other_seeds_reproduce_every_claim(seed):
    found = verdicts(NAME, effort="smoke", seed=seed)
    assert as_declared(found), found


@pytest.mark.parametrize(
    "corner",
    [
        {"units": 4, "n": 4, "gap": 0.5, "start": 1.0, "cosine": -0.08, "widest": 2.0},
        {"units": 10, "n": 10, "gap": 0.1, "start": 0.3, "cosine": -0.02, "widest": 16.0},
    ],
)
def test_the_ends_of_the_ranges_reproduce_every_claim(corner):
    found = verdicts(NAME, effort="smoke", **corner)
    assert as_declared(found), found


@pytest.mark.parametrize(
    "bad",
    [
        {"units": 3},
        {"n": 11},
        {"gap": 0.0},
        {"start": -1.0},
        {"cosine": 0.1},
        {"cosine": -0.2},
        {"widest": 1.0},
        {"effort": "quick"},
        {"activations": ["ReLU"]},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run. A constant 5 % off, exponent 2.2, a factor of two, a dip
    a tenth too deep, a constant, Clarke's slopes, a network without its biases."""
    found = verdicts(
        NAME,
        [
            ("witness(phi, x, 1e4)", "witness(lambda z: 0.9 * phi(z), x, 1e4)"),
            ("(ell - c1 * rho) / rho**2", "(ell - c1 * rho) / rho**2.2"),
            ("predicted=[bend[run.name] / 2 for", "predicted=[bend[run.name] for"),
            (
                "first_constant(constants[name].floor, units)",
                "first_constant(1.1 * constants[name].floor, units)",
            ),
            ("math.sqrt(2) * rest[name]", "math.sqrt(1.7) * rest[name]"),
            ("readings = constants[run.name].slopes", "readings = (0.0, 1.0)"),
            ('if name in "aWb"', 'if name in "aW"'),
        ],
        effort="smoke",
    )
    assert {name for name, verdict in found.items() if verdict == "deviates"} == declared(NAME)


def test_the_plain_margin_falls_and_slopes_below_zero_satisfy_clarkes_claims():
    """Without its correction the margin is not monotone on two points; with slopes below zero the
    runs that Clarke's reading rejects are KKT points."""
    found = verdicts(
        NAME,
        [
            ("return (ell - c1 * rho) / rho**2", "return ell / rho**2"),
            ("readings = constants[run.name].slopes, (0.0, 1.0)", "readings = ((-0.2, 1.2),) * 2"),
        ],
        effort="smoke",
    )
    assert found["monotone"] == "deviates"
    assert {found[name] for name in CLARKE} == {"reproduced"}


# --- what the page relies on -------------------------------------------------------------------


def test_the_gap_to_the_homogenised_network_is_bounded(page):
    """Theorem, item 1, and the better constant of the remark."""
    shapes = page["shapes"] | {"v": (3,)}
    for name, phi in ACTIVATIONS.items():
        grid = torch.linspace(-30, 30, 60_001).double()
        delta = (phi(grid) - torch.relu(grid)).abs().max().item()
        assert delta <= page["constants"][name].kappa + 1e-12
        for scale in (0.1, 1.0, 30.0):
            params = draw(shapes, 50, 3, scale=scale)
            x = page["x"][None]
            gap = page["network"](params, x, phi) - page["homogenised"](params, x)
            bound = page["first_constant"](delta, page["units"], True) * flatten(params).norm(
                dim=1
            )
            assert (gap.abs()[:, 0] <= bound * (1 + 1e-9)).all()


def test_the_inequality_of_the_proof_holds_wherever_the_data_are_separated(page):
    """d ell / d log rho >= <g, theta> = 2 sum w q + weighted defect >= 2 ell - p'."""
    sphere, params = page["sphere"], draw(page["shapes"], 200, 5, scale=1.0)
    for name, phi in ACTIVATIONS.items():
        model = lambda p, X, phi=phi: page["network"](p, X, phi)  # noqa: E731
        q, ell, g = negative_gradient(model, sphere, params)
        theta = flatten(params)
        along, rho = (g * theta).sum(1), theta.norm(dim=1)
        defect = (loss_weights(q) * degree_defect(model, params, sphere.X, 2) * sphere.y).sum(1)
        weighted = 2 * (loss_weights(q) * q).sum(1) + defect
        assert torch.allclose(along, weighted)
        assert (along >= 2 * ell - page["c1"][name] * rho - 1e-9).all()


def test_the_needed_correction_makes_the_margin_level(page):
    ell, rho = np.array([10.0, 20.0, 45.0]), np.array([3.0, 4.0, 6.0])
    for k, alpha in enumerate(page["needed"](ell, rho)):
        margin = (ell - alpha * rho) / rho**2
        assert margin[k + 1] == pytest.approx(margin[k])


def test_a_bent_activation_has_its_constant(page):
    from qhlib.near_homogeneity import activation_constants

    kappa = page["constants"]["GELU"].kappa
    assert activation_constants(page["bent"](4.0)).kappa == pytest.approx(4 * kappa)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check("GELU", 50, None)
    assert "Choose" in check("softplus", 50, 0.5) and "Choose" in check("GELU", 0, 0.5)
    assert check("GELU", 50, 0.68).startswith("right")
    assert check("GELU", 50, 0.9).startswith("not yet")
