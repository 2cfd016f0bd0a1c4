"""The companion on gradient descent: its claims on other seeds, what turns them, the frozen
map."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.params import flatten
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "nonhomogeneous_descent"


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
        {"seed": 42, "activation": "Mish", "cosine": -0.08, "image_classes": [0, 1]},
        {"seed": 2147483647, "activation": "SiLU", "cosine": -0.02, "n_images": 20},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) <= {"reproduced", "outside"}, found
    assert {name for name, verdict in found.items() if verdict == "outside"} <= {"images"}


@pytest.mark.parametrize(
    "bad",
    [
        {"image_classes": [3]},
        {"image_classes": [3, 3]},
        {"image_classes": [1, 2, 3]},
        {"image_classes": [3, 10]},
        {"activation": "softplus"},
        {"cosine": 0.1},
        {"n_images": 1},
        {"dataset": "mnist"},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke")
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_single_mistakes_turn_their_claims():
    """Steps a tenth too long, a wrong constant, a map of half the step, another end."""
    found = deviating(
        ("warm, pair_h, pair_steps)", "warm, 1.1 * pair_h, pair_steps)"),
        ("math.sqrt(2) * z_star", "1.2 * z_star"),
        ("q + h * K @ w", "q + 0.5 * h * K @ w"),
        ("residual(own_end)", "residual(far.params)"),
    )
    assert found == declared(NAME) - {"images"}


def test_steps_above_the_threshold_turn_the_claim_on_images():
    assert "images" in deviating(("0.4 * image_star)", "3.0 * image_star)"))


# --- what the page relies on -------------------------------------------------------------------


def test_the_threshold_is_that_of_the_linearised_map(page):
    rng = np.random.default_rng(3)
    J = rng.standard_normal((4, 6))
    K, w = J @ J.T, rng.dirichlet(np.ones(4))
    values = np.linalg.eigvals(K @ (np.diag(w) - np.outer(w, w)))
    assert page["threshold"](K, w) == pytest.approx(2 / values.real.max())


def test_the_frozen_map_on_two_equal_points_is_the_cycle(page):
    s = -0.3
    K = 0.5 * np.array([[1, -(s**2)], [-(s**2), 1]])
    for ratio in (0.5, 1.2, 1.9):
        swing, fall = page["frozen"](K, ratio * 8 / (1 + s**2), 6000)
        assert swing == pytest.approx(page["cycle"](ratio), abs=1e-6)
        assert fall == pytest.approx(0, abs=1e-9)


def test_the_descent_is_gradient_descent_on_the_loss(page):
    """One step is theta - eta grad L with eta = h / (L (1 + rho^2))."""
    begin = {name: t.clone() for name, t in page["begin"].items()}
    leaves = {name: t.clone().requires_grad_() for name, t in begin.items()}
    q = page["network"](leaves, page["pair"].X) * page["pair"].y
    loss = torch.exp(-q).sum()
    slopes = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()))])
    theta = flatten(begin)[0]
    eta = 0.7 / (loss.item() * (1 + theta.square().sum()))
    end = page["descend"](page["pair"], begin, np.array([0.7]), 1)[3]
    assert torch.allclose(flatten(end)[0], theta - eta * slopes, rtol=1e-12)


def test_the_gram_matrix_on_two_points_is_the_formula(page):
    """K of the flow's limit, entries one half and minus s^2 / 2."""
    s, rho = page["cosine"], 1e4
    u = torch.as_tensor(rho * page["u_star"])[None]
    W, a = u[:, :4].reshape(1, 2, 2), u[:, 4:]
    at = page["z_star"]
    W = W + at * torch.as_tensor(page["points"].flip(0))[None]  # parked on the other point
    K, _ = page["gram"](page["pair"], {"W": W, "a": a})
    assert K == pytest.approx(np.array([[1, -(s**2)], [-(s**2), 1]]) / 2, abs=1e-3)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(1.5, None) and "Choose" in check(9.0, 0.5)
    assert check(1.5, page["cycle"](1.5)).startswith("right")
    assert check(1.5, 0.1).startswith("not yet")
    assert math.isclose(page["cycle"](1.0), 0.0)
