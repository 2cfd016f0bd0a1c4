"""Flat and stacked forms are one another's inverse; angles are exact where arccos is not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.params import angle, flatten, rates_vector, unflatten

shapes = st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 3))
def test_round_trip(sizes, seeds):
    params = {f"p{i}": torch.randn(seeds, *s, dtype=torch.float64) for i, s in enumerate(sizes)}
    back = unflatten(flatten(params), params)
    assert all(torch.equal(back[name], params[name]) for name in params)


def test_rates_broadcast_and_are_checked():
    like = {"w": torch.ones(2, 3, 4), "b": torch.ones(2, 3)}
    assert (
        rates_vector({"w": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": 0.5}, like).tolist()
        == [1, 2, 3, 4] * 3 + [0.5] * 3
    )
    for wrong in (
        {"w": 1.0},
        {"w": -1.0, "b": 1.0},
        {"w": math.nan, "b": 1.0},
        {"w": math.inf, "b": 1.0},
    ):
        with pytest.raises(ValueError):
            rates_vector(wrong, like)


def test_bad_stacks_raise():
    for wrong in ({}, {"w": torch.ones(2, 3), "b": torch.ones(3)}, {"w": torch.tensor(1.0)}):
        with pytest.raises(ValueError):
            flatten(wrong)
    with pytest.raises(ValueError):
        unflatten(torch.ones(1, 5), {"w": torch.ones(1, 4)})


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-14, math.pi - 1e-6), st.floats(1e-3, 1e3))
def test_angle_is_the_angle_that_was_built(phi, scale):
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = scale * torch.tensor([[math.cos(phi), math.sin(phi)]], dtype=torch.float64)
    assert angle(a, b).item() == pytest.approx(phi, rel=1e-9, abs=1e-16)


def test_angle_of_nothing_raises():
    for wrong in ([0.0, 0.0], [math.nan, 1.0]):
        with pytest.raises(ValueError):
            angle(torch.tensor([[1.0, 0.0]]), torch.tensor([wrong]))
