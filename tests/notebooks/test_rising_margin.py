"""The companion on margins: what it relies on, its claims on other seeds, what turns them."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.homogeneity import euler_defect
from qhlib.margins import negative_gradient
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "rising_margin"
QUICK = [
    ('chapter.glue("rising-picture", result_picture())\n', ""),
    ("[frame(a) for a in firsts]", "[plt.figure() for a in firsts]"),
    ("\n\ngrowth_figure()", ""),
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


def test_the_ends_of_the_ranges_reproduce_every_claim():
    found = verdicts(NAME, QUICK, effort="smoke", ell=300.0, start_slope=20.0)
    assert set(found.values()) == {"reproduced"}, found


def test_wrong_laws_turn_the_claims():
    """A speed without its square, a power 10 % too large, a factor in the closed form, a share."""
    wrong = [
        ("/ g.square().sum()).item()", "/ g.norm()).item()"),
        ("/ (2 * top)", "/ (1.8 * top)"),
        ("/ (16 + 4 * b**2)", "/ (16 + b**2)"),
        ("share - 3 * (1 - share)", "share - 2 * (1 - share)"),
    ]
    found = verdicts(NAME, QUICK + wrong, effort="smoke")
    assert set(found.values()) == {"deviates"}, found


def test_rates_that_are_not_legal_do_not_grow_so(page):
    """The claim is about legal rates: (0.5, 0.6) miss it by 5 %."""
    states = page["flows"]["two layers"]
    norms = [
        page["homogeneity"].seminorm_squared(s.params, {"A": 0.5, "w": 0.6}).item() / 2
        for s in (states[0], states[-1])
    ]
    assert abs((norms[1] - norms[0]) / page["grown"]["two layers"][1][-1] - 1) > 0.02


@pytest.mark.parametrize("bad", [{"ell": 100.0}, {"start_slope": -1.0}, {"effort": "quick"}])
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what the page relies on -------------------------------------------------------------------


def test_every_rate_of_the_networks_is_legal(page):
    for name, network in page["NETWORKS"].items():
        params = page["flows"][name][-1].params
        for r in (0.0, 0.3, 1.0):
            assert euler_defect(network.f, params, network.data.X, network.rates(r)).max() < 1e-12


def test_the_growth_is_an_identity_at_every_state(page):
    """<Lambda theta, g> = sum w q = ell + H(w), and the speed of the mean's flow in t."""
    for name, network in page["NETWORKS"].items():
        for state in page["flows"][name][::9]:
            q, ell, g = negative_gradient(network.f, network.data, state.params)
            rates = network.rates(0.3)
            along, at = 0.0, 0
            for key, t in state.params.items():
                part = g[:, at : at + t.numel()].reshape(t.shape)
                along, at = along + (torch.as_tensor(rates[key]) * t * part).sum(), at + t.numel()
            w = torch.softmax(-q, 1)
            assert along.item() == pytest.approx((w * q).sum().item(), rel=1e-9)
            entropy = -(w * w.clamp_min(1e-300).log()).sum()
            assert along.item() == pytest.approx((ell + entropy).item(), rel=1e-9)


def test_the_scale_of_the_example_is_its_closed_form(page):
    """T solves its equation; at (3, 4) it is 9 and the slope -16/75; the sign turns at 1."""
    slope = page["scale_slope"]
    assert slope(3) == pytest.approx(-16 / 75, abs=1e-14)
    assert slope(1) == pytest.approx(0, abs=1e-14)
    assert slope(0.9) > 0 > slope(1.1)
    assert max(slope(a) for a in np.geomspace(1.001, 1e4, 200)) < 0
    T, points = 9.0, page["Data"](torch.tensor([[4.0, 1.0]]).double(), torch.ones(1).double())
    params = {"p": torch.tensor([[3.0, 4.0]]).double()}

    def f(p, X):
        return p["p"][:, :1] * X[:, 0] + p["p"][:, 1:] ** 2 * X[:, 1]

    found = page["log_margins"](f, points, params, {"p": torch.tensor([1.0, 0.5])})
    assert found[0] == pytest.approx(28) and math.log(28 / T) == pytest.approx(found[2])


def test_the_margin_over_the_scale_falls_for_good_and_the_other_rises(page):
    path, _ = page["one_point"][3.0]
    assert (np.diff(path[:, 2]) < 0).all() and (np.diff(path[:, 1]) >= -1e-9).all()


def test_with_one_parameter_nothing_falls():
    """Why two are the fewest: theta^k x has all three margins equal or constant."""
    q = np.outer(np.geomspace(0.5, 9, 30) ** 2, [1.0, 3.0])  # theta^2 x, rate 1/2
    assert np.ptp(q.min(1) / np.geomspace(0.5, 9, 30) ** 2) < 1e-12


def test_a_guess_is_needed_before_the_answer(page):
    assert page["check_guess"](None) == "Write your guess first."
    assert page["check_guess"](5.0).startswith("Not yet")
