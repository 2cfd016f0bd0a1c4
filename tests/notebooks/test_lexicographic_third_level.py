"""The companion on the third level: its claims on other seeds, what turns them, what it relies
on."""

import math

import mpmath
import numpy as np
import pytest

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "lexicographic_third_level"


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
        {"seed": 42, "rate": 1.5, "third": 6.0, "radius": 25.0},
        {"seed": 2147483647, "rate": 8.0, "third": 2.8, "radius": 50.0},
        {"seed": 7, "third": 4.0},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize("bad", [{"rate": 1.0}, {"third": 2.0}, {"radius": 5.0}])
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
        (
            "return np.log1p(kappa) - kappa * np.log(kappa)",
            "return np.log1p(kappa) - np.log(kappa)",
        ),
        ("E = t2 + (t2 - 1) / (p - 1)\n    s", "E = t2 + (t2 - 1) / p\n    s"),
        ("limit = min(third + 1, max(3.0, third - 1))", "limit = third + 1"),
        ("(1 + (rho + 2) * e)", "(1 + rho * e)"),
        ("predicted=np.full(3, 4.0)", "predicted=np.full(3, 6.0)"),
    )
    assert found == declared(NAME)


def test_equal_rates_leave_nothing_to_the_entropy():
    """Without the difference of rates the sphere has no worse place to prefer."""
    same = ("b, c = theta / np.linalg.norm(theta)", "b, c = theta / np.linalg.norm(theta)\n"
            "        rate = 1.0")  # fmt: skip
    assert {"tied-gain", "tied-limit"} <= deviating(same)


# --- what the page relies on -------------------------------------------------------------------


def test_the_loss_without_cancellation_is_the_loss(page):
    """Against 80 digits."""
    with mpmath.workdps(80):
        for s, y, rho, t2, tau, p, crease in (
            (0.3, -12.0, 11.0, 2.0, 3.0, 2.0, 0.0),
            (1.0, -20.0, 15.0, 1.7, 3.5, 1.6, 0.0),
            (0.9, -9.0, 9.0, 2.0, 5.0, 2.0, 1e-3),
        ):
            c, R = mpmath.exp(mpmath.mpf(y)), mpmath.mpf(rho)
            r = (1 - c ** mpmath.mpf(p)) ** (1 / mpmath.mpf(p)) - mpmath.mpf(crease) * c
            q2 = mpmath.mpf(t2) * r + c * mpmath.mpf(s) * r / mpmath.sqrt(r**2 + c**2)
            q3 = (mpmath.mpf(tau) + 1 - 2 * mpmath.mpf(s)) * r
            loss = mpmath.exp(-R * r) + mpmath.exp(-R * q2) + mpmath.exp(-R * q3)
            exact = (loss - mpmath.exp(-R) - mpmath.exp(-R * mpmath.mpf(t2))) * mpmath.exp(R)
            found = page["excess"](s, y, rho, t2, tau, p, crease)
            assert found == pytest.approx(float(exact), rel=1e-9)


def test_a_grid_over_the_whole_sphere_agrees(page):
    """Both sides of the circle, plain double precision, at a radius where it suffices."""
    rho, tau = 4.0, 5.0
    phi, c = np.meshgrid(np.linspace(0, math.pi, 361), np.linspace(-0.2, 0.2, 4001), indexing="ij")
    r = np.sqrt(1 - c**2)
    q = [r, 2 * r + c * r * (1 - np.cos(phi)) / 2, r * (tau + np.cos(phi))]
    k = np.exp(-rho * np.array(q)).sum(0).argmin()
    assert q[2].flat[k] == pytest.approx(page["minimiser"](rho, 2.0, tau, 2.0), abs=0.01)
    assert c.flat[k] == pytest.approx(math.exp(-rho), rel=0.2)


def test_the_limits_of_the_proposition(page):
    for t2, tau, p in ((2.0, 3.0, 1.4), (2.0, 3.0, 2.0), (2.0, 4.5, 2.0), (1.5, 4.0, 1.25)):
        E = t2 + (t2 - 1) / (p - 1)
        limit = min(tau + 1, max(E, tau - 1))
        rho = 60.0 / (t2 - 1)
        assert page["minimiser"](rho, t2, tau, p) == pytest.approx(limit, abs=0.1)


def test_the_crease_keeps_the_lexicographic_solution_beyond_its_radius(page):
    for kappa in (0.03, 0.003):
        rho = math.log(1 / kappa)
        s, y = np.meshgrid(np.linspace(0, 1, 101), np.linspace(-rho - 9, -1, 400), indexing="ij")
        values = page["excess"](s, y, rho, 2.0, 5.0, 2.0, kappa)
        assert values.min() >= math.exp(-5 * rho) * (1 - 1e-9)
