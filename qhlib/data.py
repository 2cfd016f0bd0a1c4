"""Data sets, as the theorems need them.

Conventions: ``X`` is (n, d), or (S, n, d) when every stacked seed has data of its own; ``y`` holds labels ±1 as
float64, or classes 0..C-1 as int64, shape (n,). Random sets take a ``seed`` and use a generator of their own, so
they never disturb the global random state.
"""

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
    """Gaussian inputs ``x_i = y_i mean e_1 + N(0, I_d)`` with balanced labels ±1 in alternation. X (n, d), y (n,).

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


def separable_linear(n: int, d: int, seed: int = 0, gap: float = 0.1) -> Data:
    """Gaussian inputs labelled by a random hyperplane, pushed away from it by ``gap``. X (n, d), y (n,) ±1.

    Each point satisfies ``y_i <x_i, u> >= gap`` for the (hidden) unit normal u: separable without a bias.

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


def in_span(data: Data) -> tuple[Data, Tensor]:
    """The same data in coordinates of the inputs' span: Data with X (n, r), and the basis Q (d, r), r = min(n, d).

    First-layer weights move only inside the span, so a flow from ``W Q`` on the reduced inputs is the flow from W: its
    component orthogonal to the data stays what it was. A QR factorisation of ``X^T``; X (S, n, d) is reduced per seed.

    >>> reduced, Q = in_span(gaussian_labels(3, 50))
    >>> reduced.X.shape, bool((reduced.X @ Q.T - gaussian_labels(3, 50).X).abs().max() < 1e-12)
    (torch.Size([3, 3]), True)
    """
    Q = torch.linalg.qr(data.X.transpose(-1, -2))[0]
    return Data(data.X @ Q, data.y), Q
