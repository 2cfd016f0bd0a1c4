"""The lead notebook on the square loss: its identities, its claims on other seeds, what turns
them."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.models import batch_norm
from qhlib.train import descend
from tests.notebooks.play import declared, namespace, notebook, play, verdicts

NAME = "square_loss_bn_wd"
DECLARED_FAILURE = "absolute-minimum"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def test_every_claim_is_declared_and_reproduced_but_the_one_that_says_it_fails(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    failed = {name for name, claim in claims.items() if claim.verdict != "reproduced"}
    assert failed == {DECLARED_FAILURE}
    assert claims[DECLARED_FAILURE].expected_deviation


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "digits": [0, 1], "per_digit": 10, "pairs": 12},
        {"seed": 2147483647, "digits": [9, 4], "per_digit": 40, "pairs": 6, "decay": 0.2},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    claims = play(NAME, effort="smoke", **other)
    wrong = [c.row() for c in claims.values() if c.verdict == "deviates"]
    assert not [row for row in wrong if not row["expected_deviation"]], wrong


@pytest.mark.parametrize(
    "bad",
    [
        {"digits": [3]},
        {"digits": [3, 3]},
        {"digits": [3, 10]},
        {"per_digit": 5},
        {"pairs": 2},
        {"decay": 0.0},
        {"decay": -0.1},
        {"decay": 1.0},
        {"effort": "quick"},
        {"bn_decay": 0.1},
    ],
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations, **parameters) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", **parameters)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_the_optimisers_decay_is_twice_lambda():
    wrong = deviating(
        ("2 * (M - rho * (M2 + lam))", "2 * (M - rho * (M2 + 2 * lam))"),
        ("lam = omega / 2\nrho, M, M2, _", "lam = omega\nrho, M, M2, _"),
    )
    assert {"two-equations", "equilibrium"} <= wrong


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("np.exp(-until * np.array", "np.exp(-0.9 * until * np.array"),
        ("predicted=np.full(2, math.log(2))", "predicted=np.full(2, math.log(2) / 1.2)"),
        ("film([0.0, *shown_decays]", "film([0.2, *(0 * w for w in shown_decays)]"),
        ("predicted=4 * lam / (m + 4 * lam)", "predicted=4.5 * lam / (m + 4 * lam)"),
        ("rho = (counts / (counts + 2 * lam) ** 2)", "rho = (counts / (counts + 2 * lam) ** 2.1)"),
        (".sqrt() * M / lam", ".sqrt() * M / lam.sqrt()"),
    )
    expected = {"frozen", "delay", "remembers", "forgets", "floor", "ladder", "turning-point"}
    assert expected <= found


def test_the_clock_of_the_directions_has_the_square_of_the_length():
    wrong = ("* minus_gradient / lengths[k] ** 2", "* minus_gradient / lengths[k]")
    assert "two-equations" in deviating(wrong)


def test_the_absolute_minimum_would_be_reproduced_if_every_rung_were_the_lowest():
    found = verdicts(NAME, [("half_step = 1 / m**2", "half_step = 9.0")], effort="smoke")
    assert found[DECLARED_FAILURE] == "reproduced"


def test_an_unfinished_run_does_not_count_as_rest():
    """After a tenth of the steps the largest starts have not come down."""
    short = ("steps: int = 2000, momentum: float = 0.9", "steps: int = 100, momentum: float = 0.9")
    assert verdicts(NAME, [short], effort="smoke")["equilibrium"] == "outside"


# --- identities --------------------------------------------------------------------------------


def test_the_equations_are_the_gradients(page):
    """One Euler step of the four equations, against autograd on the weights, to first order."""
    W, h, omega = page["layers"]([1.0], 2), 1e-6, 0.1
    printed = page["as_printed"](W, torch.full((2,), omega).double(), h, 1)
    ((_, after),) = descend(W, loss=page["loss"], rate=h, decay=omega, at=[1])
    expected = torch.stack([page["size"](t) for t in after.values()], 1)
    assert torch.allclose(printed, expected, rtol=1e-9)
    assert not torch.allclose(printed[:, 2], page["size"](W["W3"]), rtol=1e-9)


def test_pytorch_and_the_stacked_descent_take_the_same_steps(page):
    W = page["layers"]([1.0], 1)
    ((_, after),) = descend(W, loss=page["loss"], rate=0.05, decay=0.1, at=[20])
    ours = [page["size"](t).item() for t in after.values()]
    assert page["by_pytorch"](W, 0.1, 0.05, 20) == pytest.approx(ours, rel=1e-6)


def test_hidden_rows_have_no_gradient_along_them_and_their_length_is_not_seen(page):
    W = {k: t.requires_grad_() for k, t in page["layers"]([0.1, 5.0], 2).items()}
    g = page["outputs"](W, page["data"].X)
    grads = torch.autograd.grad(g.square().sum(), list(W.values()))
    for name, grad in zip(("W1", "W2"), grads, strict=False):
        along = (W[name] * grad).sum(2).abs()
        assert (along <= 1e-12 * W[name].norm(dim=2) * grad.norm(dim=2) + 1e-15).all()
    stretched = {**W, "W1": W["W1"] * torch.linspace(0.5, 2, page["m"])[:, None].double()}
    assert torch.allclose(page["outputs"](stretched, page["data"].X), g, rtol=1e-10)


def test_no_features_of_bn_and_relu_go_below_the_floor(page):
    """Ridge on random and on nearly optimal features."""
    rng, y = torch.Generator().manual_seed(3), torch.tensor([1.0, -1.0]).double().repeat(15)
    for lam in (1e-3, 0.1, 2.0):
        for mix in (0.0, 0.9, 1.0):
            side = torch.where(torch.arange(6) < 3, 1.0, -1.0).double()
            noise = torch.randn(30, 6, generator=rng, dtype=torch.float64)
            H = batch_norm((mix * y[:, None] * side + (1 - mix) * noise)[None])[0].relu()
            w = torch.linalg.solve(H.T @ H / 30 + lam * torch.eye(6), H.T @ y / 30)
            value = ((H @ w - y).square().mean() + lam * w.square().sum()).item()
            floor = 4 * lam / (6 + 4 * lam)
            assert value >= floor * (1 - 1e-9)
            if mix == 1:
                assert value == pytest.approx(floor, rel=1e-9)
                assert w.norm().item() == pytest.approx(2 / math.sqrt(6) * 6 / (6 + 4 * lam))


@pytest.mark.parametrize("k", [3, 8, 10])
def test_the_rungs_are_ridge_regression(page, k):
    m, lam, y = page["m"], 0.07, np.r_[1.0, -1.0]
    H = np.maximum(np.outer(y, np.r_[np.ones(k), -np.ones(m - k)]), 0)
    w = np.linalg.solve(H.T @ H / 2 + lam * np.eye(m), H.T @ y / 2)
    f = y * (H @ w) / np.linalg.norm(w)
    rho, turned = page["rung"](torch.tensor(k), torch.tensor(lam))
    assert rho.item() == pytest.approx(np.linalg.norm(w))
    assert turned.item() == pytest.approx(f.std() * f.mean() / lam)
    assert turned.item() == pytest.approx(abs(2 * k - m) / m, rel=0.1)


def test_the_value_at_rest_and_the_bound_on_margins(page):
    rho, M, M2, least = page["moments"](page["ended"])
    lam, L = page["lam"], page["loss"](page["ended"], 0)
    s2 = M2 - M**2
    assert torch.allclose(L + lam * rho**2, (s2 + lam) / (M2 + lam), rtol=1e-4)
    assert (1 - rho * least <= (page["N"] * L).sqrt() + 1e-12).all()


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(5, None) and "Choose" in check(0, 1.0)
    assert check(5, math.sqrt(1 / 5 + 1 / 15)).startswith("right")
    assert check(5, 0.3).startswith("not yet")
