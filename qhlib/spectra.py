"""Soft ranks of stacked weight matrices: the stable rank, and ratios of singular values.

Conventions. ``W`` is (..., m, d): any number of stacked matrices, as a rule (S, m, d) or (m, d),
float32 or float64, on any device; ``sigma_1 >= sigma_2 >= ...`` are the singular values of one
matrix. The measures are pure numbers (...), in the dtype of W; they see neither the scale of W nor
rotations of its rows or columns.
"""

import torch
from torch import Tensor


def stable_rank(
    W: Tensor,  # (..., m, d)
) -> Tensor:
    """``|W|_F^2 / |W|_2^2 = sum_k (sigma_k / sigma_1)^2``, between 1 and the rank: (...).

    From the eigenvalues of the smaller Gram matrix, a fraction of the price of the singular
    values; only the largest eigenvalue and the trace enter, and these keep their full relative
    accuracy.

    Raises:
        ValueError: for a matrix that is zero, or not finite, and for a tensor that holds no matrix
            of floats.

    Source: Frei et al. (2023), definition, stated there.

    >>> W = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).double()
    >>> stable_rank(W).item()
    1.25
    """
    W = _unit_scale(W)
    gram = W @ W.mT if W.shape[-2] <= W.shape[-1] else W.mT @ W
    return W.square().sum((-2, -1)) / torch.linalg.eigvalsh(gram)[..., -1]


def singular_ratio(
    W: Tensor,  # (..., m, d)
    k: int = 3,
) -> Tensor:
    """``sigma_k / sigma_1``, zero to rounding exactly when the rank is below k: (...).

    From the singular values themselves: a Gram matrix would lose everything below ``sqrt(eps)
    sigma_1``.

    Raises:
        ValueError: as :func:`stable_rank`, and if the matrices have fewer than k singular values.

    >>> W = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1e-12]]).double()
    >>> singular_ratio(W, 2).item()
    0.5
    >>> singular_ratio(W, 3).item() < 1e-12
    True
    """
    if not 1 <= k <= min(W.shape[-2:], default=0):
        raise ValueError(
            f"matrices of shape {tuple(W.shape[-2:])} have no singular value number {k}"
        )
    sigma = torch.linalg.svdvals(_unit_scale(W))
    return sigma[..., k - 1] / sigma[..., 0]


def _unit_scale(W: Tensor) -> Tensor:
    """W over its largest entry, so that squares neither overflow nor vanish; refuses what has no
    direction."""
    if W.ndim < 2 or not W.is_floating_point() or 0 in W.shape[-2:]:
        raise ValueError(f"need matrices (..., m, d) of floats, got {tuple(W.shape)} of {W.dtype}")
    largest = W.abs().amax((-2, -1), keepdim=True)
    if not ((largest > 0) & largest.isfinite()).all():
        raise ValueError("a matrix is zero or not finite, so it has no stable rank")
    return W / largest
