"""The companion on real images: its claims on other seeds, what turns them, what it relies on."""

import pytest
import torch

from qhlib.book.chapter import check_resources
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from qhlib.data import generator
from qhlib.spectra import stable_rank
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "leaky_relu_images"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}


@pytest.mark.parametrize(
    "other, outside",
    [
        ({"m": 64, "gamma": 0.0, "seed": 2147483647}, set()),
        ({"m": 128, "scales": [0.005, 0.4]}, {"pair"}),
        ({"m": 64, "scales": [0.48, 0.5], "gamma": 1.0}, {"one-curve", "pair"}),
    ],
)
def test_other_parameters(other, outside):
    found = verdicts(NAME, effort="smoke", **other)
    assert {name for name, verdict in found.items() if verdict == "outside"} == outside
    assert "deviates" not in found.values(), found


@pytest.mark.parametrize("bad", [{"m": 32}, {"scales": [0.1, 0.1]}, {"dataset": "mnist"}])
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


def test_a_folder_without_the_images_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ParameterError, match="data_folder"):
        check_resources({"dataset": "cifar10", "data_folder": str(tmp_path)})


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations, effort="smoke") -> set[str]:
    found = verdicts(NAME, mutations, effort=effort, seed=1)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_another_loss_than_the_linear_one_gives_another_curve():
    wrong = ('residual = target - leaves["c"][-1].detach().softmax(0)', "residual = target")
    assert "one-curve" in deviating(wrong)


def test_outputs_have_the_order_of_both_layers():
    assert "one-curve" in deviating(("np.square(factors)", "np.power(factors, 3)"))


def test_single_mistakes_turn_their_claims():
    """Independent of each other: one run."""
    found = deviating(
        ("m * d / (m**0.5 + d**0.5) ** 2 / (1", "m * d / (m + d) / (1"),  # the edge of the noise
        ("if 2 * steps in half_at", "if steps in half_at"),  # steps, and not rate times steps
        ("half_at.index(2 * at[k])", "half_at.index(at[k])"),
        ("math.exp(np.interp(", "3 * math.exp(np.interp("),  # another scale than the one read off
    )
    assert {"start", "clock", "pair"} <= found


@pytest.mark.parametrize(
    "wrong",
    [
        ("variance = 2 / (m + d)", "variance = 1 / (m + d)"),  # not Glorot's
        ("(sigma[0] + along) ** 2", "sigma[0] ** 2"),  # update and noise independent
        ("(theta + variance * m) * (theta + variance * d)", "theta**2"),  # no noise around it
    ],
)
def test_the_default_start_is_noise_and_update_and_their_overlap(wrong):
    assert "default" in deviating(wrong)


# --- what the page relies on -------------------------------------------------------------------


def test_descent_is_that_of_torch(page):
    """Cross-entropy and plain SGD on the same layers, from torch itself."""
    net = page["start"]([0.5], 3)
    size, steps = page["n"], 4
    first = torch.nn.Linear(page["d"], page["m"])
    last = torch.nn.Linear(page["m"], 10)
    with torch.no_grad():
        for layer, (weight, bias) in ((first, "Wb"), (last, "Ac")):
            layer.weight.copy_(net[weight][0])
            layer.bias.copy_(net[bias][0, :, 0])
    ours = page["train"](net, 0.1, size, [steps], generator(0))
    model = torch.nn.Sequential(first, torch.nn.LeakyReLU(page["gamma"]), last)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(page["X"]), page["y"]).backward()
        optimiser.step()
    ((end, _),) = ours
    assert torch.allclose(end["W"][0], first.weight, rtol=1e-4, atol=1e-6)
    assert torch.allclose(end["A"][0], last.weight, rtol=1e-4, atol=1e-6)


def test_the_linear_loss_does_not_know_the_scale(page):
    """The proposition, to rounding: ratios of weights stay, the stable rank is the same."""
    ends = []
    for factor in (1.0, 0.25):
        run = page["train"](page["start"]([factor], 5), 0.05, 64, [60], generator(1), free=True)
        ((end, _),) = run
        ends.append(end)
    assert torch.allclose(0.25 * ends[0]["A"], ends[1]["A"], rtol=1e-3, atol=1e-6)
    assert torch.allclose(stable_rank(ends[0]["W"]), stable_rank(ends[1]["W"]), rtol=1e-4)
    assert torch.equal(ends[0]["c"], ends[1]["c"])
