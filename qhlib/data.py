"""Data sets, as the theorems need them.

Conventions: ``X`` is (n, d), or (S, n, d) when every stacked seed has data of its own; ``y`` holds
labels ±1 as float64, or classes 0..C-1 as int64, shape (n,). Random sets take a ``seed`` and use a
generator of their own, so they never disturb the global random state.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Data(NamedTuple):
    """Inputs X (n, d) or (S, n, d), float64, and labels y (n,): ±1.0 (float64) or classes (int64).

    >>> Data(torch.zeros(3, 2), torch.ones(3)).X.shape
    torch.Size([3, 2])
    """

    X: Tensor
    y: Tensor


def generator(seed: int) -> torch.Generator:
    """A random generator of its own for one seed.

    >>> round(torch.rand(1, generator=generator(0)).item(), 4)
    0.4963
    """
    return torch.Generator().manual_seed(int(seed))


def gaussian_labels(n: int, d: int, seed: int = 0, mean: float = 0.0) -> Data:
    """Gaussian inputs ``x_i = y_i mean e_1 + N(0, I_d)`` with balanced labels ±1 in alternation. X
    (n, d), y (n,).

    For d much larger than n the inputs are nearly orthogonal, hence separable whatever the labels.

    Raises:
        ValueError: if n or d is not positive.

    >>> gaussian_labels(4, 3).y.tolist()
    [1.0, -1.0, 1.0, -1.0]
    """
    if n < 1 or d < 1:
        raise ValueError(f"n and d must be positive, got n={n}, d={d}")
    y = torch.ones(n, dtype=torch.float64)
    y[1::2] = -1
    X = torch.randn(n, d, generator=generator(seed), dtype=torch.float64)
    X[:, 0] += mean * y
    return Data(X, y)


def nearly_orthogonal(
    n: int,
    d: int,
    slope: float = 0.5,
    slack: float = 1.0,
    ratio: float = 1.0,
    seed: int = 0,
    *,
    positive: int | None = None,
    conflict: bool = False,
) -> Data:
    """Inputs with a prescribed Gram matrix: ``max_{i != j} |<x_i, x_j>| = slack slope^3 / (3 n
    ratio^2)``. X (n, d), y (n,).

    The shortest input has length 1 and the longest ``ratio``, the lengths evenly spaced; so
    ``slack <= 1`` is the assumption ``R_min^2 >= 3 slope^-3 R^2 n max |<x_i, x_j>|`` of Frei et
    al. (2023), missed by the factor ``slack`` otherwise. The inner products are uniform random
    numbers, the largest set to the bound; with ``conflict`` all of them have that size and the
    sign ``-y_i y_j``, so that the points pull against each other. ``slack = 0`` is exactly
    orthogonal. The first ``positive`` labels (half by default) are +1, the lengths in random
    order.

    Raises:
        ValueError: if d < n, slope or slack or ratio or positive is out of range, or no inputs
            have these inner products (slack too large).

    Source: derived here; a Cholesky factor of the Gram matrix, in a random orthonormal basis.

    >>> data = nearly_orthogonal(12, 50, slope=0.5, slack=1.0, ratio=1.2)
    >>> round(orthogonality(data.X, 0.5), 9), data.X.norm(dim=1).max().round(decimals=9).item()
    (1.0, 1.2)
    """
    positive = n // 2 if positive is None else positive
    if n < 2 or d < n:
        raise ValueError(f"prescribed inner products need 2 <= n <= d, got {n=}, {d=}")
    if not 0 < slope <= 1 or not slack >= 0 or not ratio >= 1 or not 0 <= positive <= n:
        given = f"got {slope=}, {slack=}, {ratio=}, {positive=}"
        raise ValueError(
            f"need slope in (0, 1], slack >= 0, ratio >= 1, positive in [0, n], {given}"
        )
    rng = generator(seed)
    y = torch.ones(n, dtype=torch.float64)
    y[positive:] = -1
    lengths = torch.linspace(1, ratio, n, dtype=torch.float64)[torch.randperm(n, generator=rng)]
    off = -y[:, None] * y
    if not conflict:
        off = (2 * torch.rand(n, n, generator=rng, dtype=torch.float64) - 1).triu(1)
        off = off + off.T
    off.fill_diagonal_(0)
    largest = slack * slope**3 / (3 * n * ratio**2)
    gram = off * (largest / off.abs().max()) + torch.diag(lengths**2)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise ValueError(
            f"no such inputs have inner products as large as {largest:.3g}: lower slack"
        )
    basis = torch.linalg.qr(torch.randn(d, n, generator=rng, dtype=torch.float64))[0]
    return Data(factor @ basis.T, y)


def orthogonality(X: Tensor, slope: float) -> float:
    """``p / p_needed`` of one data set X (n, d): at least 1 where the assumption of Frei et al.
    (2023) holds.

    ``p = R_min^2 / (R^2 n max_{i != j} |<x_i, x_j>|)`` with ``R = R_max / R_min``, and ``p_needed
    = 3 slope^-3``. Infinite for exactly orthogonal inputs.

    Source: as in Frei et al., COLT 2023, where p-orthogonal data are defined; the constant as
    recalled, consistent with it.

    >>> round(orthogonality(torch.tensor([[1.0, 0.0], [0.1, 1.0]]), 1.0), 4)
    1.6502
    """
    gram = X @ X.T
    squares = gram.diagonal()
    largest = (gram - torch.diag(squares)).abs().max().item()
    if largest == 0:
        return math.inf
    return squares.min().item() ** 2 / (squares.max().item() * len(X) * largest) * slope**3 / 3


def separable_linear(n: int, d: int, seed: int = 0, gap: float = 0.1) -> Data:
    """Gaussian inputs labelled by a random hyperplane, pushed away from it by ``gap``. X (n, d), y
    (n,) ±1.

    Each point satisfies ``y_i <x_i, u> >= gap`` for the (hidden) unit normal u: separable without
    a bias.

    Raises:
        ValueError: if n or d is not positive, or the gap is not positive.

    >>> separable_linear(5, 2, seed=1).X.shape
    torch.Size([5, 2])
    """
    if n < 1 or d < 1 or not gap > 0:
        raise ValueError(f"n and d must be positive and gap > 0, got n={n}, d={d}, gap={gap}")
    rng = generator(seed)
    u = torch.randn(d, generator=rng, dtype=torch.float64)
    u /= u.norm()
    X = torch.randn(n, d, generator=rng, dtype=torch.float64)
    y = torch.where(X @ u >= 0, 1.0, -1.0).to(torch.float64)
    return Data(X + gap * y[:, None] * u, y)
