"""The companion on rates: what it relies on, its claims on other seeds, what turns them."""

import math

import numpy as np
import pytest
import torch

from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.homogeneity import euler_defect, gradient_defect, scaling_defect
from qhlib.models import draw
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "quasi_homogeneity"
# pictures and the many architectures take longer than the flows; these claims need neither
QUICK = [
    ('chapter.glue("quasi-picture", result_picture())\n', ""),
    ("[blocks_under(r) for r in positions]", "[plt.figure() for r in positions]"),
    ("\n\nclass_figure()", ""),
    ("\n\noutgrown_figure()", ""),
    ('assert check_guess(guess).startswith("Right")', ""),
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
    ends = {"ell": 1000.0, "units": 2, "far": 6.0, "digits": [1, 7], "resnet_width": 2}
    found = verdicts(NAME, QUICK, effort="smoke", **ends)
    assert set(found.values()) == {"reproduced"}, found


def test_wrong_models_and_laws_turn_the_claims():
    """One change for each claim: no normalisation in two places, a factor two, the wrong block."""
    wrong = [
        ("def resnet(params, X, norm=image_norm):", "def resnet(params, X, norm=lambda z: z):"),
        ("lambda p, X: batch_norm(layer(p, X,", "lambda p, X: (layer(p, X,"),
        ("slope += sign / (2 * hard", "slope += sign / (hard"),
        ('BLOCKS = {"w g s": 0.0, "w": 0.5**0.5}', 'BLOCKS = {"w g s": 0.0, "w": 0.0}'),
    ]
    found = verdicts(NAME, QUICK + wrong, effort="smoke")
    assert set(found.values()) == {"deviates"}, found


def test_rates_that_are_legal_but_not_picked_turn_the_claim():
    """The rates are decided by training, not by the architecture: r = 1/4 is legal too."""
    wrong = [('lambda r=0.5: {"A c"', 'lambda r=0.25: {"A c"')]
    found = verdicts(NAME, QUICK + wrong, effort="smoke")
    assert found["which-rates"] == "deviates"
    assert found["last-bias"] == "reproduced"


@pytest.mark.parametrize(
    "bad",
    [
        {"digits": [3]},
        {"digits": [3, 3]},
        {"digits": [3, 10]},
        {"far": 2.0},
        {"ell": 10.0},
        {"units": 1},
        {"resnet_width": 1},
        {"effort": "quick"},
    ],
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


# --- what the page relies on -------------------------------------------------------------------

# one legal Lambda of each architecture, by hand, and the number of free rates
BY_HAND = {
    "linear": ({"w": 1, "b": 1}, 0),
    "ReLU, three layers": ({"A": 0.2, "B": 0.3, "w": 0.5}, 2),
    "… with biases": ({"A": 0.2, "c": 0.2, "B": 0.3, "e": 0.5, "w": 0.5, "b": 1}, 2),
    "leaky ReLU": ({"A": 0.3, "c": 0.3, "w": 0.7, "b": 1}, 1),
    "diagonal, depth 3": ({"u": 0.2, "v": 0.3, "w": 0.5}, 2),
    "squared ReLU": ({"A": 0.2, "c": 0.2, "w": 0.6, "b": 1}, 1),
    "gated unit": ({"G": 0.2, "A": 0.3, "w": 0.5}, 2),
    "convolution, max pooling": ({"k": 0.4, "c": 0.4, "w": 0.6, "b": 1}, 1),
    "residual stream": ({"A": 0.4, "B": 0, "c": 0.4, "C": 0, "w": 0.6, "b": 1}, 2),
    "weight norm": ({"A": 0.7, "g": 0.4, "c": 0.4, "w": 0.6, "b": 1}, 2),
    "unit-norm features": ({"A": 0.7, "c": 0.7, "w": 1, "b": 1}, 1),
    "layer norm": ({"A": 0.7, "c": 0.7, "w": 1, "b": 1}, 1),
    "batch norm": ({"A": 0.7, "w": 1, "b": 1}, 1),
    "batch norm, affine": ({"A": 0.7, "g": 0.3, "s": 0.3, "w": 0.7, "b": 1}, 2),
    "residual block, batch norm": (
        {"A": 0.1, "B": 0.2, "C": 0.3, "c": 0.6, "e": 0.6}
        | dict.fromkeys("gsuv", 0.4)
        | {"w": 0.6, "b": 1},
        5,
    ),
    "attention after layer norm": ({"T": 0.5, "Q": 0, "K": 0, "V": 0.4, "w": 0.6, "b": 1}, 3),
}


def defects(f, params, X, rates):
    """Worst relative violation of the scaling, of Euler's identity and of the gradients' law."""
    rates = {name: float(rates[name]) for name in params}
    found = [scaling_defect(f, params, X, rates, 0.7), euler_defect(f, params, X, rates)]
    return max(d.max().item() for d in [*found, gradient_defect(f, params, X, rates, 0.7)])


@pytest.mark.parametrize("name", BY_HAND)
def test_sixteen_architectures_scale(page, name):
    """Three identities at rates by hand, a control with one wrong rate, the count of freedoms."""
    tensors, features = page["FEATURES"][name]
    rates, free = BY_HAND[name]
    params = draw(page["shapes"](tensors, 6, 6), 2, 5)
    X = torch.randn(20, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def f(p, X):
        return page["head"](p, features(p, X))

    assert defects(f, params, X, rates) < 1e-12
    assert defects(f, params, X, rates | {"w": rates["w"] + 0.5}) > 0.05
    assert page["families"][name].free == free


def test_no_architecture_is_left_out(page):
    assert list(BY_HAND) == list(page["FEATURES"])


def test_a_resnet_scales_whatever_the_rates_of_its_convolutions(page):
    params = page["resnet_start"](4)
    rates = {name: 0.1 * (k % 7) for k, name in enumerate(params)} | {"w": 1.0, "b": 1.0}
    X = page["PICTURES"].expand(-1, 3, -1, -1)
    assert defects(page["resnet"], params, X, rates) < 1e-11
    assert euler_defect(page["resnet"], params, X, rates | {"w": 0.5}).max() > 0.05
    plain = page["legal_rates"](
        lambda p, X: page["resnet"](p, X, norm=lambda z: z), page["resnet_start"](4), X, 24
    )
    assert plain.misfit < 1e-10 and plain.free < 20  # legal as well, with fewer freedoms


def test_the_solver_finds_rates_that_are_known(page):
    """A monomial of degree four has rate 1/4; behind a sigmoid it has none."""
    legal_rates = page["legal_rates"]
    X = torch.rand(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1

    def monomial(p, X):
        return p["a"] ** 4 * X[:, 0] + p["a"] ** 4 * X[:, 1]

    found = legal_rates(monomial, {"a": torch.rand(3, 1).double() + 0.5}, X)
    assert (found.free, found.forced) == (0, {"a": pytest.approx(0.25)})
    bent = legal_rates(
        lambda p, X: torch.sigmoid(monomial(p, X)), {"a": torch.rand(3, 1).double()}, X
    )
    assert bent.misfit > 0.01


def test_every_freedom_is_conserved_along_the_flows(page):
    """The differences of legal seminorms that pick the rates, from the first state to the last."""
    laws = {
        page["PLAIN"]: ({"A": 1, "w": -1},),
        page["BN"]: ({"A": 1},),
        page["AFFINE"]: ({"A": 1}, {"g s": 1, "w": -1}),
        page["BIASED"]: ({"A c": 1, "w": -1},),
    }
    for name, found in laws.items():
        states = page["flows"][name]
        for law in found:
            values = sum(
                sign * np.square(page["lengths"](states, block)) for block, sign in law.items()
            )
            size = max(max(page["lengths"](states, block)) for block in law) ** 2
            assert np.ptp(values) < 2e-3 * size, (name, law)


def test_the_descent_on_digits_does_not_jump(page, monkeypatch):
    """Where the slope nearly vanishes, half a nat would throw this start across the landscape."""
    monkeypatch.setitem(page, "seed", 1000091)
    states = page["descent"](*page["start_of"](page["TRAINED"]), page["nats"])
    pair, w = (np.square(page["lengths"](states, block)) for block in ("u v", "w"))
    assert np.ptp(w - pair) < 0.03 * (w + pair)[-1]


def test_every_rate_of_the_networks_is_legal(page):
    for name, network in page["NETWORKS"].items():
        data, params = page["starts"][name][0], page["flows"][name][-1].params
        for r in (0.0, 0.3, 1.0):
            assert euler_defect(network.f, params, data.X, network.by_tensor(r)).max() < 1e-12


def test_wrong_rates_let_a_block_die_or_run_away(page):
    """What the slider shows: at r = 1/4 the head dies, at r = 0 (gamma, beta) run away."""
    network, end = page["NETWORKS"][page["AFFINE"]], page["flows"][page["AFFINE"]][-1].params

    def hat(r):
        found, _ = page["homogeneity"].normalize(end, network.by_tensor(r))
        pair = torch.cat([found["g"], found["s"]]).norm().item()
        return pair, found["w"].norm().item()

    assert hat(0.25)[0] == pytest.approx(2, rel=1e-3) and hat(0.25)[1] < 1e-2
    assert hat(0.0)[0] > 20
    assert min(hat(0.5)) > 0.5


def test_the_head_alone_is_never_a_kkt_point(page):
    """|w| / sqrt(|w|^2 + |(gamma, beta)|^2) bounds its residual from below, at every state."""
    for state, residual in zip(page["flows"][page["AFFINE"]], page["residuals"]["w"], strict=True):
        w, pair = state.params["w"].norm().item(), 0.0
        for name in "gs":
            pair = math.hypot(pair, state.params[name].norm().item())
        # the bias, which is dropped, shifts the margins by b / ell
        slack = abs(state.params["b"].item() / state.ell.item())
        assert residual > w / math.hypot(w, pair) - slack - 1e-6


def test_a_guess_is_needed_before_the_answer(page):
    assert page["check_guess"](None) == "Write your guess first."
    assert page["check_guess"](0.5).startswith("Not yet")
