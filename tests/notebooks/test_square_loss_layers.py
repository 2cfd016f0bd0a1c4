"""The companion on the layers under the square loss: its claims on other seeds, what turns them,
what it relies on."""

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import Data
from qhlib.models import deep_relu
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "square_loss_layers"


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
        {"seed": 42, "n": 20, "d": 10, "depth": 2, "width": 4, "strength": 0.05},
        {"seed": 7, "n": 100, "d": 10, "depth": 3, "width": 12, "gap": 3.0, "strength": 0.3},
        {"seed": 2147483647, "n": 100, "d": 2, "depth": 3, "width": 4, "gap": 0.75},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    assert set(verdicts(NAME, effort="smoke", **other).values()) == {"reproduced"}


@pytest.mark.parametrize(
    "bad", [{"gap": 0.5}, {"depth": 1}, {"depth": 4}, {"width": 2}, {"strength": 0}, {"n": 10}]
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
        ("4 * step * (before + nu) / 2", "3 * step * (before + nu) / 2"),
        ("X.mT @ X / count + strengths", "X.mT @ X / count + 1.01 * strengths"),
        ("predicted=right * w.norm(dim=1)", "predicted=-right * w.norm(dim=1)"),
        ("predicted=(4 * lam * w", "predicted=(3.8 * lam * w"),
        ("norms ** (2 - 2 / depth)", "norms ** (2 - 1.8 / depth)"),
        ("loss=loss, rate=eta, at=[rounds]", "loss=loss, rate=eta, at=[rounds], decay=0.01"),
        ("np.log(sizes) - np.log", "-np.log(sizes) + np.log"),
    )
    assert found == declared(NAME)


def test_a_network_that_is_not_homogeneous_turns_the_law():
    wrong = ("f = deep_relu(V, data.X, slope=slope)\n", "f = deep_relu(V, data.X, slope=0.5)\n")
    assert "law" in deviating(wrong)


def test_an_unfinished_run_does_not_count_as_ridge():
    assert {"ridge", "rate"} <= deviating(("\nsteps = 2500", "\nsteps = 100"))


# --- what the page relies on -------------------------------------------------------------------


@pytest.mark.parametrize("slope", [1.0, 0.0])
def test_the_gradients_of_neighbouring_layers_agree(page, slope):
    """G_k V_k^T against V_{k+1}^T G_{k+1}: in full without activations, on the diagonal with."""
    V = {k: t.requires_grad_() for k, t in page["unit_layers"]((5, 7, 6, 1), 2).items()}
    X = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    f = deep_relu(V, X, slope=slope)
    G = torch.autograd.grad(f.pow(3).sum(), list(V.values()))
    W = [t.detach() for t in V.values()]
    for k in (0, 1):
        a, b = G[k] @ W[k].mT, W[k + 1].mT @ G[k + 1]
        if slope == 0:
            a, b = a.diagonal(dim1=1, dim2=2), b.diagonal(dim1=1, dim2=2)
        assert torch.allclose(a, b, atol=1e-12)


def test_ridge_is_least_squares_with_more_samples(page):
    data, strengths = page["points"], torch.linspace(0.02, 1, page["n_seeds"]).double()
    ours = page["ridge"](data, strengths)
    count, dim = data.X.shape[1:]
    for X, lam, w in zip(data.X.numpy(), strengths.numpy(), ours.numpy(), strict=True):
        stacked = np.vstack([X, np.sqrt(count * lam) * np.eye(dim)])
        target = np.r_[data.y.numpy(), np.zeros(dim)]
        assert np.linalg.lstsq(stacked, target, rcond=None)[0] == pytest.approx(w, rel=1e-9)


def test_the_effective_strength_is_stationary(page):
    """Gradient of mean (g - y)^2 + lambda K |w|^(2/K) by w, on the curve of the page."""
    first, K = page["first"], page["depth"]
    for k in (0, page["top"] // 2, page["top"]):
        strength, lam = page["effective"][k], page["asked"][k]
        w = page["ridge"](Data(first.X, first.y), strength[None])[0].requires_grad_()
        value = (first.X[0] @ w - first.y).square().mean() + lam * K * w.norm() ** (2 / K)
        assert torch.autograd.grad(value, w)[0].norm() < 1e-9
