"""The companion on deep networks: its claims on other seeds, what turns them, its defects against
the calculator."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from qhlib import convex
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import Data
from qhlib.limits import kkt_residual
from qhlib.margins import margins
from qhlib.models import draw
from qhlib.near_homogeneity import degree_defect, homogenization_bound, polynomial
from qhlib.params import flatten
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "nonhomogeneous_deep"


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
        {"seed": 42, "activation": "softplus", "blocks": 3, "spread": 0.6, "n": 16},
        {
            "seed": 2147483647,
            "activation": "Mish",
            "width": 10,
            "blocks": 1,
            "spread": 0.1,
            "n": 4,
        },
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    "bad", [{"width": 5}, {"blocks": 0}, {"activation": "ReLU"}, {"spread": 0.9}, {"n": 3}]
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def test_single_mistakes_turn_their_claims():
    """Shared layers counted twice, a residual of the network that keeps its lower terms, an
    exponent."""
    found = verdicts(
        NAME,
        [
            ("best * 2.0**-blocks * M", "best * 2.0**-(blocks + 1) * M"),
            (
                "kkt_residual(hom, data, params, rates)",
                "kkt_residual(model, data, params, dict.fromkeys(params, 0.2))",
            ),
            (
                "modified_margin(ell, theta.norm(), p_prime, order)",
                "modified_margin(ell, theta.norm(), p_prime + [0.0] * 2, order + 2)",
            ),
        ],
        effort="smoke",
    )
    assert {name for name, verdict in found.items() if verdict == "deviates"} == declared(NAME)


# --- what the page relies on -------------------------------------------------------------------


def module_of(kind: str, cover: dict, width: int, blocks: int) -> nn.Module:
    phi, plain = nn.GELU(), partial(nn.Linear, bias=False)
    branch = lambda: nn.Sequential(plain(width, width), phi, plain(width, width))  # noqa: E731
    inner = {
        "MLP": [plain(3, width), phi, nn.Linear(width, width), phi, nn.Linear(width, 1)],
        "residual": [
            plain(3, width),
            *(cover["Residual"](branch()) for _ in range(blocks)),
            plain(width, 1),
        ],
        "gated": [plain(3, width), cover["Residual"](cover["Gate"](phi)), plain(width, 1)],
        "attention": [cover["Attention"](phi), plain(width, 1)],
    }
    return nn.Sequential(*inner[kind])


def test_the_defects_are_those_of_the_calculator(page):
    """Formulas here, a walk over the network's graph there, inputs of norm one."""
    cover = namespace("nonhomogeneous_coverage", effort="smoke", width=6)
    for kind in page["names"]:
        shape = (1, 3, 3) if kind == "attention" else (1, 3)
        X = torch.zeros(shape, dtype=torch.float64)
        X.flatten()[0] = 1
        module = module_of(kind, cover, 6, page["blocks"]).double()
        found = cover["coverage"](module, X)
        assert found.p_prime == pytest.approx(page["defect_of"](kind), rel=1e-9), kind


def test_the_defects_bound_random_parameters(page):
    for kind in page["names"]:
        data, p_prime = page["data_of"][kind], page["defect_of"](kind)
        M = len(p_prime)
        model = partial(page["network"], kind=kind, phi=page["phi"])
        hom = partial(page["network"], kind=kind, phi=torch.relu, lower=0.0)
        for k, scale in enumerate((0.1, 1.0, 10.0)):
            params = draw(page["shapes_of"](kind), 1, k, scale=scale)
            rho = flatten(params).norm().item()
            assert degree_defect(model, params, data.X, M).abs().max() <= polynomial(p_prime, rho)
            gap = (model(params, data.X) - hom(params, data.X)).abs().max()
            assert gap <= polynomial(homogenization_bound(p_prime, M), rho)


def test_the_residual_path_of_the_proposition_is_a_kkt_point(page):
    """Built by hand: embedding and head shared, each block one unit for each class."""
    data, blocks, width = page["opposite"](), page["blocks"], page["width"]
    best = convex.hard_margin(data)
    e = torch.zeros(width, dtype=torch.float64)
    e[0] = 1
    params = {"V": torch.outer(e, torch.as_tensor(best.x))}
    for k in range(blocks):
        B, A = (torch.zeros(width, width, dtype=torch.float64) for _ in range(2))
        B[0, 0], B[1, 0] = 2**-0.5, -(2**-0.5)
        A[0, 0], A[0, 1] = 2**-0.5, -(2**-0.5)
        params |= {f"B{k}": B, f"A{k}": A}
    params = {name: t[None] for name, t in (params | {"a": e}).items()}
    hom = partial(page["network"], kind="residual", phi=torch.relu, lower=0.0)
    M = 2 + 2 * blocks
    margin = margins(hom, data, params).amin().item() / flatten(params).norm().item() ** M
    assert margin == pytest.approx(page["closed_form"]("residual", data))
    at = kkt_residual(hom, data, params, dict.fromkeys(params, 1 / M))
    assert at.worst.item() < 1e-6


def test_the_classes_are_opposite(page):
    for data in (page["opposite"](), page["opposite"](3)):
        X = data.X if data.X.ndim == 3 else data.X[:, None]
        inner = torch.einsum("isd,ktd->ikst", X, X)
        assert (inner[data.y > 0][:, data.y < 0] < 0).all()
        assert data.X.flatten(1).norm(dim=1).numpy() == pytest.approx(np.ones(len(data.y)))


def test_the_distance_of_a_class_is_its_own_margin(page):
    data = page["opposite"]()
    one = Data(data.X[data.y > 0], data.y[data.y > 0])
    assert 0.8 < convex.hard_margin(one).value <= 1


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(0.2, None) and "Choose" in check(0.9, 1e-3)
    near = 1 / (math.sqrt(2) * 6**3)
    assert check(0.1, 0.99 * near).startswith("right")
    assert check(0.1, near / 2).startswith("not yet")
