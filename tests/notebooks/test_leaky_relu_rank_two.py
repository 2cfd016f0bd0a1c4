"""The lead notebook on leaky ReLU networks: its identities, its claims on other seeds, what turns
them."""

import math

import numpy as np
import pytest
import torch

from qhlib import convex
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import Data, gaussian_labels, nearly_orthogonal
from qhlib.limits import kkt_residual
from qhlib.params import angle
from tests.kinks import leaky_relu_kinks
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "leaky_relu_rank_two"
# no claim needs a picture
QUICK = [
    ("[result_frame(slope) for slope in slopes]", "[plt.figure() for slope in slopes]"),
    ("draw_svm()\nplots.show()", ""),
    ("draw_angles()\nplots.show()", ""),
]


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261126)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize("seed", [42, 2147483647])
def test_other_seeds_reproduce_every_claim(seed):
    found = verdicts(NAME, QUICK, effort="smoke", seed=seed)
    assert set(found.values()) == {"reproduced"}, found


def test_the_far_corner_reproduces_every_claim():
    """A small slope, one point against many, few units of one sign, the largest start."""
    corner = {"gamma": 0.05, "n_positive": 11, "width_plus": 60, "width_minus": 2}
    corner |= {"slack": 1.0, "length_ratio": 2.0, "start": 0.03}
    found = verdicts(NAME, QUICK, effort="smoke", **corner)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    "bad",
    [
        {"n": 13},
        {"n": 5, "n_positive": 5},
        {"slack": -1},
        {"slack": 1.1},
        {"gamma": 1.0},
        {"gamma": 0.0},
        {"width_minus": 1},
        {"length_ratio": 0.5},
        {"start": 1.0},
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


# they assert, too
EXERCISES = [(f"assert {what}", what) for what in ("(read /", "(seen /", "abs(seen[1]")]


def test_a_limit_off_by_a_millionth_turns_the_claims_on_it():
    wrong = (
        "(multipliers[:, None] * c).T @ X",
        "((1 + 1e-6 * y) * multipliers)[:, None].mul(c).T @ X",
    )
    assert {"limit", "programme"} <= deviating(wrong, *EXERCISES)


def test_another_network_turns_the_claims_on_flows():
    wrong = ("return a @ leaky_relu(hidden, gamma)", "return a @ leaky_relu(hidden, 0.9 * gamma)")
    found = deviating(wrong, *EXERCISES)
    assert {"limit", "approach", "global-optimum", "svm-angle", "svm-margin"} <= found


def test_a_start_that_is_not_rescaled_turns_the_rank():
    wrong = ("felt = torch.where((side > 0) & (z < 0), z / gamma, z)", "felt = z")
    assert "rank" in deviating(wrong, *EXERCISES, gamma=0.1)


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        *EXERCISES,
        ("+ offset + K)", "+ K)"),
        ("(third / (ell + entropy)", "(third / (ell + entropy) ** 0.98"),
        (
            "closed_form(points, units, gamma).multipliers.sum()",
            "closed_form(points, -units, gamma).multipliers.sum()",
        ),
        ("dual_bound(data, limit.multipliers,", "dual_bound(data, 1.001 * limit.multipliers,"),
        ("z.expand(n_starts, -1)) / math.pi)", "z.expand(n_starts, -1)) / 2)"),
        ("(m2 + slope * m1) / (m2 + slope**2 * m1)", "(m2 + slope * m1) / (m2 + slope * m1)"),
        ("gaussian_labels(30, 40, seed + k)", "gaussian_labels(30, 3000, seed + k)"),
        ('draw({"W": (20, 40)}', 'draw({"W": (20, 3000)}'),
    )
    assert found == declared(NAME) - {"limit", "programme"}


def test_a_boundary_that_forgets_the_start_is_another():
    assert "linear-boundary" in deviating(("+ offset + K)", "+ offset + 0 * K)"), *EXERCISES)


# --- identities --------------------------------------------------------------------------------


def test_two_points_by_hand(page):
    points = Data(torch.eye(2).double(), torch.tensor([1.0, -1.0]).double())
    for gamma in (0.1, 1 / 3, 0.7):
        theory = page["closed_form"](points, page["second_layer"](3, 3), gamma)
        sigma = torch.linalg.svdvals(theory.W)
        assert theory.multipliers.tolist() == pytest.approx([2 / (1 + gamma**2)] * 2)
        assert (sigma[1] / sigma[0]).item() == pytest.approx((1 - gamma) / (1 + gamma))


@pytest.mark.parametrize("units", [(10, 10), (3, 17), (1, 1)])
def test_the_closed_form_is_a_kkt_point_with_the_bounds_of_the_theorem(page, units):
    m1, m2 = units
    gamma, a = 0.4, page["second_layer"](*units)
    data = nearly_orthogonal(9, 20, gamma, 1.0, 1.5, 3, positive=4)
    theory = page["closed_form"](data, a, gamma)
    model = lambda p, X: page["network"](p, X, a=a, gamma=gamma)  # noqa: E731
    at = {"W": theory.W[None]}
    found = kkt_residual(model, data, at, {"W": 1.0}, kinks=leaky_relu_kinks(data, a, gamma))
    assert found.worst.item() < 1e-12
    assert theory.W.square().sum().item() == pytest.approx(theory.multipliers.sum().item())
    squares = data.X.square().sum(1)
    assert (theory.multipliers > 1 / (2 * squares.max())).all()
    assert (theory.multipliers < 3 / (2 * gamma**2 * squares.min())).all()
    kappa = math.sqrt(min(units) / max(units))
    ratio = (a @ theory.W).norm().item() * convex.hard_margin(data).value
    assert 1 - 1e-9 <= ratio <= 2 / (kappa + gamma)


def test_the_angle_of_the_line_is_the_formula(page):
    data, a, gamma, limit = (page[name] for name in ("data", "a", "gamma", "limit"))
    small = page["small"]
    b = -torch.log(page["shares"])
    felt = page["felt_start"](small, data, a, gamma).flatten(1)
    basis = torch.linalg.qr(limit.gradients.T)[0]
    K = felt - felt @ basis @ basis.T
    C2 = (b @ torch.linalg.solve(limit.gram, b) + K.square().sum(1)) / limit.multipliers.sum()
    C = (C2 - page["entropy"] ** 2).sqrt()
    for ell in (5.0, 500.0):
        line = page["straight_line"](ell, data, a, gamma, small).flatten(1)
        turned = torch.tan(angle(line, limit.W.flatten()[None].expand(len(line), -1)))
        assert turned.tolist() == pytest.approx((C / (ell + page["entropy"])).tolist(), rel=1e-6)


def test_the_felt_start_of_one_unit(page):
    """One unit, orthogonal inputs, equal shares: integrated by hand against the rescaled start."""
    data = Data(torch.eye(2).double(), torch.tensor([1.0, -1.0]).double())
    a, gamma = torch.tensor([1.0]).double(), 0.3
    for begin in ([-0.2, 0.3], [0.2, 0.3], [-0.2, -0.3]):
        felt = page["felt_start"](torch.tensor([[begin]]).double(), data, a, gamma)[0, 0]
        z = np.array(begin)
        for _ in range(40_000):  # z_1 is pushed up, z_2 down, with the share gamma if inactive
            z = z + 1e-4 * np.array([1, -1]) * np.where(z > 0, 1, gamma)
        assert z == pytest.approx((felt.numpy() + 4 * np.array([1, -gamma])).tolist(), abs=2e-4)


def test_no_multipliers_give_a_bound_above_the_optimum(page):
    """Weak duality, also where the data are crowded and the closed form is not the optimum."""
    gamma, a = 0.2, page["second_layer"](2, 1)
    data, rng = gaussian_labels(3, 3, 5), np.random.default_rng(0)
    best = page["best_of_all_patterns"](data, a, gamma)
    for _ in range(20):
        bound = page["dual_bound"](data, torch.as_tensor(rng.exponential(1, 3)), 2 / 3, gamma)
        assert bound <= best * (1 + 1e-9)


def test_the_formulas_against_the_machine_are_those_of_the_closed_form(page):
    data = nearly_orthogonal(9, 20, 0.3, 0.0, 1.5, 3, positive=4)
    best = convex.hard_margin(data)
    for m1, m2, gamma in ((14, 6, 0.5), (2, 18, 0.3), (1, 1, 0.7)):
        a = page["second_layer"](m1, m2)
        z = (a @ page["closed_form"](data, a, gamma).W).numpy()
        margin = (data.y.numpy() * (data.X.numpy() @ z)).min() / np.linalg.norm(z)
        turned = math.degrees(math.acos(min(1.0, best.x @ z / np.linalg.norm(z))))
        expected = page["against_svm"](data, m1, m2, gamma)
        assert (margin / best.value, turned) == pytest.approx(expected, abs=1e-5)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(16, 4, 0.2, None)
    assert "Choose" in check(16, 0, 0.2, 3.0)
    right = page["against_svm"](page["exact"], 16, 4, 0.2)[1]
    assert check(16, 4, 0.2, right).startswith("right")
    assert check(16, 4, 0.2, right + 5).startswith("not yet")
