"""Descent against PyTorch's own optimiser, against closed forms, and what it refuses."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.train import descend


def points(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(target):
    return lambda p, k: ((p["W"] - target).square().sum((1, 2)) + p["b"].cos().sum(1)) / 2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 0.1]))
def test_each_run_is_that_of_torchs_sgd(seed, momentum, decay):
    start, target = (
        {"W": points(seed, 3, 4, 2), "b": points(seed + 1, 3, 2)},
        points(seed + 2, 3, 4, 2),
    )
    rates = torch.tensor([0.1, 0.03, 0.01], dtype=torch.float64)
    options = {"momentum": momentum, "decay": decay}
    (_, found), *_ = descend(start, loss=loss_of(target), rate=rates, at=[25], **options)
    for s in range(3):
        alone = {name: t[s : s + 1].clone().requires_grad_() for name, t in start.items()}
        lr = rates[s].item()
        sgd = torch.optim.SGD(alone.values(), lr=lr, momentum=momentum, weight_decay=decay)
        for k in range(25):
            sgd.zero_grad()
            loss_of(target[s : s + 1])(alone, k).sum().backward()
            sgd.step()
        for name, t in alone.items():
            torch.testing.assert_close(found[name][s : s + 1], t.detach(), rtol=1e-12, atol=1e-12)


def test_gradient_loss_schedule_and_projection_are_what_they_say():
    start = {"w": torch.tensor([[3.0, 4.0]], dtype=torch.float64)}
    seen = []

    def gradient(p, step):
        seen.append(step)
        return {"w": p["w"]}

    steps = list(descend(start, gradient=gradient, rate=lambda k: 1 / (k + 2), at=[0, 1, 3]))
    assert [k for k, _ in steps] == [0, 1, 3] and seen == [0, 1, 2]
    # 3 * (1/2) * (2/3) * (3/4)
    assert steps[-1][1]["w"][0, 0].item() == pytest.approx(3 / 4, rel=1e-14)
    assert torch.equal(steps[0][1]["w"], start["w"])  # what was yielded is not changed later
    unit = lambda p: {"w": p["w"] / p["w"].norm(dim=1, keepdim=True)}  # noqa: E731
    (_, p), *_ = descend(start, gradient=gradient, rate=0.1, at=[5], project=unit)
    assert p["w"].norm().item() == pytest.approx(1, rel=1e-14)


def test_decay_alone_shrinks_geometrically_and_at_may_be_endless():
    start = {"w": torch.ones(2, 1, dtype=torch.float64)}
    decay = torch.tensor([0.1, 0.0], dtype=torch.float64)
    nothing = lambda p, k: {"w": 0 * p["w"]}  # noqa: E731
    run = descend(start, gradient=nothing, rate=0.5, decay=decay, at=itertools.count())
    for k, p in itertools.islice(run, 20):
        assert p["w"].flatten().tolist() == pytest.approx([0.95**k, 1.0], rel=1e-13)


def test_what_makes_no_sense_is_refused():
    start = {"w": torch.ones(1, 1, dtype=torch.float64)}
    loss = lambda p, k: p["w"] ** 2  # noqa: E731
    for wrong in ({}, {"loss": loss, "gradient": loss}):
        with pytest.raises(ValueError, match="either"):
            next(descend(start, rate=0.1, at=[1], **wrong))
    for at in ([-1], [2, 2], [3, 1], [math.nan]):
        with pytest.raises(ValueError, match="increase"):
            list(descend(start, loss=loss, rate=0.1, at=at))
    with pytest.raises(FloatingPointError, match="lower the rate"):
        list(descend(start, loss=lambda p, k: p["w"] ** 4, rate=10.0, at=[50]))
