"""Soft ranks against NumPy's singular values, under invariances, and on matrices whose spectrum is
known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.spectra import singular_ratio, stable_rank

SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.integers(1, 12)
ACCURACY = {torch.float64: 1e-12, torch.float32: 3e-5}


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(seed: int, n: int, k: int) -> torch.Tensor:
    return torch.linalg.qr(normal(seed, n, k))[0]


@st.composite
def spectra(draw):
    """Singular values between 1e-3 and 1, the largest one 1."""
    k = draw(st.integers(1, 6))
    values = draw(st.lists(st.floats(1e-3, 1.0), min_size=k, max_size=k))
    return sorted([1.0, *values[1:]], reverse=True)


# ---------------------------------------------------------- independent computation, known spectra


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, m=SIZES, d=SIZES, S=st.integers(1, 3), dtype=st.sampled_from(list(ACCURACY)))
def test_both_measures_against_singular_values_of_numpy(seed, m, d, S, dtype):
    W = normal(seed, S, m, d).to(dtype)
    sigma = np.linalg.svd(W.double().numpy(), compute_uv=False)
    found = stable_rank(W)
    assert found.shape == (S,) and found.dtype == dtype
    expected = (sigma**2).sum(-1) / sigma[:, 0] ** 2
    assert np.allclose(found.numpy(), expected, rtol=ACCURACY[dtype], atol=0)
    for k in range(1, min(m, d, 4) + 1):
        ratio = singular_ratio(W, k)
        assert ratio.shape == (S,) and ratio.dtype == dtype
        assert np.allclose(
            ratio.numpy(), sigma[:, k - 1] / sigma[:, 0], rtol=0, atol=ACCURACY[dtype]
        )


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, sigma=spectra(), more=st.integers(0, 5), wide=st.booleans())
def test_a_matrix_built_from_its_spectrum_gives_it_back(seed, sigma, more, wide):
    k = len(sigma)
    s = torch.tensor(sigma, dtype=torch.float64)
    W = orthonormal(seed, k + more, k) * s @ orthonormal(seed + 1, k + 2, k).T
    W = W.T if wide else W
    assert stable_rank(W).item() == pytest.approx((s**2).sum().item(), rel=1e-12)
    for i in range(k):
        assert singular_ratio(W, i + 1).item() == pytest.approx(sigma[i], abs=1e-13)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, m=SIZES, d=SIZES, dtype=st.sampled_from(list(ACCURACY)))
def test_rank_one_has_stable_rank_one_and_nothing_below(seed, m, d, dtype):
    W = (normal(seed, m, 1) @ normal(seed + 1, 1, d)).to(dtype)
    assert stable_rank(W).item() == pytest.approx(1.0, abs=ACCURACY[dtype])
    if min(m, d) > 1:
        assert singular_ratio(W, 2).item() < ACCURACY[dtype]


def test_the_identity_has_full_rank_and_two_blocks_have_the_limit_value_of_the_theorem():
    eye = torch.eye(7, dtype=torch.float64)
    assert stable_rank(eye).item() == pytest.approx(7, rel=1e-13)
    # rows v (twice) and u (twice) with |v| = |u| and cosine c: eigenvalues 2 (1 +- c), stable rank
    # 2 / (1 + |c|)
    for c in (0.0, -0.5, -0.9):
        u = torch.tensor([c, math.sqrt(1 - c * c)], dtype=torch.float64)
        v = torch.tensor([1.0, 0.0], dtype=torch.float64)
        W = torch.stack([v, v, u, u])
        assert stable_rank(W).item() == pytest.approx(2 / (1 + abs(c)), rel=1e-13)


def test_a_gaussian_matrix_has_the_stable_rank_of_marchenko_and_pastur():
    m, d = 100, 400
    found = stable_rank(normal(0, 8, m, d)).mean().item()
    assert found == pytest.approx(
        m * d / (math.sqrt(m) + math.sqrt(d)) ** 2, rel=0.05
    )  # m**(-2/3) = 0.046


# ---------------------------------------------------------------- invariances


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, m=SIZES, d=SIZES, exponent=st.integers(-200, 200))
def test_scale_rotation_transposition_and_neighbours_do_not_count(seed, m, d, exponent):
    W = normal(seed, 2, m, d)
    base = stable_rank(W)
    assert (base >= 1 - 1e-12).all() and (base <= min(m, d) + 1e-12).all()
    turned = orthonormal(seed + 1, m, m) @ W @ orthonormal(seed + 2, d, d)
    for other in (10.0**exponent * W, turned, W.mT, -W):
        assert torch.allclose(stable_rank(other), base, rtol=1e-12, atol=0)
        k = min(m, d, 3)
        assert torch.allclose(singular_ratio(other, k), singular_ratio(W, k), rtol=0, atol=1e-12)
    assert torch.allclose(stable_rank(W[1]), base[1], rtol=1e-12, atol=0)
    assert stable_rank(W[None, :, None]).shape == (1, 2, 1)


def test_a_third_singular_value_far_below_the_root_of_rounding_is_resolved():
    for small in (1e-8, 1e-12, 1e-13):  # rounding of W itself moves a singular value by 1e-15
        sigma = torch.tensor([1.0, 0.5, small], dtype=torch.float64)
        W = orthonormal(3, 6, 3) * sigma @ orthonormal(4, 9, 3).T
        assert singular_ratio(W).item() == pytest.approx(small, abs=1e-14)


def test_the_gradient_of_the_stable_rank_is_that_of_its_definition():
    W = normal(5, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(stable_rank, (W,))


# -------------------------------------------------------------- what cannot be measured is refused


@pytest.mark.parametrize(
    ("W", "words"),
    [
        (torch.zeros(2, 3), "zero or not finite"),
        (torch.stack([torch.eye(2), torch.zeros(2, 2)]), "zero or not finite"),
        (torch.tensor([[1.0, math.nan]]), "zero or not finite"),
        (torch.tensor([[1.0, -math.inf]]), "zero or not finite"),
        (torch.ones(3), "need matrices"),
        (torch.ones(0, 3), "need matrices"),
        (torch.ones(2, 0, 3), "need matrices"),
        (torch.ones(2, 2, dtype=torch.int64), "need matrices"),
    ],
)
def test_what_has_no_spectrum_is_refused(W, words):
    with pytest.raises(ValueError, match=words):
        stable_rank(W)


@pytest.mark.parametrize(("shape", "k"), [((2, 5), 3), ((5, 2), 3), ((3, 3), 0), ((3,), 1)])
def test_a_singular_value_that_does_not_exist_is_refused(shape, k):
    with pytest.raises(ValueError, match="no singular value|need matrices"):
        singular_ratio(torch.ones(shape), k)
