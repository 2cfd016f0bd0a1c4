"""The limit of a two-layer (leaky) ReLU network: kinks, and the polish that treats them exactly.

Conventions. ``f(x) = sum_j a_j sigma(<w_j, x>)`` with ``sigma(z) = max(z, alpha z)``, slope ``0 <= alpha <=
1``, and a second layer a (m,) that stays fixed: homogeneous of degree 1 in W (S, m, d). ``c_ij = y_i a_j``
and ``z_ij = <w_j, x_i>`` (n, m). A pair (i, j) sits on a kink when ``z_ij = 0``; there its slope ``xi_ij`` is
any number in [alpha, 1], and

    W_j = sum_i mu_i c_ij xi_ij x_i,   mu_i >= 0,   mu_i (q_i - 1) = 0,

which are the KKT conditions of ``min 1/2 |W|^2 s.t. q_i >= 1``.

Where ``c_ij < 0`` the unit's contribution ``min(c z, c alpha z)`` to the margin is concave, so the problem is
convex in it and kinks are exact constraints; where ``c_ij > 0`` it is convex and the side that the flow is on
is kept.
"""

import numpy as np
import torch
from torch import Tensor

from qhlib.cones import free_basis, nested_qp
from qhlib.data import Data
from qhlib.homogeneity import unit_margin
from qhlib.limits import KinkFinder, Kinks, Limit, as_limit
from qhlib.margins import Model
from qhlib.params import Params


def second_layer(m: int) -> Tensor:
    """The fixed second layer of :func:`qhlib.models.two_layer`: ``1/sqrt(m)``, then ``-1/sqrt(m)``, half
    each. (m,).

    >>> second_layer(4).tolist()
    [0.5, 0.5, -0.5, -0.5]
    """
    a = torch.full((m,), m**-0.5, dtype=torch.float64)
    a[m // 2 :] *= -1
    return a


def two_layer_leaky_relu(params: Params, X: Tensor, *, slope: float) -> Tensor:  # (S, n)
    """The network of :func:`qhlib.models.two_layer`, laid out for speed: the samples stay the last axis.

    Then every operation and its derivative runs through memory in order: a third less time for 16 stacked
    seeds.

    >>> W = torch.tensor([[[2.0], [-2.0]]]).double()
    >>> round(two_layer_leaky_relu({"W": W}, torch.tensor([[1.0]]).double(), slope=0.5).item() * 2**0.5, 6)
    3.0
    """
    W = params["W"]
    z = W @ X.mT if X.ndim == 3 else (W.reshape(-1, W.shape[2]) @ X.T).reshape(*W.shape[:2], -1)
    return second_layer(W.shape[1]).to(W) @ torch.nn.functional.leaky_relu(z, slope)


def kinks(data: Data, a: Tensor, slope: float, near: float = 1e-9) -> KinkFinder:
    """Clarke generators on the pairs with ``|z_ij| <= near |x_i| max_j |w_j|``, for
    :func:`qhlib.limits.kkt_residual`.

    The direction of a pair is ``c_ij (xi' - xi) x_i`` in the row of w_j: xi is the slope that differentiation
    took and xi' the other one. xi is read off the Jacobian: at ``z = 1e-17`` the order of a sum decides the
    side, so recomputing z can give the other one.

    >>> data = Data(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]))
    >>> finder = kinks(data, torch.tensor([1.0]), 0.5)
    >>> finder({"W": torch.tensor([[[0.0, 2.0]]])}, torch.tensor([[[0.5, 0.0]]]))[0].direction.tolist()
    [[0.5, 0.0]]
    """

    def finder(params: Params, J: Tensor) -> list[Kinks]:
        found = []
        for s, W in enumerate(params["W"].detach().cpu().numpy()):
            X, y, a_ = _arrays(data, a, s)
            lengths = np.linalg.norm(X, axis=1)
            # relative to the longest w_j: a unit that vanishes altogether sits on all its kinks
            close = np.abs(X @ W.T) <= near * lengths[:, None] * np.linalg.norm(W, axis=1).max()
            i, j = np.nonzero(close & (lengths[:, None] > 0) & (a_ != 0))
            own = J[s].cpu().numpy().reshape(len(X), *W.shape)[i, j]  # c_ij xi x_i
            taken = (own * X[i]).sum(1) / (y[i] * a_[j] * lengths[i] ** 2)
            direction = np.zeros((len(i), *W.shape))
            direction[np.arange(len(i)), j] = (y[i] * a_[j] * (1 + slope - 2 * taken))[:, None] * X[i]
            found.append(Kinks(i, direction.reshape(len(i), W.size)))
        return found

    return finder


def polish_leaky_relu(
    model: Model,
    data: Data,
    params: Params,
    *,
    a: Tensor | None = None,
    slope: float,
    near: float = 1e-9,
    max_rounds: int = 100,
) -> Limit:
    """From a flow past separation to a Clarke-KKT point of ``min 1/2 |W|^2 s.t. q_i >= 1``, seed by seed.

    With the flow's activation pattern the problem is a quadratic programme, solved in its dual (one variable
    per sample and per kink, whatever m and d). A concave pair (``c_ij < 0``) whose unit changes sides becomes
    an exact constraint; a convex one that changes sides is given its new side. Each round lowers the norm, so
    the rounds end; the sentence in ``reason`` counts both. The certificate is computed anew from the model's
    own gradients and :func:`kinks`.

    Args:
        model: the network, e.g. ``partial(two_layer, slope=slope)``; must be ``sum_j a_j sigma(<w_j, x>)``.
        params: ``{"W": (S, m, d)}`` on the flow, past separation.
        a: second layer (m,); by default :func:`second_layer`.
        slope: alpha in [0, 1).
        near: relative size of z_ij below which the certificate sees a kink.
        max_rounds: limit on the quadratic programmes per seed.

    Raises:
        ValueError: if the model is not this network, the slope is out of range, or the data are not
        separated.

    Source: derived here.

    >>> from functools import partial
    >>> from qhlib.models import two_layer
    >>> data = Data(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([1.0, -1.0]).double())
    >>> W = torch.tensor([[[3.0, -1.0], [-1.0, 2.0]]]).double()
    >>> limit = polish_leaky_relu(partial(two_layer, slope=0.5), data, {"W": W}, slope=0.5)
    >>> limit.certified.item(), limit.params["W"].round(decimals=4).tolist()
    (True, [[[1.1314, -0.5657], [-0.5657, 1.1314]]])
    """
    if set(params) != {"W"} or not 0 <= slope < 1:
        raise ValueError(
            f"polish_leaky_relu needs params {{'W'}} and a slope in [0, 1), got {set(params)} and {slope}"
        )
    a = second_layer(params["W"].shape[1]) if a is None else a
    start = unit_margin(model, data, params, {"W": 1.0})
    expected = torch.nn.functional.leaky_relu(data.X @ start["W"].mT, slope) @ a.to(start["W"])
    if not torch.allclose(model(start, data.X), expected, rtol=1e-9, atol=1e-9):
        raise ValueError("the model is not sum_j a_j max(z, slope z) with this second layer and slope")
    points, reasons = [], []
    for s, W in enumerate(start["W"].detach().cpu().numpy()):
        point, reason = _descend(*_arrays(data, a, s), W, slope, max_rounds)
        points.append(torch.as_tensor(point))
        reasons.append(reason)
    stacked = unit_margin(model, data, {"W": torch.stack(points)}, {"W": 1.0})
    return as_limit(model, data, params, stacked, {"W": 1.0}, reasons, kinks(data, a, slope, near))


def _arrays(data: Data, a: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = data.X[seed] if data.X.ndim == 3 else data.X
    return X.cpu().numpy(), data.y.cpu().numpy(), a.cpu().numpy()


def _descend(
    X: np.ndarray,  # (n, d)
    y: np.ndarray,
    a: np.ndarray,
    W: np.ndarray,  # (m, d)
    slope: float,
    max_rounds: int,
) -> tuple[np.ndarray, str]:
    """Rounds of quadratic programmes from one seed's W, until every pair is where it was assumed."""
    kernel, c = X @ X.T, y[:, None] * a
    positive = W @ X.T > 0
    positive = positive.T.copy()  # (n, m)
    exact = np.zeros_like(positive)
    flips = 0
    for rounds in range(1, max_rounds + 1):
        # concave pairs on a kink: slope alpha for sure, and a share of the rest
        base = c * np.where(positive & ~exact, 1.0, slope)
        i, j = np.nonzero(exact)
        extra = c[i, j] * (1 - slope)
        mu, nu = _dual(kernel, base, i, j, extra)
        coefficients = mu[:, None] * base
        coefficients[i, j] += nu * extra
        z = kernel @ coefficients  # (n, m), of the new W
        moved = (z > 0) != positive
        # rounding decides the sign of a pair that lies on its kink: not a move
        moved &= np.abs(z) > 1e-11 * np.abs(z).max()
        moved &= ~exact
        if not moved.any():
            done = f"{rounds} rounds, {len(i)} pairs exact, {flips} flips to a new side."
            return coefficients.T @ X, f"The pattern is consistent after {done}"
        concave = moved & (c < 0)
        if concave.any():
            exact |= concave
            continue
        # only now: with a kink left out, the programme can push convex pairs across that the flow leaves in
        # place
        flips += int(moved.sum())
        positive ^= moved
    return coefficients.T @ X, f"The pattern was still changing after {max_rounds} rounds: raise max_rounds."


def _dual(
    kernel: np.ndarray,  # (n, n) inner products of the inputs
    base: np.ndarray,  # (n, m) slopes times c of the frozen pattern
    i: np.ndarray,
    j: np.ndarray,
    extra: np.ndarray,  # (K,) what the share adds to pair (i, j)
) -> tuple[np.ndarray, np.ndarray]:
    """``min 1/2 |W(mu, nu)|^2 - sum mu`` over ``mu >= 0``, ``0 <= nu_k <= mu_{i_k}``: the dual."""
    n, K = len(base), len(i)
    gram = np.empty((n + K, n + K))
    gram[:n, :n] = kernel * (base @ base.T)
    gram[:n, n:] = kernel[:, i] * base[:, j] * extra
    gram[n:, :n] = gram[:n, n:].T
    gram[n:, n:] = kernel[np.ix_(i, i)] * (j[:, None] == j) * np.outer(extra, extra)
    ones = np.r_[np.ones(n), np.zeros(K)]
    x, zero, full, _ = nested_qp(gram, ones, n, i)
    # solve again on the bounds that are active, to rounding; a bound that this breaks is active as well
    value = lambda v: 0.5 * v @ gram @ v - v @ ones  # noqa: E731
    for _ in range(10):
        basis = free_basis(zero, full, n, i)
        refined = basis @ np.linalg.lstsq(basis.T @ gram @ basis, basis.T @ ones, rcond=1e-13)[0]
        below, above = refined < 0, (refined[n:] > refined[:n][i]) & ~full
        if not below.any() and not above.any():
            # the certificate decides about the point in the end; here it must not be worse than Clarabel's
            better = value(refined) <= value(x) + 1e-12 * abs(value(x))
            x = refined if better else x
            break
        zero |= below
        zero[n:] |= zero[:n][i]
        full = (full | above) & ~zero[n:]
    return x[:n], x[n:]
