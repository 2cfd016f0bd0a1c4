"""The lead notebook of part one: its identities, its claims on other seeds, what turns them."""

import math

import numpy as np
import pytest
import torch

from qhlib import convex
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import Data
from qhlib.margins import negative_gradient
from tests.notebooks.play import declared, namespace, notebook, play, verdicts

NAME = "asymmetric_margin"
# pictures take longer than flows, and no claim hangs on them
QUICK = [
    ('n_frames = {"smoke": 4', 'n_frames = {"smoke": 2'),
    ('paths = {"homogeneous": plane_flows(1), "quasi": plane_flows(2)}', "paths = {}"),
    *((f"draw_{what}()\n", "\n") for what in ("planes", "distances", "approach", "top_block")),
]
# a mutated law or limit must not make the rules refuse all data
ACCEPT = ("if settled and degrees(", "if True or degrees(")


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261126)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize("seed", [42, 2147483647, 987654321])
def test_other_seeds_reproduce_every_claim(seed):
    found = verdicts(NAME, QUICK, effort="smoke", seed=seed)
    assert set(found.values()) == {"reproduced"}, found


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations, **parameters) -> set[str]:
    found = verdicts(NAME, [*QUICK, *mutations], effort="smoke", **parameters)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_a_wrong_price_list_turns_the_claims_on_the_path_law():
    """A coefficient of depth D at the price s^(1/D) instead of s^(2/D)."""
    wrong = ("scale = ell**powers / ell**2", "scale = ell ** (powers / 2) / ell")
    assert {"kkt-limit", "path-law"} <= deviating(wrong, ACCEPT)


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        # a reference that is off by a thousandth
        ("kept.append((data, limit))", "kept.append((data, 1.001 * limit))"),
        ("degrees(convex.hard_margin(data).x, limit) for", "degrees(limit, limit) for"),
        ("limits = np.array([robustness(", "limits = np.array([1.06 * robustness("),
        ("predicted=A / (m - small_radius)", "predicted=A / m"),
        ("predicted=top_block_norm(", "predicted=1.05 * top_block_norm("),
    )
    assert {"kkt-certificate", "other-classifier", "ball-robustness"} <= found
    assert {"separability-holds", "separability-breaks"} <= found


def test_another_model_turns_the_claims_on_balls():
    """One parameter for each coefficient: the homogeneous flow."""
    found = deviating(
        ("diagonal_weights(polished.params", "diagonal_weights(states[-1].params"),
        (
            "partial(soft_margin, depths=(1, depth), radius=radius)\n    ball",
            "partial(soft_margin, depths=(1, min(depth, 1)), radius=radius)\n    ball",
        ),
        ("start(begin, (1, depth)), at=at", "start(begin, (1, 1)), at=at"),
        (
            "diagonal_weights(s.params, depths=(1, depth))",
            "diagonal_weights(s.params, depths=(1, 1))",
        ),
        (
            "normalize(state.params, diagonal_rates((1, 2)))[0] for",
            "normalize(state.params, {'theta1': 1.0})[0] for",
        ),
        (
            "early, last = skewness(kept_states[0]), skewness(kept_states[-1])",
            "early, last = 1, 0",
        ),
    )
    assert {"ball-robustness", "path-law", "separability-breaks", "kkt-certificate"} <= found


# --- preconditions -----------------------------------------------------------------------------


def test_a_radius_below_the_threshold_cancels_only_itself():
    claims = play(NAME, QUICK, effort="smoke", radii=[0.6, 0.9, 0.4])
    assert {claims["ball-robustness"].verdict, claims["path-law"].verdict} == {"reproduced"}
    assert claims["path-law"].entries == 1  # smoke follows every second one above m
    claims = play(NAME, QUICK, effort="smoke", radii=[0.4, 0.45])
    assert {claims["ball-robustness"].verdict, claims["path-law"].verdict} == {"outside"}
    assert claims["separability-breaks"].verdict == "reproduced"


@pytest.mark.parametrize(
    "bad",
    [
        {"radii": [0.6, 0.6]},
        {"radii": []},
        {"radii": [1.0]},
        {"tilt": 81.9},
        {"end": 100},
        {"points": 4},
        {"free": 1},
        {"shrink": 1.0},
        {"seed": 2**31},
        {"effort": "quick"},
        {"n_seeds": 3},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError):
        validate(notebook(NAME).declaration, bad)


# --- identities --------------------------------------------------------------------------------


def test_closed_form_against_a_cone_programme(page):
    mu = page["mu"]
    for radius in (0.52, 0.6, 0.75, 0.95):
        cone = convex.ball_norm(mu, radius, (1, 2)).x
        ours = page["closed_form"](radius)
        assert ours[0] == pytest.approx(cone[0], rel=1e-6)
        assert page["robustness"](ours, radius) == pytest.approx(
            page["robustness"](cone, radius), abs=1e-4
        )
        inner = math.sqrt(radius**2 - page["m"] ** 2)
        assert page["robustness"](ours, radius) == pytest.approx(
            inner / radius * (page["A"] - inner)
        )
        assert page["robustness"](ours, radius) <= 1 - radius


def test_robustness_vanishes_like_a_root_at_the_threshold(page):
    for delta in (1e-4, 1e-6):
        radius = page["m"] * (1 + delta)
        expected = page["A"] * math.sqrt(2 * delta)
        assert page["robustness"](page["closed_form"](radius), radius) == pytest.approx(
            expected, rel=0.02
        )


@pytest.mark.parametrize("depth", [2, 3])
def test_the_path_law_tends_to_the_closed_form(page, depth):
    limit = page["robustness"](page["closed_form"](0.6), 0.6)
    gaps = [abs(page["law_on_ball"](0.6, depth, ell) - limit) for ell in (1e3, 1e5, 1e7)]
    assert gaps[0] > 50 * gaps[1] > 2500 * gaps[2] and gaps[2] < 1e-6


def test_the_loss_of_the_ball_and_its_gradient(page):
    """Autograd, and a sphere that is integrated by quadrature."""
    beta, radius = np.array([1.3, 0.4]), 0.6
    value, slope = page["loss_on_ball"](radius)(beta)
    params = page["start"](beta, (1, 1))
    ball = Data(torch.tensor(page["mu"])[None], torch.ones(1).double())
    model = lambda p, X: page["soft_margin"](p, X, depths=(1, 1), radius=radius)  # noqa: E731
    q, ell, g = negative_gradient(model, ball, params)
    assert (ell.item(), *g[0].tolist()) == pytest.approx((value, *slope))
    height, weight = np.polynomial.legendre.leggauss(40)
    mean = 0.5 * weight @ np.exp(-radius * np.linalg.norm(beta) * height)
    assert value == pytest.approx(beta @ page["mu"] - math.log(mean))


def test_the_flow_conserves_differences_of_squares(page):
    first = page["start"](page["random_start"](2, 5), (1, 2))
    gap = lambda p: (p["theta1"][0, 1] ** 2 - p["theta2"][0, 0] ** 2).item()  # noqa: E731
    last = page["ball_flow"](0.6, 2, [100.0], page["random_start"](2, 5))[-1].params
    assert last["theta2"].abs().item() > 5 and gap(last) == pytest.approx(gap(first), abs=1e-2)


def test_one_function_with_a_top_block_as_small_as_one_likes(page):
    shares = [page["top_block_share"](u) for u in (1.0, 10.0, 100.0)]
    assert shares[0] == pytest.approx((math.sqrt(5) - 1) / 2) and shares[0] > shares[1] > shares[2]
    assert shares[2] == pytest.approx(2e-4, rel=1e-3)


def test_centred_coordinates_separate_nothing(page):
    for data, _ in page["datasets"]:
        below = Data(data.X[:, 1:], data.y)
        with pytest.raises(convex.SolverError):
            convex.hard_margin(below)
        assert (data.y @ data.X[:, 1:]).abs().max() < 1e-12


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check, radius = page["check_guess"], 0.65
    assert "guess" in check(radius, 3, None)
    assert "Choose" in check(0.3, 3, 0.1)
    right = page["robustness"](page["closed_form"](radius), radius)
    assert check(radius, 3, right).startswith("right")
    assert check(radius, 3, 1 - radius).startswith("not yet")
