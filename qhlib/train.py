"""Gradient descent with momentum and weight decay, many seeds side by side.

Conventions. S runs are stacked in the leading axis of every parameter and do not interact; float64
or float32, on any device. With rate ``eta``, momentum ``m``, decay ``lambda`` and a projection P
the step is that of PyTorch's SGD,

    v <- m v + grad + lambda theta,    theta <- P(theta - eta v),    v = 0 at the start.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from qhlib.params import Params

Value = float | Tensor
"""A number, or a tensor (S,) with one for each run."""


def descend(
    params: Params,
    *,
    loss: Callable[[Params, int], Tensor] | None = None,
    gradient: Callable[[Params, int], Params] | None = None,
    rate: Value | Callable[[int], Value],
    at: Iterable[int],
    momentum: Value = 0.0,
    decay: Value = 0.0,
    project: Callable[[Params], Params] | None = None,
) -> Iterator[tuple[int, Params]]:
    """Descend from ``params``, yielding the parameters after the numbers of steps in ``at``.

    Nothing is kept but the current point and its velocity, and nothing that was yielded is changed
    later. Batches are the caller's: a function of the step number picks them.

    Args:
        params: the starting point, stacked (S, ...).
        loss: ``loss(params, step)`` before step number ``step`` (0 first), (S,) or a sum over the
            runs; differentiated automatically.
        gradient: instead of the loss, ``gradient(params, step)``: its gradient, a dictionary like
            the parameters.
        rate: learning rate, a number or (S,), or a function of the step number that gives one.
        at: increasing numbers of steps, 0 for the start; read as the descent goes on, so it may be
            endless.
        momentum: a number, or (S,).
        decay: a number, or (S,).
        project: applied to the parameters after every step.

    Yields:
        Pairs of the number of steps and the parameters then.

    Raises:
        ValueError: if neither or both of loss and gradient are given, or ``at`` does not increase.
        FloatingPointError: if the parameters are no longer finite where they are to be yielded.

    >>> start, rates = {"w": torch.tensor([[1.0], [2.0]]).double()}, torch.tensor([0.5, 0.1])
    >>> run = descend(start, loss=lambda p, k: p["w"] ** 2 / 2, rate=rates, at=[0, 2])
    >>> [(k, [round(w, 6) for w in p["w"].flatten().tolist()]) for k, p in run]
    [(0, [1.0, 2.0]), (2, [0.25, 1.62])]
    """
    if (loss is None) == (gradient is None):
        raise ValueError("give either a loss or its gradient")
    params = {name: t.detach() for name, t in params.items()}
    velocity = {name: torch.zeros_like(t) for name, t in params.items()}
    done = -1
    for stop in at:
        if not stop > done:
            raise ValueError(f"at must increase from 0, got {stop} after {done}")
        for step in range(max(done, 0), stop):
            slopes = _gradient(loss, params, step) if gradient is None else gradient(params, step)
            eta = rate(step) if callable(rate) else rate
            for name, t in params.items():
                push = slopes[name].detach() + _like(decay, t) * t
                velocity[name] = _like(momentum, t) * velocity[name] + push
            params = {name: t - _like(eta, t) * velocity[name] for name, t in params.items()}
            params = params if project is None else project(params)
        done = stop
        if not all(bool(t.isfinite().all()) for t in params.values()):
            raise FloatingPointError(
                f"after {stop} steps a parameter is not finite: lower the rate"
            )
        yield stop, dict(params)


def _gradient(loss: Callable[[Params, int], Tensor], params: Params, step: int) -> Params:
    leaves = {name: t.detach().requires_grad_() for name, t in params.items()}
    slopes = torch.autograd.grad(loss(leaves, step).sum(), list(leaves.values()))
    return dict(zip(leaves, slopes, strict=True))


def _like(value: Value, t: Tensor) -> Value:
    """A value for each run, shaped to multiply a stacked tensor."""
    many = torch.is_tensor(value) and value.ndim
    return value.reshape(-1, *[1] * (t.ndim - 1)) if many else value
