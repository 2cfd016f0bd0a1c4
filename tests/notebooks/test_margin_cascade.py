"""The companion on the cascade: what it relies on, its claims on other seeds, what turns them."""

import math

import numpy as np
import pytest
import torch

from qhlib import convex
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import Data
from qhlib.flow import Far, follow
from qhlib.models import diagonal_weights
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "margin_cascade"
# pictures take longer than the flows; no claim needs them
QUICK = [
    ('chapter.glue("cascade-picture", picture())\n', ""),
    ("[frame(r) for r in frame_radii]", "[plt.figure() for r in frame_radii]"),
    ("draw_rates()\nplots.show()", ""),
    ("draw_speeds()\nplots.show()", ""),
    ("panels[0].legend()\nplots.show()", ""),
]


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke")


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize("seed", [42, 20261126, 2147483647])
def test_other_seeds_reproduce_every_claim(seed):
    found = verdicts(NAME, QUICK, effort="smoke", seed=seed)
    assert set(found.values()) == {"reproduced"}, found


def test_other_centres_reproduce_every_claim():
    centre = {"centre": [0.5, 0.6, 0.6], "radii": [0.3, 0.97], "ell": 3e5, "start": 2.0}
    found = verdicts(NAME, QUICK, effort="smoke", **centre)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    "bad",
    [
        {"radii": [0.5, 0.4]},
        {"radii": [0.5, 0.5]},
        {"radii": [1.0]},
        {"centre": [0.8, 0.5]},
        {"centre": [0.8, 0.5, 0.0]},
        {"start": 0.1},
        {"ell": 100.0},
        {"effort": "quick"},
    ],
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what the page relies on -------------------------------------------------------------------


def test_the_flow_is_the_engine_s(page):
    """The page's three equations against the network of six factors, by the book's engine."""
    radius, ells, theta = 0.45, [1e2, 1e4], np.array([1.1, 1.0, 1.2])

    def model(params, X):
        beta = diagonal_weights(params, depths=(1, 2, 3))
        size = radius * beta.norm(dim=-1, keepdim=True)
        return beta @ X.T - size - torch.log1p(-torch.exp(-2 * size)) + torch.log(2 * size)

    factors = {f"theta{j + 1}": torch.as_tensor(theta[j:])[None] for j in range(3)}
    data = Data(torch.as_tensor(page["mu"])[None], torch.ones(1, dtype=torch.float64))
    states = list(follow(model, data, factors, at=ells, stepper=Far()))
    betas = np.stack([diagonal_weights(s.params, depths=(1, 2, 3))[0].numpy() for s in states])
    assert page["flow"](radius, ells, theta) == pytest.approx(betas, rel=1e-5)


def test_the_price_is_the_speed(page):
    """The proposition, at a point of the flow: the KKT equations with the flow's own speeds."""
    radius, ell, theta = 0.4, 300.0, np.array([1.0, 1.3, 1.1])
    below, beta, above = page["flow"](radius, [ell * 0.999, ell, ell * 1.001], theta)
    speeds = np.log(above / below) / math.log(1.001 / 0.999)
    prices = speeds * 2 / page["depths"] * beta ** (2 / page["depths"] - 1)
    pull = prices / page["loss_and_pull"](beta, radius)[1]
    assert pull == pytest.approx(np.full(3, pull[0]), rel=1e-5)


def test_the_limits_are_the_cascade_s(page):
    """The closed form against a cone programme on the blocks that are left."""
    for radius in (0.2, 0.45, 0.8):
        k = page["discarded"](radius)
        left = page["mu"][k:]
        beta = convex.ball_norm(left, radius, page["depths"][k:].tolist()).x
        room = beta @ left / np.linalg.norm(beta) - radius
        assert page["limit"](radius) == pytest.approx(room, abs=1e-4)


def test_the_bumps_touch_zero_from_both_sides(page):
    for tail in (page["M2"], page["M3"]):
        for factor in (1 - 1e-8, 1, 1 + 1e-8):
            assert abs(page["limit"](factor * tail)) < 3e-4


def test_the_path_tends_to_the_cascade(page):
    """The theorem, and the two exponents of the approach and the touching, far out."""
    law, robustness, limit = page["law"], page["robustness"], page["limit"]

    def power(radius, ell, away):
        ends = [robustness(law(radius, e), radius) - away for e in (ell, 10 * ell)]
        return math.log10(ends[1] / ends[0])

    middle = math.sqrt(page["M2"] * page["M3"])
    assert power(middle, 1e9, limit(middle)) == pytest.approx(-1 / 3, abs=0.01)
    assert power(page["M2"], 1e5, 0) == pytest.approx(-1 / 2, abs=0.01)
    assert power(page["M3"], 1e9, 0) == pytest.approx(-1 / 5, abs=0.01)


def test_a_guess_is_needed_and_checked(page):
    check = page["check"]
    assert "guess first" in check(None, 0.45)
    assert check((1, page["limit"](0.45)), 0.45).startswith("Right")
    assert check((2, 0.1), 0.45).startswith("No: 1")


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations, **parameters) -> set[str]:
    found = verdicts(NAME, [*QUICK, *mutations], effort="smoke", **parameters)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_wrong_exponents_turn_the_claims_on_the_law():
    """The deep coefficients at the price of one deeper, |beta|^(2/(D+1))."""
    wrong = "ball_path_point(mu, radius, depths + (depths > 1), ell"
    wrong = ("ball_path_point(mu, radius, depths, ell", wrong)
    assert {"robustness", "approach", "touches-zero", "speeds"} <= deviating(wrong)


def test_another_network_turns_the_claims_on_the_flow():
    """A flow in which the factors of the second coordinate learn three times as fast."""
    fast = "np.cosh(clock) * g * [1, 3, 1] / (depths @ (g**2 * [1, 3, 1]))"
    wrong = ("np.cosh(clock) * g / (depths @ g**2)", fast)
    proved = ("    assert beta[1] <= ", "    assert beta[1] > 0 * ")
    assert {"robustness", "approach", "outgrown"} <= deviating(wrong, proved)


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("np.vectorize(discarded)(kept", "np.vectorize(lambda r: 2 - discarded(r))(kept"),
        ("return law(radius, ell, tuple(speeds))", "return law(radius, ell, tuple(1 / speeds))"),
        ("(2 / 3) * beta[2] ** (-1 / 3)", "(1 / 3) * beta[2] ** (-1 / 3)"),
        ('"sample", predicted=by_law', '"sample", predicted=corners'),
    )
    assert {"discarded", "speeds", "sample"} <= found


def test_wrong_prices_turn_the_outgrown_and_the_sample():
    multiplier = ("(2 / 3) * beta[2] ** (-1 / 3)", "beta[2] ** (-1 / 3)")
    points = ("path_point(data, layers, sample_ell)", "path_point(data, [1, 1, 3], sample_ell)")
    assert {"outgrown", "sample"} <= deviating(multiplier, points)


def test_the_memory_of_the_logarithm_is_needed():
    """Without the slow growth of what is discarded the approach has another exponent."""
    assert "approach" in deviating(("np.log(1.05), 1 / np.log(ell))", "np.log(1.05), 1.0)"))


def test_a_flow_that_is_lost_is_an_error():
    with pytest.raises(RuntimeError, match="was lost"):
        verdicts(NAME, [*QUICK, ("rtol=1e-9, atol=1e-12", "rtol=1e-1, atol=1e-1")], effort="smoke")
    with pytest.raises(RuntimeError, match="work"):
        verdicts(NAME, [*QUICK, ("evaluations > 200_000", "evaluations > 100")], effort="smoke")
