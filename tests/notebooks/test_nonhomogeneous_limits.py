"""The companion on the trap and the groove: its claims on other seeds, what turns them, its
proofs in numbers."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.margins import log_inverse_loss, margins, negative_gradient
from qhlib.near_homogeneity import ACTIVATIONS
from qhlib.params import flatten
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "nonhomogeneous_limits"


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
        {"seed": 42, "n": 4, "most_units": 8, "unit_p": 3.0, "unit_z": 3.0},
        {"seed": 2147483647, "n": 12, "cosines": [-0.5, -0.11, 0.5], "unit_p": 0.5, "unit_z": 0.0},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


def test_where_every_cosine_is_left_out_nothing_is_claimed():
    found = verdicts(NAME, effort="smoke", cosines=[0.0])
    assert {name for name, verdict in found.items() if verdict == "outside"} == {
        "margin",
        "readings",
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"cosines": [-1.0]},
        {"cosines": [0.1, -0.1]},
        {"most_units": 1},
        {"n": 3},
        {"unit_z": -1.0},
        {"unit_z": 1.5},
        {"unit_p": 0.0},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", most_units=3, cosines=[-0.2, -0.09])
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run. Any sign instead of one, a power of three, a start with
    both signs, a slope on the wrong point, a margin without its root, another formula."""
    signs = "torch.tensor([[1.0, 1.0, -1.0, -1.0, -1.0]]).double()"
    found = deviating(
        ('(params["a"] < 0).all(1)).numpy()', '(params["a"] < 0).any(1)).numpy()'),
        ("law = 2.0 ** (1 - numbers)", "law = 3.0 ** (1 - numbers)"),
        ('(begin["a"].abs() + 0.5), "b": begin["b"] - 0.5', f'{signs}, "b": begin["b"]'),
        ("np.r_[own - s * other, s * own - other]", "np.r_[own - s * other, own - other]"),
        ("return 0.25 * math.sqrt(1 - s**2) if", "return 0.25 * (1 - s**2) if"),
        ("abs(s) / math.sqrt(2 - s**2) if place", "abs(s) / math.sqrt(1 - s**2) if place"),
    )
    assert found == declared(NAME)


def test_without_the_jump_the_margins_are_others():
    assert {"margin", "readings"} <= deviating(
        ("s > min(constants[name].slopes[0], 0.0)", "s > 0")
    )


def test_clarkes_slopes_do_not_do():
    assert "readings" in deviating(
        ("residual(s, last[3], constants[name].slopes)", "residual(s, last[3], (0.0, 1.0))")
    )


# --- what the page relies on -------------------------------------------------------------------


def test_one_sign_never_strongly_separates(page):
    """The proposition, on random networks whose output weights are negative."""
    rng = torch.Generator().manual_seed(3)
    points = page["sphere"]
    for name, phi in ACTIVATIONS.items():
        for scale in (0.3, 3.0, 30.0):
            shapes = {"W": (500, 5, 3), "b": (500, 5), "a": (500, 5), "c": (500,)}
            params = {k: scale * torch.randn(s, generator=rng).double() for k, s in shapes.items()}
            params["a"] = -params["a"].abs()
            model = lambda p, X, phi=phi: page["network"](p, X, phi)  # noqa: E731
            ell = log_inverse_loss(margins(model, points, params))
            floor = min(page["constants"][name].floor, 0.0)
            bound = math.sqrt(1 + 5 * floor**2) * flatten(params).norm(dim=1)
            assert (ell <= bound).all()
            assert abs(floor) <= page["constants"][name].kappa


def test_the_planar_equations_are_the_gradient(page):
    """(p, z) under the gradient of log(1/L), up to the time."""
    for s in (-0.3, -0.05, 0.4):
        points = page["two_points"](s)
        params = page["symmetric_start"](points, 1.3, 0.4)
        for phi in ACTIVATIONS.values():
            model = lambda p, X, phi=phi: page["network"](p, X, phi)  # noqa: E731
            g = negative_gradient(model, points, params)[2][0]
            moved = points.X @ g[:2]  # dp, dz of the first unit
            own, other = page["slope_of"](phi, np.array([1.3, 0.4]))
            expected = 0.5 * np.array([own - s * other, s * own - other])
            assert moved.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_slopes_are_as_the_theorem_assumes(page):
    """For GELU, SiLU and Mish: at least a half on the right, one descent and one ascent."""
    right, left = np.linspace(0, 30, 3001), np.linspace(-12, 0, 4801)
    for name in ("GELU", "SiLU", "Mish"):
        phi = ACTIVATIONS[name]
        assert page["slope_of"](phi, right).min() >= 0.5 - 1e-12
        signs = np.sign(np.diff(page["slope_of"](phi, left[left > -8])))
        assert (np.diff(signs) != 0).sum() == 1 and signs[0] < 0 < signs[-1]
        assert abs(page["constants"][name].slopes[0]) < 0.5


def test_clarkes_residual_is_a_minimum_over_slopes_and_multipliers():
    for s in (-0.05, -0.12):
        c = math.sqrt(1 - s**2)
        mu, sigma = np.meshgrid(np.linspace(0, 2, 4001), np.linspace(0, 1, 101))
        gap = 1 - 2 * mu * c + mu**2 * (1 - 2 * sigma * s + sigma**2) + (1 - mu * c) ** 2
        assert math.sqrt(gap.min() / 2) == pytest.approx(abs(s) / math.sqrt(2 - s**2), rel=1e-4)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(-0.119, None) and "Choose" in check(0.2, ["GELU"])
    assert check(-0.119, ["GELU"]).startswith("right")
    assert check(-0.119, ["GELU", "SiLU"]).startswith("not yet")
    assert check(-0.05, ["GELU", "SiLU", "Mish"]).startswith("right")
    assert "none stay" in check(-0.3, ["GELU"])
