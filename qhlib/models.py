"""Networks as pure functions of stacked parameters, with their rates beside them.

Conventions. A model is a function ``f(params, X)``: ``params`` is a dictionary of float64 tensors
with the S seeds in the leading axis, ``X`` is (n, d), or (S, n, d) when each seed has inputs of
its own. It returns scores (S, n) for labels ±1, or (S, n, C) for C classes. Options (slopes,
depths) are keyword arguments: bind them with ``functools.partial``. ``W`` are weights, ``b``
biases, ``theta`` the factors of a diagonal network.

``*_rates`` gives one valid Lambda of its model, in the form that :mod:`qhlib.homogeneity` reads: a
dictionary like the parameters without the seed axis. Lambda is not unique. Source of the rates:
derived here, checked in ``tests/test_models.py`` for random parameters.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from qhlib.data import generator
from qhlib.params import Params


def draw(
    shapes: Mapping[str, Sequence[int]],
    n_seeds: int = 1,
    seed: int = 0,
    *,
    scale: float | Mapping[str, float] = 1.0,
    device: str | torch.device = "cpu",
) -> Params:
    """Gaussian parameters ``N(0, scale^2)``, one tensor ``(S, *shape)`` per name, float64.

    ``scale`` is one number, or one for each name. Stacked seed s draws from the generator ``seed +
    s``: a seed's start does not depend on how many run beside it, nor on the device.

    Raises:
        ValueError: if ``n_seeds`` is not positive.

    >>> two, one = draw({"w": (3,)}, n_seeds=2, seed=4), draw({"w": (3,)}, n_seeds=1, seed=5)
    >>> torch.equal(two["w"][1], one["w"][0])
    True
    """
    if n_seeds < 1:
        raise ValueError(f"n_seeds must be positive, got {n_seeds}")
    rngs = [generator(seed + s) for s in range(n_seeds)]
    params = {}
    for name, shape in shapes.items():
        size = scale[name] if isinstance(scale, Mapping) else scale
        rows = [torch.randn(tuple(shape), generator=rng, dtype=torch.float64) for rng in rngs]
        params[name] = (size * torch.stack(rows)).to(device)
    return params


def apply(W: Tensor, X: Tensor) -> Tensor:
    """``W x`` for every seed and sample: W (S, m, d), X (n, d) or (S, n, d) -> (S, n, m).

    Inputs shared by all seeds go through one matrix product instead of S small ones.

    >>> apply(torch.ones(2, 4, 3), torch.ones(5, 3)).shape
    torch.Size([2, 5, 4])
    """
    if X.ndim == 3:
        return X @ W.mT
    seeds, m, d = W.shape
    return (X @ W.reshape(seeds * m, d).T).reshape(X.shape[0], seeds, m).transpose(0, 1)


# --- linear --------------------------------------------------------------------------------------


def linear(params: Params, X: Tensor) -> Tensor:  # (S, n) or (S, n, C)
    """``f(x) = <w, x> + b``: ``w`` (S, d) -> (S, n), or ``w`` (S, C, d) -> (S, n, C).

    The bias ``b``, (S,) or (S, C), is optional.

    >>> params = {"w": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([0.5])}
    >>> linear(params, torch.tensor([[1.0, 1.0]])).tolist()
    [[3.5]]
    """
    w = params["w"]
    scores = apply(w if w.ndim == 3 else w[:, None], X)
    if "b" in params:
        scores = scores + params["b"].reshape(w.shape[0], 1, -1)
    return scores if w.ndim == 3 else scores.squeeze(-1)


# --- two layers, the second one fixed ------------------------------------------------------------


def second_layer(m: int) -> Tensor:
    """The fixed second layer of :func:`two_layer`: ``1/sqrt(m)``, then ``-1/sqrt(m)``, half each.
    (m,).

    >>> second_layer(4).tolist()
    [0.5, 0.5, -0.5, -0.5]
    """
    a = torch.full((m,), m**-0.5, dtype=torch.float64)
    a[m // 2 :] *= -1
    return a


def two_layer(params: Params, X: Tensor, *, slope: float = 0.0) -> Tensor:  # (S, n)
    """``f(x) = sum_j a_j phi(<w_j, x>)`` with ``phi(z) = max(z, slope z)`` and a fixed: (S, n).

    ``params["W"]`` is (S, m, d) with m even, ``a`` is :func:`second_layer`. In Frei et al. (2023)
    the activation is leaky, ``slope`` in (0, 1); 0 is the ReLU. The samples stay the last axis:
    then every operation and its derivative runs through memory in order, a third less time for 16
    stacked seeds.

    Raises:
        ValueError: if m is odd.

    >>> W = torch.tensor([[[2.0], [-2.0]]]).double()
    >>> round(two_layer({"W": W}, torch.tensor([[1.0]]).double(), slope=0.5).item() * 2**0.5, 6)
    3.0
    """
    W = params["W"]
    if W.shape[1] % 2:
        raise ValueError(f"half of the second layer is negative: m must be even, got {W.shape[1]}")
    z = W @ X.mT if X.ndim == 3 else (W.reshape(-1, W.shape[2]) @ X.T).reshape(*W.shape[:2], -1)
    return second_layer(W.shape[1]).to(W) @ leaky_relu(z, slope)


# --- deep ReLU networks --------------------------------------------------------------------------


def deep_relu(params: Params, X: Tensor, *, slope: float = 0.0) -> Tensor:  # (S, n) or (S, n, C)
    """``h_l = phi(W_l h_{l-1} + b_l)`` from ``h_0 = x``, and ``f = W_L h_{L-1} + b_L``.

    ``phi(z) = max(z, slope z)``. ``params`` holds ``W1`` .. ``WL`` (S, m_l, m_{l-1}) and any of
    ``b1`` .. ``bL`` (S, m_l). A last layer of one row gives scores (S, n), one of C rows (S, n,
    C).

    >>> params = {"W1": torch.ones(1, 2, 1), "b1": torch.ones(1, 2), "W2": torch.ones(1, 1, 2)}
    >>> deep_relu(params, torch.tensor([[1.0], [-3.0]])).tolist()
    [[4.0, 0.0]]
    """
    depth = sum(name.startswith("W") for name in params)
    h = X
    for layer in range(1, depth + 1):
        h = apply(params[f"W{layer}"], h)
        if f"b{layer}" in params:
            h = h + params[f"b{layer}"][:, None]
        if layer < depth:
            h = leaky_relu(h, slope)
    return h.squeeze(-1) if h.shape[-1] == 1 else h


def deep_relu_shapes(widths: Sequence[int], *, bias: bool = True) -> dict[str, tuple[int, ...]]:
    """Shapes of :func:`deep_relu` for ``widths = (d, m_1, .., m_L)``, to hand to :func:`draw`.

    >>> deep_relu_shapes((2, 5, 1))
    {'W1': (5, 2), 'b1': (5,), 'W2': (1, 5), 'b2': (1,)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (before, after) in enumerate(zip(widths, widths[1:], strict=False), start=1):
        shapes[f"W{layer}"] = (after, before)
        if bias:
            shapes[f"b{layer}"] = (after,)
    return shapes


def deep_relu_rates(weight_rates: int | Sequence[float], *, bias: bool = True) -> dict[str, float]:
    """Rates of :func:`deep_relu`: any ``lambda_1 + .. + lambda_L = 1`` for the weights; they fix
    the biases'.

    A bias has ``lambda_{b_l} = sum_{k <= l} lambda_k``, so the last one always has rate 1.
    ``weight_rates`` is the list of the lambda_l, or the depth L for the uniform ``1/L``.

    Raises:
        ValueError: if the weight rates are negative or do not sum to 1.

    >>> deep_relu_rates([0.25, 0.75])
    {'W1': 0.25, 'b1': 0.25, 'W2': 0.75, 'b2': 1.0}
    """
    uniform = isinstance(weight_rates, int)
    rates = [1 / weight_rates] * weight_rates if uniform else list(weight_rates)
    if not rates or min(rates) < 0 or abs(sum(rates) - 1) > 1e-12:
        raise ValueError(f"the weights' rates must not be negative and sum to 1, got {rates}")
    table: dict[str, float] = {}
    for layer, rate in enumerate(rates, start=1):
        table[f"W{layer}"] = rate
        if bias:
            table[f"b{layer}"] = 1.0 if layer == len(rates) else sum(rates[:layer])
    return table


# --- diagonal networks ---------------------------------------------------------------------------


def diagonal_weights(params: Params, *, depths: Sequence[int]) -> Tensor:  # (S, d)
    """The linear predictor of a diagonal network, ``beta_i = prod_{j <= D_i} theta_ij``: (S, d).

    ``params["theta{j}"]`` (S, d_j) holds, in order, the j-th factor of the d_j coordinates with
    ``D_i >= j``.

    >>> theta = {"theta1": torch.tensor([[2.0, 3.0]]), "theta2": torch.tensor([[5.0]])}
    >>> diagonal_weights(theta, depths=(1, 2)).tolist()
    [[2.0, 15.0]]
    """
    beta = params["theta1"]
    for j in range(2, max(depths) + 1):
        factor = torch.ones_like(beta)
        factor[:, [i for i, depth in enumerate(depths) if depth >= j]] = params[f"theta{j}"]
        beta = beta * factor
    return beta


def diagonal(params: Params, X: Tensor, *, depths: Sequence[int]) -> Tensor:  # (S, n)
    """``f(x) = sum_i (prod_{j <= D_i} theta_ij) x_i``, the diagonal network of depths D_i: (S, n).

    >>> theta = {"theta1": torch.tensor([[2.0, 3.0]]), "theta2": torch.tensor([[5.0]])}
    >>> diagonal(theta, torch.tensor([[1.0, 1.0]]), depths=(1, 2)).tolist()
    [[17.0]]
    """
    return apply(diagonal_weights(params, depths=depths)[:, None], X).squeeze(-1)


def diagonal_shapes(depths: Sequence[int]) -> dict[str, tuple[int]]:
    """Shapes of :func:`diagonal`, to hand to :func:`draw`.

    Raises:
        ValueError: if there is no coordinate, or a depth is not a positive integer.

    >>> diagonal_shapes((1, 3, 2))
    {'theta1': (3,), 'theta2': (2,), 'theta3': (1,)}
    """
    if not depths or any(depth < 1 or depth != int(depth) for depth in depths):
        raise ValueError(f"depths must be positive integers, at least one, got {list(depths)}")
    return {f"theta{j}": (sum(depth >= j for depth in depths),) for j in range(1, max(depths) + 1)}


def diagonal_rates(depths: Sequence[int]) -> dict[str, Tensor]:
    """Rates of :func:`diagonal`: ``1/D_i`` for each factor of coordinate i. The shallowest have
    the top rate.

    >>> {name: rate.tolist() for name, rate in diagonal_rates((1, 2)).items()}
    {'theta1': [1.0, 0.5], 'theta2': [0.5]}
    """
    return {
        f"theta{j}": torch.tensor(
            [1 / depth for depth in depths if depth >= j], dtype=torch.float64
        )
        for j in range(1, max(depths) + 1)
    }


# --- normalisations ------------------------------------------------------------------------------


def batch_norm(Z: Tensor) -> Tensor:
    """Batch normalisation without affine parameters, eps = 0: every feature has mean 0, variance
    1.

    ``Z`` (S, n, m) -> (S, n, m). With eps = 0 it does not see the scale of its input, exactly.

    >>> batch_norm(torch.tensor([[[1.0], [3.0]]])).flatten().tolist()
    [-1.0, 1.0]
    """
    Z = Z - Z.mean(-2, keepdim=True)
    return Z / Z.square().mean(-2, keepdim=True).sqrt()


def layer_norm(Z: Tensor) -> Tensor:
    """Layer normalisation without affine parameters, eps = 0: mean 0 and variance 1 over a
    sample's features.

    ``Z`` (..., m) -> (..., m); the output has length ``sqrt(m)``.

    >>> layer_norm(torch.tensor([[[1.0, 3.0]]])).flatten().tolist()
    [-1.0, 1.0]
    """
    Z = Z - Z.mean(-1, keepdim=True)
    return Z / Z.square().mean(-1, keepdim=True).sqrt()
