"""The companion with the paper's figures: its claims on other seeds, what turns them, a training
that was stopped, and other images."""

import numpy as np
import pytest
import torch

from qhlib.book.chapter import open_chapter
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, play, verdicts

NAME = "square_loss_images"


@pytest.fixture(scope="module")
def page():
    return namespace(NAME, effort="smoke", seed=20261127)


def test_every_claim_is_declared_and_reproduced(page):
    claims = page["chapter"].claims
    assert set(claims) == declared(NAME)
    found = {name: claim.verdict for name, claim in claims.items()}
    assert found.pop("test-error") == "outside"
    assert set(found.values()) == {"reproduced"}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 42, "classes": [0, 1], "n_images": 40, "decay": 0.02},
        {"seed": 2147483647, "classes": [3, 8], "n_images": 200, "decay": 0.008},
    ],
)
def test_other_parameters_reproduce_every_claim(other):
    assert "deviates" not in verdicts(NAME, effort="smoke", **other).values()


@pytest.mark.parametrize(
    "bad", [{"decay": -0.1}, {"classes": [3]}, {"classes": [3, 3]}, {"n_images": 5}]
)
def test_what_cannot_run_is_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        validate(notebook(NAME).declaration, bad)


def test_images_that_are_not_there_are_refused_at_once():
    cell = next(c["source"] for c in notebook(NAME).cells if "dataset: str" in c["source"])
    for bad in ({"dataset": "cifar11"}, {"dataset": "cifar10", "data_folder": "/nowhere"}):
        with pytest.raises(ParameterError, match="dataset"):
            open_chapter(NAME, {"In": ["", cell], **bad})


# --- what turns the claims ---------------------------------------------------------------------


def deviating(*mutations) -> set[str]:
    found = verdicts(NAME, mutations, effort="smoke", seed=1)
    return {name for name, verdict in found.items() if verdict == "deviates"}


def test_another_limit_turns_the_stability():
    """A fifth of it (as without the momentum in the formula) and four times as much."""
    for factor in ("0.2", "4"):
        wrong = ("rates = [share * limits", f"rates = [{factor} * share * limits")
        assert "stability" in deviating(wrong)


def test_a_stack_of_which_nothing_is_left_is_no_fault(page):
    """All rates above the limit: nothing runs, and the figures have empty panels."""
    log = page["train"](page["Setting"]("ConvNet", True, [], [], 40, 0))
    assert log.rho.shape == (2, 0) and len(log.margins) == 0


def test_arms_that_are_exchanged_turn_the_order():
    wrong = (
        "for w in (decay, 0.0) for scale in scales]",
        "for w in (0.0, decay) for scale in scales]",
    )
    assert {"forgets", "smaller"} <= deviating(wrong)


def test_errors_that_do_not_follow_turn_the_trend():
    """At the effort of the book the claim is made; here with a few choices of images."""
    few = [('"book": 6, "paper": 2', '"book": 2, "paper": 2'), ('"book": 5.0', '"book": 2.0')]
    wrong = ("each[:, 5] - each[:, 2]", "each[:, 2] - each[:, 5] - 0.001")
    claims = play(NAME, [*few, wrong], effort="book")
    assert claims["test-error"].verdict == "deviates"


# --- what the page relies on -------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["fully connected", "ConvNet"])
def test_rho_does_not_see_the_length_of_hidden_rows(page, reading):
    X = page["prepared"](False, page["choose"](0))[0]
    W = page["start"](reading, [(1.0, 0.0), (5.0, 0.0)], torch.Generator().manual_seed(1))
    stretched = [
        w
        * (0.5 + torch.rand(w.shape[:2], generator=torch.Generator().manual_seed(k))).reshape(
            *w.shape[:2], *[1] * (w.ndim - 2)
        )
        if k < 3
        else w
        for k, w in enumerate(W)
    ]
    (out, moments, _), (same, other, _) = (page["network"](w, X, 1e-12) for w in (W, stretched))
    assert torch.allclose(out, same, rtol=1e-3, atol=1e-4)
    rho = [page["scale_of"](w, v, 1e-12)[0] for w, v in ((W, moments), (stretched, other))]
    assert rho[1].numpy() == pytest.approx(rho[0].numpy(), rel=1e-3)


@pytest.mark.parametrize("reading", ["fully connected", "ConvNet"])
def test_stacked_networks_are_the_single_ones(page, reading):
    runs, setting = [(0.1, 0.01), (5.0, 0.0)], page["Setting"]
    both = page["train"](setting(reading, False, runs, [0.05, 0.05], 5, 0))
    for k, run in enumerate(runs):
        alone = page["train"](setting(reading, False, [run], [0.05], 5, 0))
        assert both.rho[:, k] == pytest.approx(alone.rho[:, 0], rel=1e-3)
        assert both.loss[:, k] == pytest.approx(alone.loss[:, 0], rel=1e-3)


def test_a_stopped_training_goes_on(page, tmp_path):
    """The state of a stopped run is read back, and the end is that of a run in one piece."""
    code = page["train"].__globals__
    setting = page["Setting"]("fully connected", False, [(1.0, 0.01)], [0.05], 40, 0)
    whole = page["train"](setting)
    folder, network = code["checkpoint_folder"], code["network"]
    code["checkpoint_folder"], calls = str(tmp_path / "states"), [0]

    def dies(*args, **options):
        calls[0] += 1
        if calls[0] > 50:
            raise KeyboardInterrupt
        return network(*args, **options)

    try:
        code["network"] = dies
        with pytest.raises(KeyboardInterrupt):
            page["train"](setting)
        code["network"] = network
        (state,) = (tmp_path / "states").iterdir()
        assert 0 < torch.load(state, weights_only=True)["done"] < 40
        resumed = page["train"](setting)
    finally:
        code["network"], code["checkpoint_folder"] = network, folder
    assert np.array_equal(resumed.iteration, whole.iteration)
    assert resumed.rho == pytest.approx(whole.rho, rel=1e-5)


def test_the_limit_is_the_hessian_of_the_last_layer(page):
    """Against the Hessian by autograd, for the weights of one output."""
    X = page["prepared"](False, page["choose"](0))[0][:30]
    W = page["start"]("ConvNet", [(1.0, 0.0)], torch.Generator().manual_seed(0))
    h = page["network"](W, X, 1e-12)[2][0].double()

    def loss(w):
        return 0.5 * (h @ w).square().mean()  # two outputs: half of each square

    top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, h[0] * 0))[-1].item()
    gram = torch.linalg.eigvalsh(h.T @ h / 30)[-1].item()
    assert top == pytest.approx(gram, rel=1e-9)
