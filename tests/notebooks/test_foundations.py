"""The first page: its claims on other seeds, what turns them, what it relies on."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.flow import Far, follow
from qhlib.models import linear
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "foundations"
IMPATIENT = "patience"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def test_every_claim_is_reproduced_but_the_one_that_says_it_fails(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    found = {name: claim.verdict for name, claim in claims.items()}
    assert found.pop(IMPATIENT) == "deviates" and claims[IMPATIENT].expected_deviation
    assert set(found.values()) <= {"reproduced", "outside"}, found
    assert found["steps"] == found["monotone"] == found["tail"] == "reproduced"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "n": 40, "gap": 1.0, "rate": 1.0, "tail": 4.0},
        {"seed": 2147483647, "n": 6, "gap": 0.1, "rate": 0.1, "tail": 0.5},
        {"seed": 7, "speed": 1e15},
    ],
)
def test_other_parameters(other):
    found = verdicts(NAME, effort="smoke", **other)
    found.pop(IMPATIENT)
    assert set(found.values()) <= {"reproduced", "outside"}, found


def test_one_support_vector_is_outside_by_the_data():
    """With few points and a small gap one example alone may decide the largest margin."""
    found = verdicts(NAME, effort="smoke", n=6, gap=0.1, seed=20)
    assert found["direction"] == found["margin"] == "outside"


@pytest.mark.parametrize("bad", [{"n": 5}, {"gap": 0}, {"rate": 2}, {"tail": 0.1}, {"speed": 0}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what turns the claims ---------------------------------------------------------------------


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    mutations = (
        ("return signed_angle(ell * w_hat + w_tilde, w_hat)", "return ell**-0.9 * scale / 4"),
        (
            "predicted=np.full(last.sum(), entropy - least)",
            "predicted=np.full(last.sum(), entropy)",
        ),
        ("np.square(size), clock, initial=0) / eta", "np.square(size), clock, initial=0)"),
        (
            '{"W": (8, 2), "a": (8,)}, n_nets, seed)\nrises, previous, order = [], None, 3',
            '{"W": (8, 2), "a": (8,)}, n_nets, seed)\nrises, previous, order = [], None, 4',
        ),
        ("predicted=programme.fun", "predicted=programme.fun * price"),
        ("g = tail * (shares / q) @ A", "g = tail * shares @ A"),
    )
    found = verdicts(NAME, mutations, effort="smoke")
    turned = {name for name, verdict in found.items() if verdict == "deviates"}
    assert {"direction", "margin", "steps", "monotone", "other-norm", "tail"} <= turned


def test_a_shorter_way_would_reproduce_patience():
    """Were the angle one over the number of steps, it would be there long ago."""
    wrong = ("measured=abs(counted[-1, 2])", "measured=1 / counted[-1, 0]")
    assert verdicts(NAME, [wrong], effort="smoke")[IMPATIENT] == "reproduced"


# --- what the page relies on -------------------------------------------------------------------


def test_the_expansion_is_the_flow_from_any_start(page):
    """To the accuracy of the flow, where what is neglected has died out."""
    far = float(max(page["begun"], 500.0))
    for start in page["starts"]:
        (state,) = follow(linear, page["data"], start, at=[far], stepper=Far())
        expected = far * page["w_hat"] + page["w_tilde"]
        assert np.abs(state.params["w"][0].numpy() - expected).max() < 1e-2


def test_the_loop_is_torchs_gradient_descent(page):
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=float(page["eta"]))
    for _ in range(100):
        optimiser.zero_grad()
        torch.exp(-torch.tensor(page["A"]) @ w).sum().backward()
        optimiser.step()
    ell = -torch.exp(-torch.tensor(page["A"]) @ w).sum().log()
    assert page["counted"][0, 0] == 100
    assert ell.item() == pytest.approx(page["counted"][0, 1], rel=1e-9)


def test_the_exercise_takes_a_guess_before_it_answers(page):
    check = page["check_guess"]
    assert "guess" in check(2.0, None)
    right = math.degrees(2 * 2 * math.log(2) / (1 + 2**2) / 100)
    assert check(2.0, right).startswith("right")
    assert check(2.0, right + 0.2).startswith("not yet")


def test_the_words_for_years(page):
    assert page["waiting"](2302.6).endswith("years")
    assert page["waiting"](1.0).endswith("seconds")
