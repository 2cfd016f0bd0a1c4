"""Data sets have the properties their docstrings state, for any seed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.convex import hard_margin
from qhlib.data import (
    gaussian_labels,
    nearly_orthogonal,
    orthogonality,
    separable_linear,
)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 30), st.integers(1, 8), st.floats(0.01, 2))
def test_separable_by_at_least_the_gap(seed, n, d, gap):
    assert hard_margin(separable_linear(n, d, seed, gap)).value >= gap * (1 - 1e-9)


def test_seeds_repeat_and_differ_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = gaussian_labels(5, 3, 1), gaussian_labels(5, 3, 1), gaussian_labels(5, 3, 2)
    assert torch.equal(a.X, b.X) and not torch.equal(a.X, c.X)
    assert torch.equal(state, torch.random.get_rng_state())


def test_mean_shifts_the_first_coordinate_by_the_label():
    shift = gaussian_labels(6, 3, 0, mean=2.0).X - gaussian_labels(6, 3, 0).X
    assert (
        torch.equal(shift[:, 0].sign(), gaussian_labels(6, 3, 0).y)
        and float(shift[:, 1:].abs().max()) == 0
    )


@pytest.mark.parametrize("call", [lambda: gaussian_labels(0, 3), lambda: separable_linear(3, 0)])
def test_empty_sizes_raise(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize("gap", [0.0, -1.0, float("nan")])
def test_a_gap_that_does_not_separate_raises(gap):
    with pytest.raises(ValueError):
        separable_linear(3, 2, gap=gap)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 15),
    st.integers(0, 20),
    st.floats(0.1, 1),
    st.floats(0.01, 3),
    st.floats(1, 2),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_nearly_orthogonal_has_the_inner_products_that_were_asked_for(
    n, more, slope, slack, ratio, seed, conflict
):
    data = nearly_orthogonal(n, n + more, slope, slack, ratio, seed, conflict=conflict)
    lengths = data.X.norm(dim=1)
    assert lengths.min().item() == pytest.approx(1, abs=1e-9)
    assert lengths.max().item() == pytest.approx(ratio, abs=1e-9)
    gram = data.X @ data.X.T
    gram.fill_diagonal_(0)
    assert gram.abs().max().item() == pytest.approx(
        slack * slope**3 / (3 * n * ratio**2), abs=1e-12
    )
    assert orthogonality(data.X, slope) == pytest.approx(1 / slack, rel=1e-6)
    assert orthogonality(7 * data.X, slope) == pytest.approx(1 / slack, rel=1e-6)  # scale free
    assert (data.y == 1).sum() == n // 2
    if conflict:
        off = ~torch.eye(n, dtype=torch.bool)
        assert ((gram * data.y * data.y[:, None])[off] < 0).all()


def test_exactly_orthogonal_inputs_and_a_meter_of_infinity():
    data = nearly_orthogonal(6, 9, slack=0.0, ratio=1.5, positive=2)
    assert torch.allclose(data.X @ data.X.T, torch.diag(data.X.square().sum(1)), atol=1e-14)
    assert orthogonality(torch.eye(4), 0.5) == math.inf and (data.y == 1).sum() == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 1},
        {"n": 9},
        {"slope": 0.0},
        {"slope": 1.1},
        {"slack": -1.0},
        {"slack": math.nan},
        {"ratio": 0.9},
        {"positive": 9},
        {"slack": 1e6},
    ],
)
def test_nearly_orthogonal_refuses(arguments):
    with pytest.raises(ValueError):
        nearly_orthogonal(**{"n": 8, "d": 8, **arguments})
