"""Gradient flow past separability, many seeds side by side.

Conventions. The curve ``d theta/dt = -grad L`` is the same in every clock; this module follows it in *loss time*,
``d theta / d ell = g / |g|^2`` with ``ell = log(1/L)`` and ``g = grad ell``, in which a step of length c raises
ell by c to first order, whatever the degree of the model. The loss itself is never formed. Shapes: S seeds in the
leading axis, ``theta`` is (S, p), margins are (S, k). ell is dimensionless (nats).

Fidelity comes for free: ``trust`` is the rise of ell over the loss time spent on it. It is 1 on a faithful flow of
a smooth model and approaches 1 as the step shrinks. A trust that stays away from 1 for every step means that the
flow slides along kinks (ReLU boundaries); one that moves towards 1 means the step was too long.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from qhlib.data import Data
from qhlib.margins import Model, ascent
from qhlib.params import Params, flatten, unflatten

LANDING = 1e-9
"""A state is on the prescribed ell when it is this close, relative to max(1, |ell|)."""


@dataclass(frozen=True)
class State:
    """One point of a flow.

    Attributes:
        ell: log(1/L), (S,).
        margins: q, (S, k).
        params: stacked parameters.
        steps: steps taken since the start.
        gradients: gradient evaluations since the start (each evaluates all seeds).
        trust: rise of ell / loss time, since the last yielded state, (S,).
        reason: on the last state a sentence that says why the flow ended; None before.
        reached: True when the last state lies where the caller wanted it; None before the end.
    """

    ell: Tensor
    margins: Tensor
    params: Params
    steps: int
    gradients: int
    trust: Tensor
    reason: str | None = None
    reached: bool | None = None


def follow(
    model: Model,
    data: Data,
    params: Params,
    *,
    at: Sequence[float] | None = None,
    until: float = math.inf,
    step: float = 1.0,
    tol: float | None = None,
    stretch: float = 0.1,
    max_steps: int = 1_000_000,
    max_seconds: float = math.inf,
) -> Iterator[State]:
    """Follow gradient flow on the exponential loss: ``d theta / d ell = g / |g|^2``.

    Without ``tol``: Euler steps of ``step`` in loss time, right for models with kinks. With ``tol``: Heun's method,
    each seed choosing its own step (at most ``step``) so that the embedded error estimate stays below
    ``tol |theta|`` per step; for smooth models. Before separation, where |g| can be tiny, a step moves theta by at
    most ``stretch |theta|``: near the origin that is the clock ``ds = L dt``.

    Args:
        model, data, params: scores ``model(params, X)``, the data, and the starting point, stacked (S, ...).
        at: increasing values of ell; a state is yielded exactly there (to 1e-9, relative), for all seeds at once.
            Without it every step is yielded; the caller stops by leaving the loop.
        until: without ``at``, the flow ends when every seed has reached this ell.
        step: largest loss time of one step (nats of ell).
        tol: relative local error per step of the adaptive method; None for plain Euler steps.
        stretch: largest relative change of theta in one step.
        max_steps, max_seconds: limits; when one is hit the last state says so in ``reason``.

    Yields:
        :class:`State`, the starting point first. The last one carries a ``reason``.

    Raises:
        ValueError: if ``at`` does not increase or lies below the starting point, or an argument is out of range.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> start = {"w": torch.tensor([[1.0, 0.5]], dtype=torch.float64)}
    >>> *_, last = follow(lambda p, X: p["w"] @ X.T, data, start, at=[100.0])
    >>> round(last.ell.item(), 6), round(last.margins.min().item(), 2)
    (100.0, 100.69)
    """
    if not step > 0 or not stretch > 0 or (tol is not None and not 0 < tol < 1):
        raise ValueError(
            f"step and stretch must be positive and tol in (0, 1), got {step=}, {stretch=}, {tol=}"
        )
    targets = None if at is None else [float(value) for value in at]
    if targets is not None and (
        not targets or any(not b > a for a, b in zip(targets, targets[1:], strict=False))
    ):
        raise ValueError(f"at must be a non-empty increasing list of log(1/L), got {at!r}")

    theta = flatten(params).detach()
    q, ell_, g = ascent(model, data, params)
    ell = _host(ell_)
    if targets is not None and (ell > targets[0] + LANDING * max(1, abs(targets[0]))).any():
        raise ValueError(
            f"the flow starts at log(1/L) = {ell.max():.6g}, above the first value of at, {targets[0]:.6g}"
        )
    # the control arithmetic runs on (S,) numpy arrays: ten times less overhead per operation than tensors
    clock, risen, own = np.zeros_like(ell), ell.copy(), np.full_like(ell, step)
    steps, gradients, began = 0, 1, time.monotonic()

    def state(reason: str | None = None, reached: bool | None = None) -> State:
        trust = np.divide(ell - risen, clock, out=np.ones_like(ell), where=clock > 0)
        as_tensor = partial(torch.as_tensor, dtype=theta.dtype, device=theta.device)
        return State(
            as_tensor(ell), q, unflatten(theta, params), steps, gradients, as_tensor(trust), reason, reached
        )

    def move(theta: Tensor, amount: np.ndarray, direction: Tensor) -> Tensor:
        return torch.addcmul(theta, torch.as_tensor(amount, device=theta.device)[:, None], direction)

    yield state()
    goals = iter(targets or [until])
    goal = next(goals)
    while True:
        remaining = goal - ell
        done = np.abs(remaining) <= LANDING * max(1.0, abs(goal)) if targets else remaining <= 0
        some = done.any()
        if some and done.all():
            following = next(goals, None)
            if following is None:
                yield state(f"Every seed reached log(1/L) = {goal:g}.", True)
                return
            yield state()
            clock, risen, goal = np.zeros_like(ell), ell.copy(), following
            continue
        length = _host(torch.linalg.vector_norm(g, dim=1))
        size = _host(torch.linalg.vector_norm(theta, dim=1))
        if stop := _stopped(ell, length, done, steps, max_steps, began, max_seconds):
            yield state(stop, False)
            return

        want = np.minimum(own, remaining) if targets else own
        want = np.where(done, 0.0, want) if some else want
        # relative motion first: far from separation 1/|g|^2 would throw theta across the landscape
        most = stretch * size * length
        want = np.minimum(want, np.where(most > 0, most, np.inf))
        safe = (np.where(length > 0, length, 1.0) if some else length) ** 2
        trial = move(theta, want / safe, g)
        q_new, ell_new, g_new = ascent(model, data, unflatten(trial, params))
        gradients += 1
        if tol is not None:
            ahead = _host((g_new * g_new).sum(1))
            heun = move(
                move(theta, 0.5 * want / safe, g), 0.5 * want / np.where(ahead > 0, ahead, 1.0), g_new
            )
            error = _host(torch.linalg.vector_norm(heun - trial, dim=1)) / (
                tol * np.where(size > 0, size, 1.0)
            )
            # margins are of size ell and enter the loss through e^-q: they must be right absolutely, not relatively
            error *= np.maximum(1.0, ell)
            error = np.where(np.isfinite(error), error, np.inf)
            trial = heun
            q_new, ell_new, g_new = ascent(model, data, unflatten(trial, params))
            gradients += 1
            accept = done | (error <= 1)
            wish = want * np.clip(0.9 / np.sqrt(np.maximum(error, 1e-12)), 0.2, 2.0)
            # a step cut short to land says nothing against the longer one in use
            own = np.where(accept & (want < own), np.maximum(own, wish), wish)
            own = np.where(done, step, np.minimum(own, step))
        else:
            rise = _host(ell_new) - ell
            # a step that lost ground was too long; a mere landing correction may go either way
            accept = done | (rise > 0) | (want < 1e-6)
            own = np.where(
                np.abs(rise) >= 0.5 * np.abs(want), np.minimum(1.1 * own, step), 0.5 * np.maximum(want, 1e-6)
            )
            own = np.where(done, step, own) if some else own
        steps += 1
        if accept.all():
            theta, g, q, ell = trial, g_new, q_new, _host(ell_new)
        else:
            keep = torch.as_tensor(accept, device=theta.device)[:, None]
            theta, g, q = (
                torch.where(keep, trial, theta),
                torch.where(keep, g_new, g),
                torch.where(keep, q_new, q),
            )
            ell = np.where(accept, _host(ell_new), ell)
        clock = clock + want * accept
        if targets is None:
            yield state()
            clock, risen = np.zeros_like(ell), ell.copy()


def _host(t: Tensor) -> np.ndarray:
    """A small tensor as a numpy array on the host."""
    return t.detach().cpu().numpy()


def _stopped(
    ell: np.ndarray,
    length: np.ndarray,
    done: np.ndarray,
    steps: int,
    max_steps: int,
    began: float,
    max_seconds: float,
) -> str | None:
    """Why the flow cannot go on, as a sentence for the user, or None. All arrays are (S,)."""
    if not (np.isfinite(ell).all() and np.isfinite(length).all()):
        return "A margin or gradient is no longer finite: start closer to the data's scale or take a smaller step."
    if (~done & (length == 0)).any():
        return "The gradient vanished for a seed: it sits at a critical point, start it elsewhere."
    if steps >= max_steps:
        return f"The limit of {max_steps} steps was reached: raise max_steps, or ask for a smaller log(1/L)."
    if time.monotonic() - began > max_seconds:
        return (
            f"The limit of {max_seconds:g} s was reached: raise max_seconds, or ask for a smaller log(1/L)."
        )
    return None
