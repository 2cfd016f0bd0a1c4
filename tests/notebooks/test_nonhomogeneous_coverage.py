"""The companion with the coverage calculator: its verdicts on modules that the page does not
show, what turns its claims."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.near_homogeneity import activation_constants, degree_defect
from qhlib.params import flatten
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "nonhomogeneous_coverage"


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
        {"seed": 42, "activation": "Softplus", "width": 10, "blocks": 3, "longest": 2.0},
        {"seed": 2147483647, "activation": "Mish", "width": 5, "blocks": 1, "longest": 0.5},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    found = verdicts(NAME, effort="smoke", **other)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    "bad", [{"width": 4}, {"blocks": 4}, {"activation": "Tanh"}, {"longest": 0}, {"margin": 0}]
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke")
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_a_skip_that_counts_for_nothing_turns_the_bounds():
    """A sum forgets the term of lower degree, an activation its bend."""
    found = deviating(
        ("add(u.defect, v.defect, left)", "add(u.defect, v.defect)"),
        ("u.degree * near.kappa * root", "0.02 * u.degree * near.kappa * root"),
    )
    assert "bounds" in found


def test_a_wrong_calculus_turns_the_orders():
    """A sum takes the degrees together."""
    wrong = (
        "return Value(out, high.degree, add",
        "return Value(out, high.degree + low.degree, add",
    )
    assert "orders" in deviating(wrong)


def test_a_calculator_that_looks_only_at_growth_turns_the_verdicts():
    wrong = ("wide.kappa > 1.001 * near.kappa + 1e-9", "wide.kappa > 1e9")
    assert "verdicts" in deviating(wrong)


# --- the calculator ----------------------------------------------------------------------------


def check(page, module: nn.Module, X: torch.Tensor):
    """Its order, after its bounds have been tried on random parameters."""
    module = module.double()
    cover = page["coverage"](module, X)
    model, far = page["as_model"](module), page["as_model"](cover.homogenised)
    for r in (0.3, 3.0, 300.0):
        params = page["uneven"](module, r)
        rho = flatten(params).norm(dim=1)
        assert torch.allclose(rho, torch.full_like(rho, r))
        defect = degree_defect(model, params, X, cover.order).abs().max().item()
        gap = (model(params, X) - far(params, X)).abs().max().item()
        assert defect <= np.polyval(cover.p_prime[::-1], r) * (1 + 1e-9) + 1e-9 * r**cover.order
        assert gap <= np.polyval(cover.p_a[::-1], r) * (1 + 1e-9) + 1e-9 * r**cover.order
    return cover


def test_modules_that_the_page_does_not_show(page):
    X = torch.randn(5, 3).double()

    class Tied(nn.Module):
        """One matrix used twice."""

        def __init__(self):
            super().__init__()
            self.W, self.a = nn.Linear(3, 3, bias=False), nn.Linear(3, 1)
            self.phi = nn.SiLU()

        def forward(self, x):
            return self.a(self.phi(self.W(self.phi(self.W(x)))))

    class Scaled(nn.Module):
        """A parameter that is no layer."""

        def __init__(self):
            super().__init__()
            self.s, self.a = nn.Parameter(torch.ones(3)), nn.Linear(3, 1)

        def forward(self, x):
            return self.a(x * self.s)

    assert check(page, Tied(), X).order == 3
    assert check(page, Scaled(), X).order == 2
    assert check(page, nn.Sequential(nn.GELU(), nn.Linear(3, 1)), X).order == 1
    deep = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(3, 3), nn.ELU())])
    assert check(page, nn.Sequential(deep, nn.Dropout(), nn.Linear(3, 1)).eval(), X).order == 4


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (
            lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).eval(), nn.Linear(3, 1)),
            "zero",
        ),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 1)), "bounded"),
        (lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 1, 3)), "no rule"),
        (lambda: nn.Softmax(-1), "softmax"),
    ],
)
def test_what_is_not_covered_gets_a_sentence(page, module, why):
    with pytest.raises(page["NotCovered"], match=why):
        page["coverage"](module().double(), torch.randn(4, 3).double())


def test_two_layers_are_those_of_the_lead(page):
    X = torch.eye(3).double()
    cover = page["coverage"](
        nn.Sequential(nn.Linear(3, 7), nn.Mish(), nn.Linear(7, 1)).double(), X
    )
    kappa = activation_constants(nn.Mish()).kappa
    assert cover.p_a == pytest.approx([0, math.sqrt(7) * kappa + 1])
    assert cover.p_a[1] >= math.sqrt(7 * kappa**2 + 1)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(2, 1, None) and "Choose" in check(9, 1, 4)
    assert check(2, 1, 14).startswith("right") and check(2, 1, 8).startswith("not yet")
