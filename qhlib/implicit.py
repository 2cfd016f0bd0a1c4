"""Gradient flow to far asymptotics, log(1/L) = 1e6 and beyond, with an implicit solver.

Conventions. The clock x is *log-loss time*: ``d theta / dx = N g`` with ``N = ell |theta|^2 / <theta, g>^2``, so that
``d ell / dx = ell / cos^2(theta, g)``, which is ell once the direction has settled. In it an implicit solver's cost
grows with log(ell) only. One seed at a time (S = 1), smooth models, p up to a few hundred: the solver is SciPy's and
uses the exact Jacobian of the field, from the Hessian of ell. States are those of :mod:`qhlib.flow`.

Why not ``N = ell / |g|^2``, in which ell itself is the clock: near a KKT point g is a sum of large terms that cancel,
so |g|^2 answers a margin error of 1e-4 with a factor, and Newton's iteration fails unless steps are tiny. On a
seven-parameter diagonal model that clock took twenty times longer.

SciPy's solvers can jump off the curve and report success. Each step's rise of log ell is therefore compared with the
field's promise, ``d log ell / dx = 1 / cos^2``; the ratio of the two since the last state is its trust.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.integrate
import torch

from qhlib.affine import affine_margins
from qhlib.data import Data
from qhlib.flow import LANDING, State, follow
from qhlib.margins import Model, ascent, hessian, log_inverse_loss, margins
from qhlib.params import Params, flatten, unflatten

SOLVERS = {"BDF": scipy.integrate.BDF, "Radau": scipy.integrate.Radau, "LSODA": scipy.integrate.LSODA}
OFF_THE_FLOW = 0.02
"""A step whose rise of log ell differs by more than this share from what the field promises has left the flow."""


def follow_implicit(
    model: Model,
    data: Data,
    params: Params,
    *,
    at: Sequence[float],
    rtol: float | None = None,
    method: str = "BDF",
    max_step: float = 0.5,
    max_seconds: float = 60.0,
) -> Iterator[State]:
    """Follow gradient flow of one seed in log-loss time, yielding a state at each log(1/L) in ``at``.

    ``d theta / dx = N g``, ``N = ell |theta|^2 / <theta, g>^2``; the Jacobian of the field is
    ``N H + N g (g / ell + 2 theta / |theta|^2 - 2 (g + H theta) / <theta, g>)^T`` with the Hessian H of ell.

    Args:
        at: increasing values of ell above the starting one.
        rtol: relative tolerance of the solver (the absolute one is ``rtol |theta| / sqrt(p)`` at the start). None:
            ``0.1 / at[-1]`` within [1e-10, 1e-6] ([1e-10, 1e-5] for flows that end by 1000), because margins of size ell have to be right to much less than 1.
        method: "BDF" or "Radau", SciPy's solvers.
        max_step: longest step in x; short enough that the solver cannot jump over the curve's bends unseen.
        max_seconds: limit on the whole run.

    Yields:
        :class:`qhlib.flow.State`: the start, then one at each value; ``trust`` is the rise of log ell
        since the last one over the integral of ``1 / cos^2(theta, g)``; ``gradients`` counts evaluations of the field. The last state carries the ``reason``.

    Raises:
        ValueError: for S != 1, an unseparated start (ell <= 0), values of ``at`` that do not increase, a bad method.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> start = {"w": torch.tensor([[4.0, 3.0]], dtype=torch.float64)}
    >>> *_, last = follow_implicit(lambda p, X: p["w"] @ X.T, data, start, at=[1e6])
    >>> bool(abs(last.margins.min() / 1e6 - 1) < 1e-5)
    True
    """
    targets = [float(value) for value in at]
    if not targets or any(b <= a for a, b in zip(targets, targets[1:], strict=False)):
        raise ValueError(f"at must be a non-empty increasing list of log(1/L), got {at!r}")
    if method not in SOLVERS:
        raise ValueError(f"method must be one of {sorted(SOLVERS)}, got {method!r}")
    if rtol is None:  # a short flow has little time to drift
        rtol = min(1e-5 if targets[-1] <= 1000 else 1e-6, max(1e-10, 0.1 / targets[-1]))
    theta0 = flatten(params).detach()
    if theta0.shape[0] != 1:
        raise ValueError(f"the implicit follower takes one seed, got {theta0.shape[0]}: loop over them")
    q, ell_start, _ = ascent(model, data, params)
    ell0 = float(ell_start)
    if targets[0] < ell0:
        raise ValueError(
            f"the flow starts at log(1/L) = {ell0:.6g}, above the first value of at, {targets[0]:.6g}"
        )

    evaluations, steps, began = 0, 0, time.monotonic()
    affine = affine_margins(model, data, params)

    def as_params(vector: np.ndarray) -> Params:
        return unflatten(torch.as_tensor(vector, dtype=theta0.dtype, device=theta0.device)[None], params)

    def look(vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """ell, g and d theta / dx."""
        nonlocal evaluations
        evaluations += 1
        if affine is None:
            _, ell, g = ascent(model, data, as_params(vector))
            ell, g = float(ell), g[0].cpu().numpy()
        else:
            q = affine[0] + affine[1] @ vector
            w = np.exp(q.min() - q)
            ell, g = float(q.min() - math.log(w.sum())), (w / w.sum()) @ affine[1]
        return ell, g, ell * (vector @ vector) / (vector @ g) ** 2 * g

    def field_jacobian(_x: float, vector: np.ndarray) -> np.ndarray:
        ell, g, velocity = look(vector)
        if affine is None:
            H = hessian(model, data, as_params(vector)).cpu().numpy()
        else:
            q = affine[0] + affine[1] @ vector
            w = np.exp(q.min() - q)
            H = np.outer(g, g) - (affine[1].T * (w / w.sum())) @ affine[1]
        along = vector @ g
        N = ell * (vector @ vector) / along**2
        return N * H + np.outer(
            velocity, g / ell + 2 * vector / (vector @ vector) - 2 * (g + H @ vector) / along
        )

    def state(vector: np.ndarray, reason: str | None = None, reached: bool | None = None) -> State:
        here = as_params(vector)
        with torch.no_grad():
            q = margins(model, data, here)
        ell = log_inverse_loss(q)
        trust = torch.full_like(ell, risen / promised if promised > 0 else 1.0)
        return State(ell, q, here, steps, evaluations, trust, reason, reached)

    risen = promised = 0.0
    start = theta0[0].cpu().numpy()
    waiting = [target for target in targets if target > ell0]
    yield state(
        start, None if waiting else f"The seed was at log(1/L) = {ell0:g} already.", None if waiting else True
    )
    ell, g, velocity = look(start)
    if not start @ g > 0:
        raise ValueError(
            "<theta, grad ell> is not positive at the start: follow the flow further explicitly first"
        )
    # the solver never gets as far as this bound: the loop leaves when the last target is passed
    solver = SOLVERS[method](
        lambda _x, vector: look(vector)[2],
        0.0,
        start,
        1e6,
        rtol=rtol,
        atol=rtol * np.linalg.norm(start) / math.sqrt(start.size),
        jac=field_jacobian,
        max_step=max_step,
        first_step=min(1e-3, max_step),
    )
    while waiting:
        before, slope, vector = ell, g @ velocity / ell, solver.y.copy()  # slope of log ell in x
        # far-off trial points of the Newton iteration may overflow; the solver rejects them itself
        with np.errstate(all="ignore"):
            message = solver.step()
        steps += 1
        if solver.status == "failed":
            yield state(
                vector, f"{method} gave up at log(1/L) = {before:.4g}: {message or 'tiny step'}", False
            )
            return
        if time.monotonic() - began > max_seconds:
            yield state(
                vector,
                f"The limit of {max_seconds:g} s was reached at log(1/L) = {before:.4g}: raise max_seconds.",
                False,
            )
            return
        ell, g, velocity = look(solver.y)
        rise = math.log(ell / before) if ell > 0 else math.nan
        slopes = slope, g @ velocity / ell
        due = 0.5 * (solver.t - solver.t_old) * sum(slopes)
        if not abs(rise - due) <= OFF_THE_FLOW * due + 10 * rtol:
            yield state(
                vector,
                f"{method} left the flow after log(1/L) = {before:.4g}: use a smaller rtol or max_step.",
                False,
            )
            return
        risen, promised, dense = risen + rise, promised + due, None
        while waiting and waiting[0] <= ell:
            target, dense = waiting.pop(0), dense or solver.dense_output()
            # x as a cubic of log ell: its value and slope are known at both ends of the step
            u = math.log(target / before) / rise
            guess = (1 - u) ** 2 * (1 + 2 * u) * solver.t_old + u**2 * (3 - 2 * u) * solver.t
            guess += u * (1 - u) * rise * ((1 - u) / slopes[0] - u / slopes[1])
            moment = _land(lambda x, dense=dense: look(dense(x)), target, solver.t_old, solver.t, guess)
            reason = None if waiting else f"The seed reached log(1/L) = {target:g}."
            yield state(dense(moment), reason, None if waiting else True)
            risen = promised = 0.0


def _land(
    look: Callable[[float], tuple[float, np.ndarray, np.ndarray]],
    target: float,
    low: float,
    high: float,
    guess: float,
) -> float:
    """The clock's x in [low, high] at which ell is ``target``: Newton's method, the slope of log ell being known."""
    x = min(high, max(low, guess))
    for _ in range(12):
        ell, g, velocity = look(x)
        miss = math.log(target / ell)
        if abs(miss) <= LANDING / 10:
            break
        x = min(high, max(low, x + miss * ell / (g @ velocity)))
    return x


def follow_far(
    model: Model,
    data: Data,
    params: Params,
    *,
    at: Sequence[float],
    begin: float = 1.0,
    **options: float | str,
) -> Iterator[State]:
    """From any start to the far asymptotics of one seed: adaptive explicit steps to ``begin``, then implicit ones.

    Args:
        at: increasing values of ell, the first above ``begin`` (an ell at which the data are separated, > 0).
        begin: where the implicit solver takes over.
        options: passed to :func:`follow_implicit`.

    Yields:
        :class:`qhlib.flow.State`: one at ``begin``, then one at each value of ``at``. If the explicit part ends early,
        its last state alone, with the reason.

    Raises:
        ValueError: as :func:`follow_implicit`.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> start = {"w": torch.tensor([[0.1, 0.3]], dtype=torch.float64)}
    >>> [round(s.ell.item(), 6) for s in follow_far(lambda p, X: p["w"] @ X.T, data, start, at=[1e2, 1e4])]
    [1.0, 100.0, 10000.0]
    """
    ell0 = float(ascent(model, data, params)[1])
    if ell0 < begin:
        *_, last = follow(model, data, params, at=[begin], tol=1e-3, max_steps=100_000)
        if not last.reached:
            yield last
            return
        params = last.params
    yield from follow_implicit(model, data, params, at=at, **options)
