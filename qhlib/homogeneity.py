"""Quasi-homogeneous models: rates, identities, seminorms and normalised parameters.

Conventions. ``Lambda = diag(lambda_i) >= 0`` holds one *rate* per parameter. A model is
Lambda-quasi-homogeneous when ``f(x; psi_a(theta)) = e^a f(x; theta)`` for all a, with
``psi_a(theta) = e^{a Lambda} theta``; homogeneous of degree L is the case ``Lambda = I/L``.
``rates`` is a dictionary like the parameters, without the seed axis; every function is stacked
over S seeds, in float64. ``lambda_max`` is the largest rate; its parameters are *the top-rate
block*.

Source: Kunin et al. (2023). The paper's body could not be consulted: the definitions are as we
recall them (they agree with its Figure 2 caption), the identities are derived here.
"""

import torch
from torch import Tensor

from qhlib.data import Data
from qhlib.margins import Model, log_inverse_loss, margins
from qhlib.params import Params, Rates, flatten, rates_vector, unflatten


def psi(params: Params, rates: Rates, a: float | Tensor) -> Params:
    """``psi_a(theta) = e^{a Lambda} theta``: moves along a characteristic curve. ``a`` is a number
    or (S,).

    >>> out = psi({"w": torch.ones(1, 1), "b": torch.ones(1, 1)}, {"w": 0.5, "b": 1.0}, 2.0)
    >>> round(out["w"].item(), 4), round(out["b"].item(), 4)
    (2.7183, 7.3891)
    """
    theta = flatten(params)
    shift = torch.as_tensor(a, dtype=theta.dtype, device=theta.device).reshape(-1, 1)
    lam = rates_vector(rates, params).to(theta.dtype)
    return unflatten(theta * torch.exp(shift * lam), params)


def scaling_defect(model: Model, params: Params, X: Tensor, rates: Rates, a: float) -> Tensor:
    """(S,): ``max_i |f(x_i; psi_a theta) - e^a f(x_i; theta)|``, relative to ``e^a max_i |f|``.

    Zero for a right Lambda.

    >>> square = lambda p, X: p["w"] ** 2 @ X.T
    >>> one = torch.ones(1, 1).double()
    >>> scaling_defect(square, {"w": one}, one, {"w": 0.5}, 1.0).item() < 1e-15
    True
    """
    f = model(params, X).flatten(1)
    moved = model(psi(params, rates, a), X).flatten(1)
    expected = f * torch.exp(torch.as_tensor(a, dtype=f.dtype))
    return (moved - expected).abs().amax(1) / expected.abs().amax(1)


def euler_defect(model: Model, params: Params, X: Tensor, rates: Rates) -> Tensor:  # (S,)
    """Euler's identity ``<Lambda theta, grad f> = f``: largest violation, relative to ``max |f|``.

    Evaluated as one forward-mode derivative along ``Lambda theta``, for all samples and outputs at
    once.

    >>> square = lambda p, X: p["w"] ** 2 @ X.T
    >>> euler_defect(square, {"w": torch.ones(1, 1)}, torch.ones(1, 1), {"w": 0.5}).item()
    0.0
    """
    theta = flatten(params)
    velocity = unflatten(theta * rates_vector(rates, params).to(theta.dtype), params)
    f, along = torch.func.jvp(lambda p: model(p, X), (params,), (velocity,))
    return (along - f).flatten(1).abs().amax(1) / f.flatten(1).abs().amax(1)


def gradient_defect(model: Model, params: Params, X: Tensor, rates: Rates, a: float) -> Tensor:
    """(S,): relative violation of ``grad f(psi_a theta) = e^{a (I - Lambda)} grad f(theta)``.

    f is a weighted sum of all scores.

    >>> square = lambda p, X: p["w"] ** 2 @ X.T
    >>> one = torch.ones(1, 1).double()
    >>> gradient_defect(square, {"w": one}, one, {"w": 0.5}, 1.0).item() < 1e-15
    True
    """

    def gradient(at: Params) -> Tensor:
        leaves = {name: t.detach().requires_grad_() for name, t in at.items()}
        # different weights per score, so that no symmetry of the sum hides an error
        scores = model(leaves, X).flatten(1)
        total = (scores * torch.linspace(0.5, 1.5, scores.shape[1]).to(scores)).sum()
        grads = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return flatten(dict(zip(leaves, grads, strict=True)))

    lam = rates_vector(rates, params)
    expected = torch.exp(a * (1 - lam)) * gradient(params)
    return (gradient(psi(params, rates, a)) - expected).norm(dim=1) / expected.norm(dim=1)


def top_rate(params: Params, rates: Rates) -> tuple[float, Tensor]:
    """``lambda_max`` and the mask (p,) of the coordinates that have it.

    Raises:
        ValueError: if all rates are zero (a trivial Lambda).

    >>> top_rate({"w": torch.ones(1, 1), "b": torch.ones(1, 1)}, {"w": 0.5, "b": 1.0})
    (1.0, tensor([False,  True]))
    """
    lam = rates_vector(rates, params)
    largest = float(lam.max())
    if not largest > 0:
        raise ValueError("all rates are zero: Lambda must be non-zero")
    return largest, lam >= largest * (1 - 1e-12)


def seminorm_squared(params: Params, rates: Rates, *, top: bool = False) -> Tensor:  # (S,)
    """``|theta|_Lambda^2 = sum_i lambda_i theta_i^2``; with ``top`` only over the top-rate block
    (the Lambda_max one).

    >>> params = {"w": 2 * torch.ones(1, 1), "b": torch.ones(1, 1)}
    >>> seminorm_squared(params, {"w": 0.5, "b": 1.0}).item()
    3.0
    """
    theta, lam = flatten(params), rates_vector(rates, params)
    weight = lam * top_rate(params, rates)[1] if top else lam
    return (weight * theta**2).sum(1)


def normalize(params: Params, rates: Rates) -> tuple[Params, Tensor]:
    """Normalised parameters ``theta_hat = psi_{-tau}(theta)`` and tau (S,), where
    ``|theta_hat|_Lambda = 1``.

    tau solves ``sum_i lambda_i e^{-2 lambda_i tau} theta_i^2 = 1``, which decreases in tau; then
    ``f(theta) = e^tau f(theta_hat)``.

    Raises:
        ValueError: if the Lambda-seminorm is zero.

    >>> hat, tau = normalize({"w": torch.full((1, 1), 8.0, dtype=torch.float64)}, {"w": 0.5})
    >>> round(hat["w"].item(), 6), round(tau.item(), 6)
    (1.414214, 3.465736)
    """
    theta, lam = flatten(params).detach(), rates_vector(rates, params)
    squares = lam * theta**2
    if bool((squares.sum(1) <= 0).any()):
        raise ValueError("the Lambda-seminorm of a seed is zero: there is nothing to normalize")
    # the logarithm of the sum is convex and decreasing in tau: Newton's method is monotone from
    # the left, where its largest term alone is 1
    logs = torch.log(squares)
    tau = (logs / (2 * lam)).amax(1)
    for _ in range(100):
        terms = logs - 2 * lam * tau[:, None]
        rate = (torch.softmax(terms, 1) * 2 * lam).sum(1)
        step = torch.logsumexp(terms, 1) / rate
        tau = tau + step
        if not (step.abs() > 1e-15 * (1 + tau.abs())).any():
            break
    return psi(params, rates, -tau), tau


def normalized_margin(
    model: Model, data: Data, params: Params, rates: Rates, *, smoothed: bool = False
) -> Tensor:
    """``min_i q_i / e^tau`` (S,), or with ``smoothed`` ``log(1/L) / e^tau``, the one that rises
    along the flow.

    >>> data = Data(torch.ones(1, 1), torch.ones(1))
    >>> params = {"w": torch.full((1, 1), 5.0)}
    >>> round(normalized_margin(lambda p, X: p["w"] @ X.T, data, params, {"w": 1.0}).item(), 6)
    1.0
    """
    q = margins(model, data, params)
    _, tau = normalize(params, rates)
    top = log_inverse_loss(q) if smoothed else q.amin(1)
    return top * torch.exp(-tau)


def unit_margin(model: Model, data: Data, params: Params, rates: Rates) -> Params:
    """The point of the characteristic curve at which the smallest margin is 1: ``psi_a(theta)``, a
    = -log q_min.

    It is feasible for ``min 1/2 |theta|^2_{Lambda_max} s.t. q_i >= 1``, which makes KKT residuals
    free of scale.

    Raises:
        ValueError: if a seed does not separate the data.

    >>> data = Data(torch.ones(1, 1), torch.ones(1))
    >>> params = {"w": torch.full((1, 1), 5.0)}
    >>> unit_margin(lambda p, X: p["w"] @ X.T, data, params, {"w": 1.0})["w"].item()
    1.0
    """
    smallest = margins(model, data, params).amin(1)
    if bool((smallest <= 0).any()):
        raise ValueError(f"the data are not separated: a smallest margin is {smallest.min():.3g}")
    return psi(params, rates, -torch.log(smallest))
