"""Neural collapse: the four measures of Papyan, Han and Donoho, and the margin that collapse
attains.

Conventions. S seeds are stacked in the leading axis. ``H`` are last-layer features (S, n, d),
``y`` classes 0..C-1 (n,) int64, each of them present, ``W`` the head (S, C, d); all float64, no
measure has a unit. ``mu_c`` are the class means, ``mu`` their average, ``M = (mu_c - mu)_c`` (S,
C, d) the centred class means, ``Sigma_W = (1/n) sum_i (h_i - mu_{y_i})(h_i - mu_{y_i})^T`` and
``Sigma_B = (1/C) M^T M``. Classes count equally in mu and Sigma_B, however many samples they have.

Source: Papyan et al. (2020), as we recall the definitions; they are stated there for balanced
classes. Each measure is zero exactly at collapse: NC1, the variability within classes vanishes;
NC2, the class means are a simplex equiangular tight frame (ETF); NC3, the head is proportional to
them; NC4, the head decides like the nearest class mean.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Collapse(NamedTuple):
    """All measures at one instant, each (S,): see the function of the same name.

    >>> Collapse._fields
    ('nc1', 'nc1_pinv', 'equinorm', 'equiangle', 'etf_distance', 'nc3', 'nc4')
    """

    nc1: Tensor
    nc1_pinv: Tensor
    equinorm: Tensor
    equiangle: Tensor
    etf_distance: Tensor
    nc3: Tensor
    nc4: Tensor


def measure(H: Tensor, y: Tensor, W: Tensor) -> Collapse:
    """Every measure of collapse for features H and head W; NC2 is that of the class means.

    Raises:
        ValueError: if the shapes do not fit, a class has no sample, or there are fewer than two
            classes.

    >>> etf = simplex_etf(3, 2)[None]
    >>> [round(value.item(), 12) for value in measure(etf, torch.arange(3), 2 * etf)]
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if W.ndim != 3 or W.shape[0] != H.shape[0] or W.shape[-1] != H.shape[-1]:
        raise ValueError(
            f"features {tuple(H.shape)} need a head of shape (S, C, d), got {W.shape}"
        )
    M = centered_means(H, y)
    if M.shape[1] != W.shape[1]:
        raise ValueError(f"the labels hold {M.shape[1]} classes, the head has {W.shape[1]} rows")
    of_means = equinorm(M), equiangle(M), etf_distance(M)
    return Collapse(nc1(H, y), nc1_pinv(H, y), *of_means, nc3(M, W), nc4(H, y, W))


def class_means(H: Tensor, y: Tensor) -> Tensor:  # (S, C, d)
    """Mean feature of each class, ``mu_c = mean of h_i over y_i = c``, (S, C, d).

    Raises:
        ValueError: if the shapes do not fit, a class has no sample, or there are fewer than two
            classes.

    >>> H = torch.tensor([[[0.0], [2.0], [5.0]]])
    >>> class_means(H, torch.tensor([0, 0, 1])).flatten().tolist()
    [1.0, 5.0]
    """
    if H.ndim != 3 or y.shape != H.shape[1:2] or y.is_floating_point():
        shapes = f"{tuple(H.shape)} and {tuple(y.shape)}"
        raise ValueError(f"give features (S, n, d) and n integer classes, got {shapes}")
    counts = torch.bincount(y)
    if len(counts) < 2 or bool((counts == 0).any()):
        raise ValueError(f"every class 0..C-1 needs a sample and C >= 2, got {counts.tolist()}")
    return (torch.nn.functional.one_hot(y).to(H.dtype) / counts).T @ H


def centered_means(H: Tensor, y: Tensor) -> Tensor:  # (S, C, d)
    """Centred class means ``M = (mu_c - mu)_c`` with ``mu = (1/C) sum_c mu_c``, (S, C, d).

    >>> H = torch.tensor([[[0.0], [2.0], [5.0]]])
    >>> centered_means(H, torch.tensor([0, 0, 1])).flatten().tolist()
    [-2.0, 2.0]
    """
    means = class_means(H, y)
    return means - means.mean(1, keepdim=True)


def nc1(H: Tensor, y: Tensor) -> Tensor:  # (S,)
    """NC1: ``tr Sigma_W / tr Sigma_B``, the variability within classes against that between them.
    (S,)

    Every direction of feature space counts, so it vanishes only when the samples of a class
    coincide.

    >>> H = torch.tensor([[[0.0], [2.0], [5.0], [5.0]]], dtype=torch.float64)
    >>> nc1(H, torch.tensor([0, 0, 1, 1])).item()  # (2/4) / 4
    0.125
    """
    M = centered_means(H, y)
    within = (H - class_means(H, y)[:, y]).square().sum((1, 2)) / H.shape[1]
    return within / (M.square().sum((1, 2)) / M.shape[1])


def nc1_pinv(H: Tensor, y: Tensor) -> Tensor:  # (S,)
    """NC1 with the pseudo-inverse, ``tr(Sigma_W Sigma_B^+) / C``: Papyan et al. (2020). (S,)

    It sees only the C-1 directions spanned by the class means. Where the head lies in their span
    (NC3), interpolation alone sends it to zero: read it beside :func:`nc1`. The rank of Sigma_B is
    taken as min(C-1, d), and exactly so many singular values of M are inverted: a tolerance would
    drop or keep the wrong one near collapse.

    >>> H = torch.tensor([[[1.0, 9.0], [1.0, -9.0], [-1.0, 9.0], [-1.0, -9.0]]])
    >>> y = torch.tensor([0, 0, 1, 1])
    >>> nc1_pinv(H, y).item(), nc1(H, y).item()
    (0.0, 81.0)
    """
    _, s, Vt = torch.linalg.svd(M := centered_means(H, y), full_matrices=False)
    rank = min(M.shape[1] - 1, M.shape[2])
    residual = H - class_means(H, y)[:, y]
    # the diagonal of V^T Sigma_W V; Sigma_B has eigenvalues s^2 / C: the factors C cancel
    along = (residual @ Vt[:, :rank].mT).square().sum(1) / H.shape[1]  # (S, rank)
    return (along / s[:, :rank].square()).sum(1)


def equinorm(V: Tensor) -> Tensor:  # (S,)
    """NC2, norms of V (S, C, d): ``std_c |v_c| / mean_c |v_c|`` with the population std. (S,)

    Papyan et al. (2020), for the centred class means and for the rows of the head.

    >>> equinorm(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])).item()
    0.5
    """
    norms = torch.linalg.vector_norm(V, dim=-1)
    return norms.std(-1, correction=0) / norms.mean(-1)


def equiangle(V: Tensor) -> Tensor:  # (S,)
    """NC2, angles of V (S, C, d): ``mean over c != c' of |cos(v_c, v_c') + 1/(C-1)|``. (S,)

    Papyan et al. (2020). For C = 2 centred vectors are antipodal: zero for any features, no
    evidence.

    >>> round(equiangle(torch.eye(3)[None]).item(), 6)
    0.5
    """
    C = V.shape[-2]
    unit = V / torch.linalg.vector_norm(V, dim=-1, keepdim=True)
    off = ~torch.eye(C, dtype=torch.bool, device=V.device)
    return (unit @ unit.mT + 1 / (C - 1))[:, off].abs().mean(-1)


def etf_distance(V: Tensor) -> Tensor:  # (S,)
    """NC2 in one number: ``| G/|G|_F - (I - 11^T/C)/sqrt(C-1) |_F`` with ``G = V V^T``. (S,)

    V is (S, C, d). Zero exactly when the rows of V are a simplex ETF, whatever its size and
    orientation. Our choice: it joins the two conditions of Papyan et al. (2020), equal norms and
    equal angles.

    >>> round(etf_distance(torch.eye(2, dtype=torch.float64)[None]).item(), 6)  # sqrt(2 - sqrt(2))
    0.765367
    """
    C = V.shape[-2]
    gram = V @ V.mT
    simplex = (torch.eye(C, dtype=V.dtype, device=V.device) - 1 / C) / math.sqrt(C - 1)
    return torch.linalg.matrix_norm(gram / torch.linalg.matrix_norm(gram)[:, None, None] - simplex)


def nc3(M: Tensor, W: Tensor) -> Tensor:  # (S,)
    """NC3, self-duality: ``| W/|W|_F - M/|M|_F |_F``, head against class means, in [0, 2]. (S,)

    Papyan et al. (2020). The head is *not* centred: a common shift of its rows, which no margin
    sees, counts.

    >>> etf = simplex_etf(4, 3)[None]
    >>> round(nc3(etf, 5 * etf).item(), 12), nc3(etf, -etf).item()
    (0.0, 2.0)
    """
    M, W = (A / torch.linalg.matrix_norm(A)[:, None, None] for A in (M, W))
    return torch.linalg.matrix_norm(W - M)


def nc4(H: Tensor, y: Tensor, W: Tensor) -> Tensor:  # (S,)
    """NC4: share of samples on which the head ``argmax_c <w_c, h>`` and the nearest class mean
    disagree. (S,)

    Papyan et al. (2020), there on test data; measured on whatever H holds.

    >>> H = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> nc4(H, torch.tensor([0, 1]), H.flip(1)).item()
    1.0
    """
    exact = "donot_use_mm_for_euclid_dist"
    nearest = torch.cdist(H, class_means(H, y), compute_mode=exact).argmin(-1)
    return ((H @ W.mT).argmax(-1) != nearest).to(H.dtype).mean(-1)


def margin_bound(classes: int, second_moment: float) -> float:
    """Largest ``q_min / |W|_F`` of a linear head on balanced classes: ``sqrt(C S) / (C - 1)``.
    Derived here.

    ``S = (1/n) sum_i |h_i|^2`` is the second moment of the features: 1 for unit-norm features, d
    for batch normalisation without affine. Attained exactly by NC1, NC2 and NC3 with a centred
    head.

    Raises:
        ValueError: for fewer than two classes, or a second moment that is not positive and finite.

    >>> round(margin_bound(3, 1.0), 6), round(margin_bound(4, 3.0), 6)
    (0.866025, 1.154701)
    """
    if classes < 2 or not 0 < second_moment < math.inf:
        raise ValueError(
            f"need C >= 2 and a positive finite S, got C={classes}, S={second_moment}"
        )
    return math.sqrt(classes * second_moment) / (classes - 1)


def simplex_etf(classes: int, d: int) -> Tensor:  # (C, d)
    """A simplex equiangular tight frame: C unit vectors in R^d, cosines ``-1/(C-1)``. (C, d),
    float64.

    Raises:
        ValueError: for C < 2 or d < C - 1, where none exists.

    >>> simplex_etf(2, 1).tolist()
    [[1.0], [-1.0]]
    """
    if classes < 2 or d < classes - 1:
        raise ValueError(
            f"a simplex of C >= 2 classes needs d >= C-1 dimensions, got C={classes}, d={d}"
        )
    out = torch.zeros(classes, d, dtype=torch.float64)
    # each vector fixes one more axis; the later ones all have the same component along it
    for k in range(classes - 1):
        out[k, k] = (1 - out[k, :k].square().sum()).sqrt()
        for c in range(k + 1, classes):
            out[c, k] = (-1 / (classes - 1) - out[c, :k] @ out[k, :k]) / out[k, k]
    return out
