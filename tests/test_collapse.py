"""Collapse measures against known configurations, under invariances, and by independent
computations."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from qhlib import collapse
from qhlib.data import Data
from qhlib.margins import margins

SEEDS = st.integers(0, 2**31 - 1)
EXACT = 1e-12


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed: int, C: int = 3, m: int = 5, d: int = 4, S: int = 2):
    """Features (S, n, d) of C classes with m samples each, labels, a head."""
    y = torch.arange(C * m) % C
    return (
        2 * normal(seed, S, C, d)[:, y] + normal(seed + 1, S, C * m, d),
        y,
        normal(seed + 2, S, C, d),
    )


def rotation(seed: int, d: int) -> torch.Tensor:
    return torch.linalg.qr(normal(seed, d, d))[0]


def batch_normalised_simplex(C: int, d: int) -> torch.Tensor:
    """C rows that are a simplex while each of the d columns has mean 0 and variance 1: a harmonic
    frame."""
    # equal-norm tight frame of d vectors in R^(C-1), built from cosines and sines of different
    # frequencies
    j = torch.arange(d, dtype=torch.float64)
    rows = []
    for k in range(1, (C - 1) // 2 + 1):
        rows += [torch.cos(2 * math.pi * k * j / d), torch.sin(2 * math.pi * k * j / d)]
    if (C - 1) % 2:
        rows.append(torch.cos(math.pi * j) / math.sqrt(2))
    V = torch.stack(rows, 1) * math.sqrt(2 / d)  # (d, C-1), orthonormal columns
    if d == C - 1:  # square: any orthogonal matrix, and the highest sine above would vanish
        V = torch.eye(d, dtype=torch.float64)
    centred = torch.linalg.qr(torch.eye(C, dtype=torch.float64)[:, :-1] - 1 / C)[0]  # (C, C-1)
    return math.sqrt(d * C / (C - 1)) * centred @ V.T


# ----------------------------------------------------------- configurations whose values are known


@pytest.mark.parametrize(("C", "d"), [(2, 1), (2, 5), (3, 2), (4, 3), (4, 9), (10, 9), (10, 20)])
def test_a_simplex_is_collapsed(C, d):
    etf = collapse.simplex_etf(C, d)
    gram = etf @ etf.T
    expected = (C * torch.eye(C, dtype=torch.float64) - 1) / (C - 1)
    assert (gram - expected).abs().max() < EXACT
    assert etf.sum(0).abs().max() < EXACT
    y = torch.arange(3 * C) % C
    for name, value in collapse.measure(etf[y][None], y, 7 * etf[None])._asdict().items():
        assert value.item() < 1e-7 if name == "nc3" else value.item() < EXACT, name


@pytest.mark.parametrize(("C", "d"), [(3, 2), (3, 6), (4, 8), (5, 7)])
def test_the_bound_is_attained_by_a_simplex_also_under_batch_normalisation(C, d):
    y = torch.arange(2 * C) % C
    plain = collapse.simplex_etf(C, max(d, C - 1))
    cases = [(plain, 1.0)]
    if C % 2 or d % 2 == 0:
        normalised = batch_normalised_simplex(C, d)
        assert normalised.mean(0).abs().max() < EXACT
        assert (normalised.square().mean(0) - 1).abs().max() < EXACT
        cases.append((normalised, float(d)))
    for H, second_moment in cases:
        q = margins(
            lambda p, X, H=H: H[y][None] @ p["W"].mT,
            Data(torch.zeros(2 * C, 0), y),
            {"W": H[None]},
        )
        assert q.min().item() / H.norm().item() == pytest.approx(
            collapse.margin_bound(C, second_moment), rel=EXACT
        )
        assert collapse.etf_distance(H[None]).item() < EXACT


def test_noise_within_classes_has_the_nc1_of_its_variance():
    # each class holds mu_c + t e_3 and mu_c - t e_3, with e_3 orthogonal to the simplex in the
    # first two axes
    etf, t = torch.nn.functional.pad(collapse.simplex_etf(3, 2), (0, 1)), 0.3
    y = torch.arange(6) % 3
    H = etf[y].clone()
    H[:3, 2], H[3:, 2] = t, -t
    out = collapse.measure(H[None], y, etf[None])
    assert out.nc1.item() == pytest.approx(t**2, rel=EXACT)  # tr Sigma_B = 1
    assert out.nc1_pinv.item() < EXACT  # blind to what lies outside the span of the means
    assert out.etf_distance.item() < EXACT


def test_noise_along_the_means_is_seen_by_both_forms_of_nc1():
    y = torch.tensor([0, 0, 1, 1])
    H = torch.tensor(
        [[[1.5], [0.5], [-1.5], [-0.5]]], dtype=torch.float64
    )  # means +-1, within-variance 1/4
    assert collapse.nc1(H, y).item() == pytest.approx(0.25, rel=EXACT)
    assert collapse.nc1_pinv(H, y).item() == pytest.approx(
        0.25 / 2, rel=EXACT
    )  # tr(Sigma_W Sigma_B^+) / C


@pytest.mark.parametrize("t", [1e-1, 1e-4, 1e-8])
def test_turning_the_head_by_an_angle_gives_twice_the_sine_of_half_of_it(t):
    etf = collapse.simplex_etf(3, 2)
    turn = torch.tensor(
        [[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]], dtype=torch.float64
    )
    assert collapse.nc3(etf[None], (etf @ turn)[None]).item() == pytest.approx(
        2 * math.sin(t / 2), rel=1e-6
    )


def test_a_common_shift_of_the_head_counts_in_nc3():
    etf, shift = collapse.simplex_etf(4, 3), 0.5
    head = etf + torch.tensor([shift, 0, 0], dtype=torch.float64)
    cosine = 2 / math.sqrt(4 + 4 * shift**2)  # |etf|_F = 2
    assert collapse.nc3(etf[None], head[None]).item() == pytest.approx(
        math.sqrt(2 - 2 * cosine), rel=EXACT
    )


def test_lengths_and_angles_of_known_vectors():
    V = torch.tensor([[[1.0, 0], [0, 1.0], [-1.0, 0]]], dtype=torch.float64)
    assert collapse.equinorm(V).item() == 0
    # cosines 0, -1, 0 against -1/2
    assert collapse.equiangle(V).item() == pytest.approx(0.5, rel=EXACT)
    stretched = V * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)[:, None]
    assert collapse.equinorm(stretched).item() == pytest.approx(math.sqrt(2 / 3) / 2, rel=EXACT)
    assert collapse.equiangle(stretched).item() == pytest.approx(0.5, rel=EXACT)


def test_collapse_far_below_rounding_of_the_features_is_not_lost_in_a_pseudo_inverse():
    etf = collapse.simplex_etf(4, 8)
    y = torch.arange(8) % 4
    for t in (1e-3, 1e-6, 1e-7):
        noisy = (
            etf[y]
            + t
            * torch.where(torch.arange(8) < 4, 1.0, -1.0)[:, None]
            * torch.eye(8, dtype=torch.float64)[0]
        )
        assert collapse.nc1(noisy[None], y).item() == pytest.approx(t**2, rel=1e-6)
        # the noise lies along e_1, in the span of the means; Sigma_B = I/3 there
        assert collapse.nc1_pinv(noisy[None], y).item() == pytest.approx(3 * t**2 / 4, rel=1e-6)


# ---------------------------------------------------------------- invariances


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS, scale=st.floats(1e-3, 1e3), head_scale=st.floats(1e-3, 1e3), C=st.integers(2, 5)
)
def test_measures_do_not_see_rotation_scale_order_or_seed_neighbours(seed, scale, head_scale, C):
    d = 4
    H, y, W = problem(seed, C=C, d=d)
    base = collapse.measure(H, y, W)
    Q = rotation(seed + 3, d)
    shift = normal(seed + 4, d)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    turned = collapse.measure(scale * H @ Q, y, head_scale * W @ Q)
    shuffled = collapse.measure(H[:, order], y[order], W)
    alone = collapse.measure(H[1:], y, W[1:])
    for name, value in base._asdict().items():
        for other in (getattr(turned, name), getattr(shuffled, name)):
            assert torch.allclose(value, other, rtol=1e-8, atol=1e-11), name
        assert torch.allclose(value[1:], getattr(alone, name), rtol=1e-12, atol=1e-13), name
        if name != "nc4":  # a shift of all features moves what the head decides, and nothing else
            assert torch.allclose(
                value, getattr(collapse.measure(H + shift, y, W), name), rtol=1e-8, atol=1e-11
            )


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, C=st.integers(2, 6), d=st.integers(1, 6), closeness=st.floats(0, 6))
def test_the_bound_and_its_stability_hold_for_any_balanced_configuration(seed, C, d, closeness):
    """r <= 1; NC1 <= r^-2 - 1; NC3 <= sqrt(2 (1 - r)): from far off to nearly collapsed."""
    d = max(d, C - 1)
    y = torch.arange(3 * C) % C
    etf, eps = collapse.simplex_etf(C, d), 10.0**-closeness
    H = (etf[y] + eps * normal(seed, 3 * C, d))[None]
    W = (etf + eps * normal(seed + 1, C, d))[None]
    second_moment = H.square().sum().item() / (3 * C)
    q = margins(lambda p, X: H @ p["W"].mT, Data(torch.zeros(3 * C, 0), y), {"W": W})
    r = q.min().item() / W.norm().item() / collapse.margin_bound(C, second_moment)
    assert r <= 1 + EXACT
    if r > 0:
        assert collapse.nc1(H, y).item() <= r**-2 - 1 + EXACT
        assert (
            collapse.nc3(collapse.centered_means(H, y), W).item()
            <= math.sqrt(2 * max(1 - r, 0)) + 1e-7
        )


# ---------------------------------------------------------------- independent computations


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_scatter_matrices_against_numpy_and_nc1_against_them(seed):
    H, y, _ = problem(seed, C=4, m=4, d=6, S=1)
    X, labels = H[0].numpy(), y.numpy()
    within = sum(np.cov(X[labels == c].T, bias=True) for c in range(4)) / 4
    between = np.cov(np.stack([X[labels == c].mean(0) for c in range(4)]).T, bias=True)
    assert collapse.nc1(H, y).item() == pytest.approx(
        np.trace(within) / np.trace(between), rel=1e-10
    )
    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    assert collapse.nc1_pinv(H, y).item() == pytest.approx(
        np.trace(within @ inverse) / 4, rel=1e-8
    )


def test_class_means_and_nearest_mean_against_scikit_learn():
    H, y, W = problem(5, C=4, m=6, d=5, S=1)
    X, labels = H[0].numpy(), y.numpy()
    lda = LinearDiscriminantAnalysis(solver="eigen", store_covariance=True).fit(X, labels)
    assert np.allclose(collapse.class_means(H, y)[0].numpy(), lda.means_, atol=EXACT)
    within = (H - collapse.class_means(H, y)[:, y])[0].numpy()
    assert np.allclose(within.T @ within / len(y), lda.covariance_, atol=EXACT)
    decided = (X @ W[0].numpy().T).argmax(1)
    nearest = NearestCentroid().fit(X, labels).predict(X)
    assert collapse.nc4(H, y, W).item() == pytest.approx((decided != nearest).mean(), abs=EXACT)


def test_slsqp_with_exact_constraints_finds_the_bound_and_not_more():
    """min 1/2 |W|^2 with unit-norm features and margins >= 1, from a separable start: 1/|W| =
    bound."""
    C, d = 3, 4
    rng = np.random.default_rng(0)
    start = rng.standard_normal((C, d))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    others = [(i, c) for i in range(C) for c in range(C) if c != i]

    def split(x):
        return x[: C * d].reshape(C, d), x[C * d :].reshape(C, d)

    def slack(x):
        W, H = split(x)
        return np.array([(W[i] - W[c]) @ H[i] - 1 for i, c in others])

    first = np.r_[5 * (start - start.mean(0)).ravel(), start.ravel()]
    assert slack(first).min() > 0
    out = scipy.optimize.minimize(
        lambda x: 0.5 * x[: C * d] @ x[: C * d],
        first,
        jac=lambda x: np.r_[x[: C * d], np.zeros(C * d)],
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": slack},
            {"type": "eq", "fun": lambda x: (split(x)[1] ** 2).sum(1) - 1},
        ],
        options={"maxiter": 300, "ftol": 1e-14},
    )
    assert out.success
    W, H = split(out.x)
    assert 1 / np.linalg.norm(W) == pytest.approx(collapse.margin_bound(C, 1.0), rel=1e-6)
    found = collapse.measure(torch.tensor(H)[None], torch.arange(C), torch.tensor(W)[None])
    assert max(found.etf_distance.item(), found.nc3.item()) < 1e-4


# -------------------------------------------------------------- what cannot be measured is refused


@pytest.mark.parametrize(
    ("H", "y", "W", "words"),
    [
        (torch.zeros(3, 2), torch.arange(3), torch.zeros(1, 3, 2), "head of shape"),
        (torch.zeros(1, 3, 2), torch.arange(4), torch.zeros(1, 4, 2), "integer classes"),
        (torch.zeros(1, 3, 2), torch.zeros(3), torch.zeros(1, 3, 2), "integer classes"),
        (torch.zeros(1, 3, 2), torch.tensor([0, 0, 2]), torch.zeros(1, 3, 2), "needs a sample"),
        (torch.zeros(1, 3, 2), torch.tensor([0, 0, 0]), torch.zeros(1, 1, 2), "C >= 2"),
        (torch.zeros(1, 4, 2), torch.arange(4) % 2, torch.zeros(1, 3, 2), "2 classes"),
        (torch.zeros(2, 3, 2), torch.arange(3), torch.zeros(1, 3, 2), "head of shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(H, y, W, words):
    with pytest.raises(ValueError, match=words):
        collapse.measure(H, y, W)


@pytest.mark.parametrize("bad", [(1, 1.0), (3, 0.0), (3, -1.0), (3, math.inf), (3, math.nan)])
def test_a_bound_without_classes_or_features_is_refused(bad):
    with pytest.raises(ValueError, match="need C >= 2"):
        collapse.margin_bound(*bad)


@pytest.mark.parametrize("bad", [(1, 3), (4, 2)])
def test_a_simplex_needs_room(bad):
    with pytest.raises(ValueError, match="d >= C-1"):
        collapse.simplex_etf(*bad)
