"""The companion on the first step of gradient descent: its claims on other seeds, what turns them,
what it relies on."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.spectra import stable_rank
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "leaky_relu_one_step"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261126)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "gamma": 0.5, "n": 7},
        {"seed": 2147483647, "gamma": 0.05, "n": 60, "d": 100, "m": 51, "rate": 0.5},
        {"seed": 7, "gamma": 0.9, "n": 6, "d": 1000, "m": 500, "rate": 20.0},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) <= {"reproduced", "outside"}, found
    assert found["bound"] == found["limit"] == found["theorem"] == "reproduced"


@pytest.mark.parametrize("bad", [{"gamma": 1.0}, {"gamma": 0.0}, {"n": 5}, {"d": 50}, {"rate": 0}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", seed=1)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_a_kink_in_the_smooth_activation_turns_the_theorem():
    wrong = ("slope + (1 - slope) * torch.sigmoid(z)", "slope + (1 - slope) * (z > 0).to(z)")
    assert {"theorem", "first-step"} <= deviating(wrong)


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("(theta**2 + m) * (theta**2 + d) / theta**2", "theta**2 + m"),
        ("np.eye(n) + r**2 * np.outer(y, y)", "np.eye(n) + 2 * r**2 * np.outer(y, y)"),
        ("(1 + slopes) ** 2 / (4 * slopes)", "(1 + slopes) ** 1.9 / (4 * slopes)"),
        ("gamma * a.T * y[:, None])", "gamma**0.9 * a.T * y[:, None])"),
    )
    assert {"first-step", "theorem-kinked", "trajectory", "bound", "limit"} <= found


def test_the_arcsine_has_its_constant():
    assert "arcsine" in deviating(("/ (2 * math.pi) * angles", "/ (2.5 * math.pi) * angles"))


# --- what the page relies on -------------------------------------------------------------------


def test_smooth_activations_of_vanishing_starts_give_rank_one(page):
    """An identity, on any data: all rows are parallel."""
    W = 1e-12 * page["starts"]
    (C,) = page["descend"](W[:, :, : page["n"]], "smooth", [1])
    assert stable_rank(C).numpy() == pytest.approx(np.ones(len(W)), abs=1e-9)


def test_descent_is_that_of_automatic_differentiation(page):
    W = torch.randn(2, page["m"], page["n"], dtype=torch.float64)
    y, a = page["y"], page["a"]
    for kind in ("smooth", "kinked"):
        leaf = W.clone().requires_grad_()
        q = y * (a * page["activation"](leaf, page["gamma"], kind)[0]).sum(1)
        loss = torch.log1p(torch.exp(-q)).mean(1).sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
        (C,) = page["descend"](W, kind, [1])
        assert torch.allclose(C, -page["rate"] * gradient, rtol=1e-12, atol=1e-15)


def test_the_formula_for_orthonormal_inputs(page):
    frobenius, top = page["first_step"](torch.eye(20).double(), page["y"], "kinked")
    gamma = page["gamma"]
    closed = 40 * (1 + gamma**2) / (20 * (1 + gamma) ** 2 + (1 - gamma) ** 2)
    assert frobenius / top == pytest.approx(closed, rel=1e-12)
    smooth = page["first_step"](torch.eye(20).double(), page["y"], "smooth")[1]
    expected = page["rate"] * (1 + gamma) / (4 * math.sqrt(20))
    assert math.sqrt(smooth) == pytest.approx(expected, rel=1e-12)
