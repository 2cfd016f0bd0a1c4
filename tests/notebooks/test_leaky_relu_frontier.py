"""The companion on the border of the leaky-ReLU theorem: what it relies on, its claims on other
seeds, what turns them."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import leaky_relu

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import nearly_orthogonal, orthogonality
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "leaky_relu_frontier"
# no claim needs a picture
QUICK = [
    ("[frame(gamma) for gamma in slopes]", "[plt.figure() for gamma in slopes]"),
    ("expand(40, -1, -1)", "expand(2, -1, -1)"),
]


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
        {"seed": 42, "pairs": 6},
        {"seed": 2147483647, "slopes": [0.1], "points": [8], "conflict_pairs": 12},
        {"seed": 7, "slopes": [0.45, 0.2], "points": [16], "pairs": 10, "conflict_pairs": 2},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, QUICK, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    "bad",
    [
        {"slopes": [0.6]},
        {"slopes": []},
        {"points": [7]},
        {"points": [6, 6]},
        {"pairs": 4},
        {"conflict_pairs": 1},
        {"effort": "quick"},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations, **parameters) -> set[str]:
    found = verdicts(NAME, [*QUICK, *mutations], effort="smoke", **parameters)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_another_network_turns_the_claims_on_flows():
    wrong = ("torch.where(z > 0, 1.0, gamma *", "torch.where(z > 0, 1.0, 0.5 * gamma *")
    assert {"border", "conflict"} <= deviating(wrong)


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("border_by_law(key[1], key[0])", "border_by_law(key[1], key[0] ** 1.5)"),
        ("as_assumed & (multipliers > 0).all(1)", "(multipliers > 0).all(1)"),
        ("(1 + g * (1 - 2 / n_conflict))", "(1 + g * (1 + 2 / n_conflict))"),
        ("conflict(1.03 * star)", "conflict(1.35 * star)"),
        ("np.where(patterns > 0, 1, ODD_GAMMA)", "np.where(patterns > 0, 1, 1.1 * ODD_GAMMA)"),
    )
    assert {"border", "certificate", "conflict", "rank-outlives", "optimal"} <= found


def test_the_law_of_one_point_needs_its_terms():
    """Without what the point gives back to itself, and for twice as many points."""
    assert "border" in deviating(("back = t * g2 / k", "back = 0.0"))
    assert "border" in deviating(
        ("border_by_law(key[1], key[0])", "border_by_law(2 * key[1], key[0])")
    )


def test_far_from_the_border_the_flow_misses_nothing():
    assert "missed" in deviating(("ODD_GAMMA = 6, 40, 0.3", "ODD_GAMMA = 6, 4000, 0.3"))


# --- what the page relies on -------------------------------------------------------------------


def test_the_factors_are_those_of_gaussian_data(page):
    """Means and variances of the Gram matrix, before the common length is taken out."""
    L = page["gaussian_factors"](5, 40, 4000, 9)
    assert L.square().sum(2).amax(1).numpy() == pytest.approx(np.ones(4000))
    gram = L @ L.mT
    cosine = gram[:, 0, 4] / (gram[:, 0, 0] * gram[:, 4, 4]).sqrt()
    assert cosine.mean().item() == pytest.approx(0, abs=0.01)
    assert cosine.square().mean().item() == pytest.approx(1 / 40, rel=0.1)
    assert gram[:, 0, 0].mean().item() == pytest.approx(gram[:, 4, 4].mean().item(), rel=0.02)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_the_border_of_the_worst_data(page, gamma):
    """The certificate on both sides of the formula, without a flow."""
    for n in (4, 12):
        star = 6 / gamma**2 / (1 + gamma * (1 - 2 / n))
        for factor, holds in ((0.999, True), (1.001, False)):
            data = nearly_orthogonal(n, n, gamma, factor * star, conflict=True)
            X = torch.linalg.cholesky(data.X @ data.X.T)[None]
            assert page["closed_form"](X, data.y, gamma, 2)[2].item() is holds
            assert orthogonality(X[0], gamma) == pytest.approx(1 / (factor * star))


def test_the_one_line_law_is_the_limit_of_the_law(page):
    gamma, n = 0.05, 12
    median = np.median(page["largest"](n))
    spread = (1 - gamma**2) / (gamma * (1 + gamma**2))
    line = n / 2 * (spread * median) ** 2
    assert math.exp(page["border_by_law"](n, gamma)) == pytest.approx(line, rel=0.02)


def test_the_lower_bound_is_a_bound(page):
    """Any multipliers, any feasible network: here the KKT points that the flows ended at."""
    rng = np.random.default_rng(1)
    y = page["labels"](6).numpy()
    for b, value in [pair for pair in page["ends"].items() if pair[1] == pair[1]][:3]:
        for _ in range(10):
            bound = page["lower_bound"](page["sets"][b].numpy(), y, rng.exponential(2, 6))
            assert bound <= value


def test_the_polish_is_next_to_the_flow(page):
    """One is found for most ends, a little below the flow's own norm at margin one."""
    y, gamma, found = page["labels"](6), page["ODD_GAMMA"], 0
    for b, value in page["ends"].items():
        W, X = page["outcome"].end[b], page["sets"][b]
        q = y * (page["second_layer"](len(W)) @ leaky_relu(W @ X.mT, gamma))
        gap = (W.square().sum() / q.min() ** 2).item() / value - 1
        assert not gap < -1e-6 and not gap > 0.021
        found += value == value
    assert found >= len(page["ends"]) / 2


def test_a_guess_is_needed_and_checked(page):
    assert "guess first" in page["check"](0.3, None)
    assert "Choose" in page["check"](0.9, 10)
    assert page["check"](0.3, math.exp(page["border_by_law"](12, 0.3))).startswith("Right")
    assert page["check"](0.3, 1000).startswith("No")
