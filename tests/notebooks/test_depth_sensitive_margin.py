"""The companion on depth: its claims on other seeds, what turns them, what it relies on."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "depth_sensitive_margin"


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
        {"seed": 42, "deep": 5, "need": 2.5, "width": 32},
        {"seed": 2147483647, "deep": 4, "need": 1.5, "width": 12},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize("bad", [{"deep": 2}, {"deep": 6}, {"need": 1.0}, {"width": 1}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    mutations = (
        ("order * rest ** (2 / order)", "order * rest ** (1.98 / order)"),
        ("constants.append((X.T @ prices,", "constants.append((1.001 * X.T @ prices,"),
        ("(offset - u * (X[0] @ offset), point", "(offset, point"),
        ("rest = q - deepest(trained, sectors.X) * sectors.y", "rest = q"),
        ("predicted=np.full(n_nets, entropy)", "predicted=np.zeros(n_nets)"),
    )
    found = verdicts(NAME, mutations, effort="smoke", seed=1)
    assert {name for name, verdict in found.items() if verdict == "deviates"} == declared(NAME)


def test_a_price_of_another_order_turns_the_switch():
    wrong = ("predicted=[(deep / 2) ** (deep / (deep - 2))", "predicted=[(deep / 2) ** 2")
    found = verdicts(NAME, [wrong], effort="smoke")
    assert [name for name, verdict in found.items() if verdict == "deviates"] == ["switch"]


# --- what the page relies on -------------------------------------------------------------------


def test_prices_by_brute_force(page):
    """All splits over a fine grid of three parts."""
    share = np.linspace(0, 1, 401)
    first, second = np.meshgrid(share, share)
    third = np.maximum(1 - first - second, 0)
    for beta in (0.5, 2.0, 4.0, 9.0):
        cost = (beta * first) ** 2 + 2 * beta * second + 3 * (beta * third) ** (2 / 3)
        cost = np.where(first + second <= 1, cost, np.inf)
        assert page["price"](beta, (1, 2, 3)) == pytest.approx(cost.min(), rel=2e-3)
        assert page["price"](beta, (1, 2, 3)) <= cost.min() + 1e-6


def test_the_price_of_order_one_and_two_is_elementary(page):
    for beta in (0.3, 1.0, 7.0):
        expected = beta**2 if beta < 1 else 2 * beta - 1
        assert page["price"](beta, (1, 2)) == pytest.approx(expected, rel=1e-6)


def test_vertices_are_feasible_and_hold_the_least_sum(page):
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(4, 2)) + [2.0, 0.0]
    found = page["vertices"](Z)
    assert (Z @ found.T >= 1 - 1e-8).all()
    beta, prices = page["least_l1"](Z, np.ones(4))
    assert np.abs(found).sum(1).min() == pytest.approx(np.abs(beta).sum())
    assert prices.sum() == pytest.approx(np.abs(beta).sum())


def test_no_function_that_scales_needs_less_bias(page):
    """The bound on any bias and any slopes on the rays."""
    rng = np.random.default_rng(4)
    r, R = rng.uniform(0.2, 0.6, (500, 3)), rng.uniform(1, 2, (500, 3))
    b, g = rng.uniform(1, 20, (500, 1)), -rng.uniform(0, 20, (500, 3))
    inner, outer = b + r * g, -b - R * g
    ell = -np.log((np.exp(-inner) + np.exp(-outer)).sum(1, keepdims=True))
    p = R / (R + r)
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert (b >= (R + r) / (R - r) * (ell + entropy) - 1e-9).all()


def test_the_bound_holds_all_along_the_training(page):
    assert (np.array(page["differences"]) > page["entropy"]).all()


def test_the_linear_part_fades_as_told(page):
    for order in (2, 3):
        norm, b = page["least_norm"](np.ones((1, 1)), 3000.0, (1, order))
        share = abs(b[0, 0]) / math.sqrt(norm)
        expected = order ** ((order - 2) / 2) * norm ** (-(order - 1) / 2)
        assert share == pytest.approx(expected, rel=0.02)


def test_descent_raises_the_loss_by_its_step(page):
    def ell(p):
        return -torch.logsumexp(-page["ensemble"](p, page["rings"].X) * page["rings"].y, 1)

    params = page["begin"](0.75)
    gradient = page["normalised"](page["rings"], 1e-4)(params, 0)
    after = {name: params[name] - gradient[name] for name in params}
    rise = ell(after) - ell(params)
    assert rise.tolist() == pytest.approx([1e-4] * len(rise), rel=0.05)
