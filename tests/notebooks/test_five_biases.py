"""One data set under five kinds of training: its claims on other data, what turns them, what they
rely on."""

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "five_biases"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}, claims


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "reach": 0.35, "lean": 0.45, "decay": 0.1},
        {"seed": 2147483647, "reach": 0.8, "lean": 0.15, "decay": 0.001},
        {"seed": 7, "reach": 0.5},
    ],
)
def test_other_parameters(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) <= {"reproduced", "outside"}, found


@pytest.mark.parametrize("bad", [{"reach": 0.9}, {"lean": 0}, {"decay": 0}, {"effort": "much"}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def test_other_parametrisations_turn_their_claims():
    """Both coordinates as products; the fourth power instead of the square; no product at all."""
    mutations = (
        ("weights = partial(diagonal_weights, depths=(2, 1))", "depths = (2, 2)"),
        (
            "model = partial(diagonal, depths=(2, 1))",
            "weights, model = (partial(f, depths=depths) for f in (diagonal_weights, diagonal))",
        ),
        ("diagonal_shapes((2, 1)), weights, NEAR", "diagonal_shapes(depths), weights, NEAR"),
        ("[0] - y).square().mean()", "[0] - y).pow(4).mean()"),
        ('params["u"] * (params["v"] + torch.tanh(params["v"])) + params["c"]', 'params["u"]'),
    )
    found = verdicts(NAME, mutations, effort="smoke")
    turned = {name for name, verdict in found.items() if verdict == "deviates"}
    assert turned == {"quasi", "square", "near", "own-column", "meeting"}


def test_a_product_a_short_path_and_another_norm_turn_the_others():
    mutations = (
        (
            'flowed(leaky, data, {"W": (6, 2)}, lambda p: second_layer(6) @ p["W"], FAR)',
            "near_homogeneous(data)",
        ),
        ("ensemble(Z, (20.0, 40.0))", "ensemble(Z, (2.0, 2.5))"),
        ("local_optima(curves[-1])", "local_optima(curves[-3])"),
    )
    found = verdicts(NAME, mutations, effort="smoke")
    turned = {name for name, verdict in found.items() if verdict == "deviates"}
    assert {"euclidean", "ensemble", "corners"} <= turned


# --- what the page relies on -------------------------------------------------------------------


@pytest.mark.parametrize("reach", [0.29, 0.35, 0.63, 0.8])
def test_the_solvers_find_what_a_scan_finds(page, reach):
    Z = page["examples"](reach).X.numpy()
    angle = np.radians(np.linspace(-180, 180, 72_001))
    curves = page["margins_of"](np.column_stack([np.cos(angle), np.sin(angle)]), Z)
    for beta, curve in zip(page["solutions"](Z).values(), curves, strict=True):
        assert page["degrees"](beta) == pytest.approx(np.degrees(angle[curve.argmax()]), abs=0.02)


def test_the_formula_for_the_meeting_is_the_solvers(page):
    for reach in (0.28, 0.29, 0.3018, 0.4):
        found = page["solutions"](page["examples"](reach).X.numpy())
        angles = [page["degrees"](found[name]) for name in ("near-homogeneous", "Euclidean")]
        assert page["apart_by_formula"](reach) == pytest.approx(angles[0] - angles[1], abs=1e-4)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(2, None) and "Choose" in check(9, 45.0)
    for depth, name in ((1, "Euclidean"), (2, "near-homogeneous"), (3, "ensemble")):
        right = page["degrees"](page["solved"][name])
        assert check(depth, right).startswith("right")
        assert check(depth, right + 10).startswith("not yet")


def test_starts_on_the_far_side_of_the_corner_arrive(page):
    """Beside one support vector the angle creeps: at log(1/L) = 1e6 this start is 2.7 degrees
    short."""
    near, shapes = page["near"], dict.fromkeys("uvc", (2,))
    model = page["linear_in"](near)
    pair = page["flowed"](model, page["data"], shapes, near, page["FAR"], own=1000074)
    assert page["degrees"](pair[-1]) == pytest.approx(page["aim"]["near-homogeneous"], abs=0.01)


def test_a_long_start_of_the_square_loss_arrives(page, monkeypatch):
    """The draw has length 3.4, and would need eleven times the steps."""
    monkeypatch.setitem(page, "seed", 1000018)
    end = page["square_loss"](page["data"], page["sgd_steps"])[-1]
    assert page["degrees"](end) == pytest.approx(page["aim"]["square loss"], abs=0.01)


def test_the_quasi_newton_slope_is_the_losses(page):
    """The path of best classifiers descends by a gradient written out by hand."""
    Z, rho = torch.tensor(page["Z"]), 5.0
    z = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z.requires_grad_()
    a, p, q, r = (rho * z / z.norm()).reshape(4, 2)
    value = 27 * torch.logsumexp(-(Z @ (a + p * q * r)), 0) / rho**3
    (slope,) = torch.autograd.grad(value, z)
    heard = []

    def spy(function, start, arguments, **options):
        heard.append(function(z.detach().numpy(), rho))
        return type("Found", (), {"fun": 0.0, "x": start})

    original, page["minimize"] = page["minimize"], spy
    try:
        page["ensemble"](page["Z"], (rho,))
    finally:
        page["minimize"] = original
    assert heard[0][0] == pytest.approx(value.item(), rel=1e-12)
    assert np.allclose(heard[0][1], slope.numpy(), rtol=1e-10)
