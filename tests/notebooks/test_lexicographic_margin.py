"""The lead notebook on lexicographic margins: its identities, its claims on other seeds, what
turns them."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "lexicographic_margin"


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
        {"seed": 2147483647, "share": 0.6, "base": 1.1, "pull_2": 2.0, "pull_3": 6.0},
        {"seed": 42, "share": 0.5, "pull_2": 3.0, "pull_3": 3.0},  # b is zero
        {"seed": 7, "share": 0.2, "base": 1.5, "pull_2": 6.0, "pull_3": 2.0, "scale": 0.01},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    "bad",
    [
        {"share": 0.0},
        {"share": 1.0},
        {"base": 1.0},
        {"pull_2": 1.0},
        {"n_starts": 20},
        {"scale": 0},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations, **parameters) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", **parameters)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_a_solver_that_does_not_see_the_second_level_turns_the_paths():
    blind = ("w /= w.sum()\n            mean", "w = w * (w > 0.01) / w.sum()\n            mean")
    assert {"lexicographic", "first-order"} <= deviating(blind)


def test_another_network_turns_the_claims_on_flows():
    found = deviating(('params["v"]) @ rows.T', 'params["v"]) @ (rows + 0.3).T'))
    assert {"flow-margin", "flow-start"} <= found


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("return float(-(p[p > 0]", "return float(-1.1 * (p[p > 0]"),
        ("math.log(prices[m] / prices[n])", "math.log(prices[n] / prices[m])"),
        ("0.5 * math.sqrt(s / 3) / lam", "0.5 * (s / 3) ** 0.52 / lam"),
        ("+ change[0] - change[1]", "+ change[0] + change[1]"),
        ("2 / math.pi * np.arcsin(np.sqrt(x))", "1.0 * (x > B / (A + B))"),
        ("(pull_2 - pull_3) / Z.sum(0).max()", "(pull_2 - pull_3) / Z.sum(0).min()"),
    )
    wanted = {"lag", "first-order", "lambda-path", "leap", "flow-margin", "flow-start"}
    assert wanted | {"flow-ties", "flow-small"} <= found


def test_a_regularised_path_without_its_factor_two_is_another():
    found = deviating(("regularised(-math.log(2) - (R - H)", "regularised(-(R - H)"))
    assert "lambda-path" in found


# --- what the page relies on -------------------------------------------------------------------


def test_the_programmes_give_the_closed_form_of_ladders(page):
    rungs = [(0.0, 4.0, 4 / 3), (1.4, 2.0, 3.0), (3.0, 5.0, 4.0)]
    found = page["lexicographic"](page["ladder"](rungs))
    mass, rest = 1.0, 0.0
    for k, (c, A, B) in enumerate(rungs):
        assert found.beta[k] == pytest.approx(mass * B / (A + B), abs=1e-9)
        assert found.levels[k] == pytest.approx(c + mass * A * B / (A + B), abs=1e-9)
        assert found.multipliers[2 * k : 2 * k + 2] == pytest.approx([B / (A + B), A / (A + B)])
        # A b_k - B (b_{k+1} + ...) = log(A / B), and what is left has the sum of the rest
        b = (math.log(A / B) - B * rest) / (A + B)
        assert found.b[k] == pytest.approx(b, abs=1e-9)
        mass, rest = mass * A / (A + B), rest + b
    assert found.b.sum() == pytest.approx(0, abs=1e-12)


def test_the_star_has_its_formula(page):
    A, B, s = page["A"], page["B"], page["share"]
    f = B / (A + B)
    assert page["star"].beta == pytest.approx([s, (1 - s) * f, (1 - s) * (1 - f)], abs=1e-9)
    assert page["star"].levels == pytest.approx([1, page["base"] + (1 - s) * A * f], abs=1e-9)


def test_random_ladders_have_levels_far_enough_apart(page):
    for k in range(50):
        levels = page["lexicographic"](page["draw_ladder"](np.random.default_rng(k))).levels
        assert len(levels) == 3 and 0.79 < min(np.diff(levels)) and max(np.diff(levels)) < 1.11


def test_the_two_smallest_margins_obey_their_bounds(page):
    for rows, theory in zip(page["ladders"], page["solutions"], strict=True):
        best = np.sort(rows @ theory.beta)[:2]
        for R in (0.5, 2.0, 8.0):
            x = np.sort(rows @ page["least_loss"](rows, R))[:2]
            assert (x >= best - np.log([len(rows), len(rows) - 1]) / R - 1e-9).all()


def test_the_minimiser_beats_random_points(page):
    rng = np.random.default_rng(3)
    for R in (0.3, 3.0, 12.0):
        loss = lambda x: np.exp(-R * page["Z"] @ x.T).sum(0)  # noqa: E731, B023
        others = np.vstack([rng.dirichlet(np.ones(3), 2000), page["star"].beta])
        assert loss(page["least_loss"](page["Z"], R)) <= loss(others).min() * (1 + 1e-9)


def test_two_routes_follow_the_same_flow(page):
    u = 0.5 * np.random.default_rng(5).normal(size=(6, 3))
    logs = [page["odds_from_logs"](np.log(row**2)) for row in u]
    assert page["flow_odds"](u)[0] == pytest.approx(logs, abs=5e-3)


def test_the_flow_conserves_what_the_proposition_says(page):
    """p m stays, and the odds change by the integrals: Euler's method with tiny steps."""
    Z, u, v = page["Z"], np.array([1.0, 0.8, 0.5]), np.array([0.9, 1.1, -0.2])
    plus, minus = (u + v) ** 2 / 4, (u - v) ** 2 / 4
    first, rho = plus[1] / plus[2], np.zeros(4)
    for _ in range(20_000):
        r = 1e-3 * np.exp(-Z @ (u * v))
        u, v, rho = u + v * (r @ Z), v + u * (r @ Z), rho + r
    assert (u + v) ** 2 * (u - v) ** 2 / 16 == pytest.approx(plus * minus, rel=2e-2)
    odds = math.log((u + v)[1] ** 2 / (u + v)[2] ** 2 / first)
    change = 2 * page["A"] * rho[2] - 2 * page["B"] * rho[3]
    assert odds == pytest.approx(change, abs=1e-2)


def test_starts_beyond_all_doubt_keep_their_odds(page):
    beta = np.array([[30.0, 20.0, 10.0], [12.0, 9.0, 18.0]])
    foreseen, size = page["first_order"](beta)
    assert (size < 1e-6).all()
    assert foreseen == pytest.approx(np.log(beta[:, 1] / beta[:, 2]), abs=1e-6)


def test_radii_in_the_leap_are_no_minima(page):
    lam, small, large = page["two_touchings"]()
    s = np.linspace(small, large, 101)[1:-1]
    best = np.exp(-np.maximum(s / 2, (s / 3) ** 1.5))
    assert (best + lam * s > math.exp(-small / 2) + lam * small + 1e-12).all()
    assert small < 27 / 4 < large


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check([1.0, 1.0, 1.0], None)
    assert "Choose" in check([1.0, 0.0, 1.0], 0.5)
    f = 1 / (1 + math.exp(-page["flow_odds"](np.array([[2.0, 1.0, 1.5]]))[0][0]))
    assert check([2.0, 1.0, 1.5], f).startswith("right")
    assert check([2.0, 1.0, 1.5], f + 0.3).startswith("not yet")


def test_the_film_ends_where_the_flows_end(page):
    end = page["film"][-1]
    u = page["scale"] * page["gaussians"][0]
    assert np.log(end[:, 1] / end[:, 2]) == pytest.approx(page["flow_odds"](u)[0], abs=1e-2)
    assert torch.isfinite(torch.as_tensor(page["film"])).all()
