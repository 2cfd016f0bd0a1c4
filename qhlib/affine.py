"""Gradient flow of a linear model from any start to log(1/L) = 1e8, in a few hundredths of a second.

Conventions. The margins are affine in the parameters, ``q = q0 + J theta`` with J (k, p) constant, one seed
(S = 1). Two clocks, one curve: ``d theta / ds = g`` until the data are separated (ell >= 1), where |g| stays
bounded away from zero and infinity; then ``d theta / dx = e^x g / |g|^2``, in which ``ell = ell0 + e^x - 1``
is the clock itself. SciPy's LSODA with the exact Jacobian; NumPy alone, because autograd costs ten times the
arithmetic of so small a model.

In the second clock every step is checked: ell(theta) must equal the clock's ell. For models that are not
affine: :mod:`qhlib.implicit`.
"""

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.integrate import LSODA
from scipy.optimize import brentq

from qhlib.data import Data
from qhlib.flow import State
from qhlib.margins import Model, jacobian, margins
from qhlib.params import Params, flatten, unflatten

OFF_THE_FLOW = 1e-3
"""A step whose ell differs from the clock's by more than this share has left the flow."""


def affine_margins(model: Model, data: Data, params: Params) -> tuple[np.ndarray, np.ndarray] | None:
    """``(q0, J)`` with ``q = q0 + J theta``, (k,) and (k, p), if the margins are affine in theta; else None.
    S = 1.

    Checked at a random point, its opposite and farther ones, where a model that is not affine would agree only by accident.

    >>> data = Data(torch.eye(2).double(), torch.ones(2).double())
    >>> affine_margins(lambda p, X: p["w"] @ X.T, data, {"w": torch.ones(1, 2).double()})[1].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> affine_margins(lambda p, X: p["w"] ** 2 @ X.T, data, {"w": torch.ones(1, 2).double()}) is None
    True
    """
    theta = flatten(params).detach()
    J, q = jacobian(model, data, params)[0], margins(model, data, params)[0].detach()
    for length in (1.0, -1.0, 30.0, -30.0):  # opposite points: no sign pattern of activations holds at both
        rng = torch.Generator().manual_seed(0)
        away = length * torch.randn(theta.shape, generator=rng, dtype=theta.dtype).to(theta.device)
        there = margins(model, data, unflatten(theta + away, params))[0].detach()
        if not torch.allclose(there, q + J @ away[0], rtol=1e-10, atol=1e-10 * float(J.abs().max())):
            return None
    return (q - J @ theta[0]).cpu().numpy(), J.cpu().numpy()


def follow_affine(
    model: Model,
    data: Data,
    params: Params,
    *,
    at: Sequence[float],
    rtol: float = 1e-6,
    max_seconds: float = 60.0,
) -> Iterator[State]:
    """Follow gradient flow of one seed of a linear model, yielding a state at each log(1/L) in ``at``.

    Args:
        at: increasing values of ell, the first at least 1 (where the data are separated) and above the start.
        rtol: relative tolerance of the solver.
        max_seconds: limit on the whole run.

    Yields:
        :class:`qhlib.flow.State`: the start, then one at each value. ``trust`` is ell(theta) over the clock's
        ell; ``gradients`` counts evaluations of the field. The last state carries the ``reason``.

    Raises:
        ValueError: for S != 1, margins that are not affine in the parameters, or values of ``at`` out of
        order.

    >>> data = Data(torch.eye(2).double(), torch.ones(2).double())
    >>> start = {"w": torch.tensor([[0.1, 0.3]]).double()}
    >>> *_, last = follow_affine(lambda p, X: p["w"] @ X.T, data, start, at=[1e2, 1e8])
    >>> round(last.ell.item() / 1e8, 6), last.reached
    (1.0, True)
    """
    targets = [float(value) for value in at]
    if not targets or targets[0] < 1 or any(b <= a for a, b in zip(targets, targets[1:], strict=False)):
        raise ValueError(f"at must be a non-empty increasing list of log(1/L) >= 1, got {at!r}")
    theta = flatten(params).detach()
    if theta.shape[0] != 1:
        raise ValueError(f"follow_affine takes one seed, got {theta.shape[0]}: loop over them")
    found = affine_margins(model, data, params)
    if found is None:
        raise ValueError("the margins are not affine in the parameters: use qhlib.implicit")
    q0, J = found
    evaluations, steps, began = 0, 0, time.monotonic()

    def look(vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """ell, its gradient and the weights."""
        nonlocal evaluations
        evaluations += 1
        q = q0 + J @ vector
        low = q.min()
        w = np.exp(low - q)
        total = w.sum()
        w /= total
        return low - math.log(total), w @ J, w

    def level(vector: np.ndarray) -> float:
        """ell alone, for the checks after each step."""
        nonlocal evaluations
        evaluations += 1
        q = q0 + J @ vector
        low = q.min()
        return low - math.log(np.exp(low - q).sum())

    def hessian(g: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.outer(g, g) - (J.T * w) @ J

    def in_loss_time(x: float, vector: np.ndarray) -> np.ndarray:
        g = look(vector)[1]
        return (math.exp(x) / (g @ g)) * g

    def its_jacobian(x: float, vector: np.ndarray) -> np.ndarray:
        _, g, w = look(vector)
        H, gg = hessian(g, w), g @ g
        return math.exp(x) * (H / gg - 2 * np.outer(g, H @ g) / gg**2)

    def state(
        vector: np.ndarray, trust: float = 1.0, reason: str | None = None, reached: bool | None = None
    ) -> State:
        here = torch.as_tensor(vector, dtype=theta.dtype, device=theta.device)[None]
        ell = torch.full_like(here[:, 0], level(vector))
        q = torch.as_tensor(q0 + J @ vector, dtype=theta.dtype, device=theta.device)[None]
        full = torch.full_like(ell, trust)
        return State(ell, q, unflatten(here, params), steps, evaluations, full, reason, reached)

    def options(size: float, span: float) -> dict:
        # first_step: LSODA's own guess can jump over the whole beginning
        atol = rtol * max(size, 1e-3) / math.sqrt(J.shape[1])
        return {"rtol": rtol, "atol": atol, "first_step": min(1e-3, span)}

    vector = theta[0].cpu().numpy().copy()
    ell = level(vector)
    if targets[0] < ell:
        raise ValueError(f"the flow starts at log(1/L) = {ell:.6g}, above the first of at, {targets[0]:.6g}")
    yield state(vector)
    late = f"The limit of {max_seconds:g} s was reached: raise max_seconds."
    if ell < 1:
        solver = LSODA(
            lambda _s, v: look(v)[1],
            0.0,
            vector,
            1e9,
            jac=lambda _s, v: hessian(*look(v)[1:]),
            # what is wrong before separation is forgotten after it: a looser tolerance changes no digit that
            # is tested
            **options(np.linalg.norm(vector), 1.0) | {"rtol": max(rtol, 1e-4)},
        )
        while level(solver.y) < 1:
            solver.step()
            steps += 1
            stop = "LSODA gave up before separation." if solver.status == "failed" else None
            stop = "The data were not separated: are they separable?" if solver.status == "finished" else stop
            if time.monotonic() - began > max_seconds:
                stop = late
            if stop:
                yield state(solver.y, 1.0, stop, False)
                return
        dense = solver.dense_output()
        vector = dense(brentq(lambda s: level(dense(s)) - 1, solver.t_old, solver.t, xtol=1e-15))
        ell = level(vector)
    ell0 = ell
    clocks = [math.log1p(max(target - ell0, 0.0)) for target in targets]
    waiting = list(zip(clocks, targets, strict=True))
    span = clocks[-1] if clocks[-1] > 0 else 1.0
    chosen = options(np.linalg.norm(vector), span)
    solver = LSODA(in_loss_time, 0.0, vector, span, jac=its_jacobian, max_step=0.5, **chosen)
    while waiting:
        before = solver.y.copy()
        # trial points of the corrector may overflow; the solver rejects them itself
        with np.errstate(all="ignore"):
            message = solver.step()
        steps += 1
        due, got = ell0 + math.expm1(solver.t), level(solver.y)
        stop = late if time.monotonic() - began > max_seconds else None
        if solver.status == "failed":
            stop = f"LSODA gave up near log(1/L) = {due:.4g}: {message or 'its step became too small'}."
        elif not abs(got - due) <= OFF_THE_FLOW * due:
            stop = f"LSODA left the flow near log(1/L) = {due:.4g}: use a smaller rtol."
        if stop:
            yield state(before, 1.0, stop, False)
            return
        dense = None
        while waiting and waiting[0][0] <= solver.t * (1 + 1e-14):
            clock, target = waiting.pop(0)
            dense = dense or solver.dense_output()
            point = dense(clock)
            # the solver's ell is off by its tolerance; a step along the flow lands exactly
            for _ in range(3):
                value, g, _w = look(point)
                point = point + (target - value) / (g @ g) * g
            trust = got / due
            yield state(
                point,
                trust,
                None if waiting else f"The seed reached log(1/L) = {target:g}.",
                not waiting or None,
            )
