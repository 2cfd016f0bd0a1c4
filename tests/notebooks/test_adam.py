"""Adam: its claims on other seeds, what turns them, the same steps by torch."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "adam"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke")


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "n": 40, "spread": 0.6, "beta1": 0.0, "beta2": 0.9, "epsilon": 1e-4},
        {"seed": 2147483647, "n": 4, "spread": 0.1, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-40},
        {"effort": "paper", "beta2": 0.9},  # 200 nats at most
    ],
)
def test_other_parameters(other):
    found = verdicts(NAME, **{"effort": "smoke", **other})
    assert found["speed"] == found["epsilon"] == "reproduced"
    assert found["margin"] in ("reproduced", "outside")


@pytest.mark.parametrize("bad", [{"beta1": 0.95}, {"beta2": 0.999}, {"epsilon": 0}, {"n": 3}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


@pytest.mark.parametrize(
    ("old", "new", "claim"),
    [
        ("return r - pull * mean *", "return r - pull *", "speed"),
        ("    predicted=gamma,", "    predicted=euclidean.value,", "margin"),
        ("(np.sqrt(v / (1 - beta2 ** (t + 1))) + eps)", "(1e-9 + eps)", "margin"),
        ("(a.prod() * a.sum())", "a.prod()", "epsilon"),
        ("+ eps)", ")", "epsilon"),
    ],
)
def test_what_is_wrong_turns_its_claim(old, new, claim):
    """A law without the mean, another norm's margin, momentum without the quotient, ..."""
    with np.errstate(all="ignore"):
        assert verdicts(NAME, [(old, new)], effort="smoke")[claim] == "deviates"


def test_the_steps_are_those_of_torch(page):
    A = torch.tensor(page["A"])
    w = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    betas = page["beta1"], page["beta2"]
    optimiser = torch.optim.Adam([w], lr=0.01, betas=betas, eps=1e-8)
    for _ in range(300):
        optimiser.zero_grad()
        torch.exp(-A @ w).sum().backward()
        optimiser.step()
    _, path = page["adam"](page["A"], [0.01] * 301, 1e-8, 300)
    assert w.detach().numpy() == pytest.approx(path[-1], rel=1e-10)


def test_the_speed_is_below_the_limit_and_nearly_there_for_large_rates(page):
    speed, limit = page["speed"], page["limit"]
    speeds = [speed(limit * x) for x in (0.01, 0.1, 1, 10, 1000)]
    assert speeds == sorted(speeds) and speeds[-1] < limit
    assert speeds[0] == pytest.approx(0.01 * limit, rel=0.01)
    assert speeds[-1] == pytest.approx(limit, rel=1e-4)


def test_torchs_defaults_need_thousands_of_steps_for_a_factor_of_ten():
    """The default memory, 0.999, and a learning rate of 0.1: at the limit after its start."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    a, optimiser, ells = torch.tensor([2.0, 1.0]).double(), torch.optim.Adam([w], lr=0.1), []
    for step in range(12_000):
        optimiser.zero_grad()
        loss = torch.exp(-a @ w)
        loss.backward()
        optimiser.step()
        ells.append(-math.log(loss.item())) if step % 6000 == 5999 else None
    assert (ells[1] - ells[0]) / 6000 < 1.3 * math.log(1 / 0.999) / 2
