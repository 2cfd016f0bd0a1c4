"""The companion on collapse under the square loss: its claims on other seeds, what turns them,
what it relies on."""

import math

import numpy as np
import pytest
import torch

from qhlib import collapse
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "square_loss_collapse"


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
        {"seed": 42, "per_class": 15, "gap": 5.0, "overlap": 0.0, "decay": 0.2},
        {"seed": 2147483647, "per_class": 30, "gap": 2.5, "overlap": 1.0, "decay": 0.08},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    """But for data that are not fitted when the branches part, and move on."""
    found = verdicts(NAME, effort="smoke", **other)
    assert found.pop("frozen") in ("reproduced", "outside")
    assert set(found.values()) == {"reproduced"}


@pytest.mark.parametrize(
    "bad", [{"gap": 0.0}, {"overlap": 3.0}, {"decay": 0.0}, {"decay": 0.5}, {"per_class": 2}]
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", seed=1)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("np.expm1(2 * tau) / b**2", "np.expm1(2 * tau) / b"),
        ('"no decay": (0, 1, 1)', '"no decay": (0.1, 1, 1)'),
        ("predicted=[math.sqrt(m) / (m + lam)", "predicted=[math.sqrt(m) / (m + 2 * lam)"),
        ("math.sqrt(C - 1) * one_hot", "one_hot"),
    )
    assert {"clock", "frozen", "end", "floor"} <= found


def test_a_clock_of_steps_is_refuted():
    assert "clock" in deviating(("decay * w * rate * e / (1", "decay * rate / (1"))


def test_the_order_of_the_layers_decides():
    """With a ReLU everywhere nothing collapses on overlapping data; with BN alone all does."""
    ones = "torch.cat([torch.ones(n_starts), torch.zeros(n_starts)])"
    swapped = "torch.cat([torch.zeros(n_starts), torch.ones(n_starts)])"
    assert {"collapse", "stuck", "simplex"} <= deviating((ones, swapped))


# --- what the page relies on -------------------------------------------------------------------


def test_the_end_of_collapse_is_a_ridge_problem(page):
    m, lam, y = page["m"], 0.3, torch.tensor([1.0, -1.0]).double().repeat(6)
    u = torch.where(torch.arange(m) % 3 == 0, 1.0, -1.0).double()
    H = y[:, None] * u
    w = torch.linalg.solve(H.T @ H / 12 + lam * torch.eye(m).double(), H.T @ y / 12)
    assert w.norm().item() == pytest.approx(math.sqrt(m) / (m + lam))
    loss = (H @ w - y).square().mean().item()
    assert loss == pytest.approx((lam / (m + lam)) ** 2)


def test_equal_counts_are_a_simplex_and_unequal_ones_are_not(page):
    of = page["from_counts"]
    m, page_m = 30, page["m"]
    page["from_counts"].__globals__["m"] = m
    try:
        assert of(torch.tensor([10, 10, 10]))[0] < 1e-12
        assert of(torch.tensor([12, 10, 8]))[0] > 0.03
    finally:
        page["from_counts"].__globals__["m"] = page_m


@pytest.mark.parametrize("sets", [[0, 0, 1, 1], [0, 1, 2, 2]])
def test_memorised_sets_are_points_of_rest(page, sets):
    """Random partitions within classes, as in the proposition: no allowed gradient."""
    part, allowed_nc1 = page["allowed_part"](0.0)
    assert part < 1e-12 and allowed_nc1 > 0.05
    owner = torch.tensor(sets).repeat_interleave(5)
    classes = (torch.arange(20) >= 10).long()
    a = (owner[:, None] == torch.arange(9) % len(set(sets))).double()
    h = (a - a.mean(0)) / a.std(0, correction=0)
    measured = collapse.nc1(h.relu()[None], classes).item()
    assert (measured < 1e-12) == (len(set(sets)) == 2)


def test_the_pseudo_inverse_does_not_see_what_the_head_does_not(page):
    seen = page["seen"]
    bent = page["bent"]
    assert (seen.nc1_pinv[bent] < 0.1 * seen.nc1[bent]).all()
    assert np.isfinite(seen.nc1.numpy()).all()
