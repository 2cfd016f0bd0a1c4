"""Margins of a model on data, the logarithm of its exponential loss, and their derivatives.

Conventions: ``model(params, X)`` returns (S, n) scores for labels ±1, or (S, n, C) scores for C
classes. ``q`` are the margins, (S, k): k = n for labels, k = n (C - 1) for classes. The loss ``L =
sum_i e^{-q_i}`` is never formed: with ``ell = log(1/L) = -logsumexp(-q)`` and ``w = softmax(-q)``,
the gradient that drives the flow is ``g = d ell / d theta = J^T w`` with the Jacobian ``J = dq / d
theta``. All float64; ``theta`` is the flat form of the parameters, (S, p).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qhlib.data import Data
from qhlib.params import Params, flatten

Model = Callable[[Params, Tensor], Tensor]
"""A function ``model(params, X)`` that returns scores."""


class Kinks(NamedTuple):
    """Generators of the Clarke subdifferential of one seed: ``grad q_i`` may move by ``s
    direction``, s in [0, 1].

    ``sample`` (K,) holds the indices i into the margins, ``direction`` (K, p) the jump of the
    gradient of q_i from the side that differentiation takes to the other side of the kink.
    """

    sample: np.ndarray
    direction: np.ndarray


KinkFinder = Callable[[Params, Tensor], Sequence[Kinks]]
"""Finds each seed's kinks from the parameters at unit margin and the Jacobian (S, k, p) taken
there."""


def margins(model: Model, data: Data, params: Params) -> Tensor:  # (S, k)
    """Margins: ``y_i f(x_i)`` for labels ±1, ``f_{y_i} - f_c`` over all c != y_i for classes. (S,
    k), float64.

    Raises:
        ValueError: if the scores' shape does not fit the labels.

    >>> data = Data(torch.tensor([[1.0, 2.0]]), torch.tensor([-1.0]))
    >>> margins(lambda p, X: p["w"] @ X.T, data, {"w": torch.tensor([[3.0, 1.0]])}).item()
    -5.0
    """
    scores = model(params, data.X)
    if data.y.is_floating_point():
        if scores.ndim != 2:
            raise ValueError(
                f"labels ±1 need scores of shape (S, n), the model gave {tuple(scores.shape)}"
            )
        return scores * data.y
    if scores.ndim != 3:
        raise ValueError(
            f"class labels need scores of shape (S, n, C), the model gave {tuple(scores.shape)}"
        )
    _, n, classes = scores.shape
    rows = torch.arange(n, device=scores.device)
    own = scores[:, rows, data.y].unsqueeze(-1)
    # the C-1 other classes of each sample, as an index: differentiable and without a mask
    others = (data.y[:, None] + torch.arange(1, classes, device=scores.device)) % classes
    return (own - scores.gather(2, others.expand(scores.shape[0], -1, -1))).reshape(
        scores.shape[0], -1
    )


def log_inverse_loss(q: Tensor) -> Tensor:
    """``ell = log(1/L) = -logsumexp_i(-q_i)``: (S, k) -> (S,). Finite for any margins (L = 1e-1000
    is ell = 2302.6).

    >>> round(log_inverse_loss(torch.tensor([[2302.0, 2302.0]])).item(), 4)
    2301.3069
    """
    return -torch.logsumexp(-q, dim=-1)


def loss_weights(q: Tensor) -> Tensor:
    """Each sample's share of the loss, ``w = softmax(-q)``: (S, k), rows sum to one.

    >>> loss_weights(torch.tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    return torch.softmax(-q, dim=-1)


def negative_gradient(model: Model, data: Data, params: Params) -> tuple[Tensor, Tensor, Tensor]:
    """Margins q (S, k), ell (S,) and ``g = d ell / d theta`` (S, p): the direction in which
    gradient flow moves.

    One backward pass for all seeds: they do not interact, so the gradient of the sum over seeds is
    every seed's own gradient.

    >>> data = Data(torch.tensor([[1.0, 2.0]]), torch.tensor([1.0]))
    >>> negative_gradient(lambda p, X: p["w"] @ X.T, data, {"w": torch.zeros(1, 2)})[2].tolist()
    [[1.0, 2.0]]
    """
    leaves = {name: t.detach().requires_grad_() for name, t in params.items()}
    q = margins(model, data, leaves)
    scores = q.detach()
    # the weights enter as J^T w: differentiating logsumexp would give the same, through four more
    # operations. Tensors that the scores do not depend on (an unused block) have gradient zero,
    # not an error.
    grads = torch.autograd.grad(
        q, list(leaves.values()), loss_weights(scores), materialize_grads=True
    )
    flat = [g.reshape(len(g), -1) for g in grads]
    return scores, log_inverse_loss(scores), flat[0] if len(flat) == 1 else torch.cat(flat, 1)


def jacobian(model: Model, data: Data, params: Params) -> Tensor:  # (S, k, p)
    """``J = dq / d theta``, (S, k, p), float64: k backward passes in one batch.

    >>> data = Data(torch.tensor([[1.0, 2.0]]), torch.tensor([-1.0]))
    >>> jacobian(lambda p, X: p["w"] @ X.T, data, {"w": torch.zeros(1, 2)}).tolist()
    [[[-1.0, -2.0]]]
    """
    leaves = {name: t.detach().requires_grad_() for name, t in params.items()}
    return batched_gradients(margins(model, data, leaves).sum(0), leaves).transpose(0, 1)


def hessian(
    model: Model, data: Data, params: Params, of: Callable[[Tensor], Tensor] = log_inverse_loss
) -> Tensor:  # (p, p)
    """Second derivatives of a function ``of`` of the margins for one seed (S = 1): (p, p),
    float64.

    Args:
        model: scores ``model(params, X)``.
        data: inputs and labels.
        params: stacked parameters, S = 1.
        of: function (1, k) -> (1,) of the margins; ``ell = log(1/L)`` by default.

    Raises:
        ValueError: for more than one stacked seed.

    >>> data = Data(torch.eye(2), torch.ones(2))
    >>> hessian(lambda p, X: p["w"] @ X.T, data, {"w": torch.zeros(1, 2)}).tolist()
    [[-0.25, 0.25], [0.25, -0.25]]
    """
    if flatten(params).shape[0] != 1:
        raise ValueError(
            "the Hessian is formed for one seed at a time: pass parameters with S = 1"
        )
    leaves = {name: t.detach().requires_grad_() for name, t in params.items()}
    value = of(margins(model, data, leaves)).sum()
    grads = torch.autograd.grad(
        value, list(leaves.values()), create_graph=True, materialize_grads=True
    )
    g = torch.cat([t.reshape(-1) for t in grads])
    if not g.requires_grad:  # a linear function of the parameters
        return g.new_zeros(len(g), len(g))
    return batched_gradients(g, leaves)[:, 0]


def batched_gradients(values: Tensor, leaves: Params) -> Tensor:  # (K, S, p)
    """Gradient of each entry of ``values`` (K,) by the ``leaves``, flat, in one backward pass.

    >>> w = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> batched_gradients((w**2)[0], {"w": w}).tolist()
    [[[2.0, 0.0]], [[0.0, 4.0]]]
    """
    eye = torch.eye(len(values), dtype=values.dtype, device=values.device)
    rows = torch.autograd.grad(
        values, list(leaves.values()), eye, is_grads_batched=True, allow_unused=True
    )
    # autograd's own zeros for unused tensors lack the batch axis: made here
    pieces = [
        t.new_zeros(len(values), *t.shape) if r is None else r
        for r, t in zip(rows, leaves.values(), strict=True)
    ]
    return torch.cat([r.reshape(*r.shape[:2], -1) for r in pieces], dim=2)
