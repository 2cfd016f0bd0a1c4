"""Gradient flow past separability: one generator, and the steppers that move it.

Conventions. The curve ``d theta/dt = -grad L`` is the same in every clock. With ``ell = log(1/L)``
and ``g = grad ell`` the steppers use *loss time*, ``d theta / d ell = g / |g|^2``, in which a step
of length c raises ell by c to first order, or *log-loss time*, in which the cost of going far
grows with log(ell) only. The loss itself is never formed. Shapes: S seeds in the leading axis,
``theta`` is (S, p), margins are (S, k), float64. ell is dimensionless (nats).

============================  ===================================================================
:class:`Euler` (the default)  explicit; any number of seeds; right for models with kinks
:class:`Heun`                 explicit, adaptive; any number of seeds; smooth models
:class:`Implicit`             one seed, smooth, separated start; far (``ell = 1e6`` and beyond)
:class:`Affine`               one seed of a linear model, any start; far, in hundredths of a second
:class:`Far`                  one seed, smooth, any start: the other three in the right order
============================  ===================================================================

Fidelity comes for free: it is the rise of ell over the rise that the clock promised. It is 1 on a
faithful flow of a smooth model and approaches 1 as the steps shrink. A fidelity that stays away
from 1 for every step length means that the flow slides along kinks (ReLU boundaries); one that
moves towards 1 means the step was too long.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import scipy.integrate
import torch
from scipy.optimize import brentq
from torch import Tensor

from qhlib.data import Data
from qhlib.margins import Model, hessian, jacobian, log_inverse_loss, margins, negative_gradient
from qhlib.params import Params, flatten, unflatten

LANDING = 1e-9
"""A state is on the prescribed ell when it is this close, relative to max(1, ell)."""
SOLVERS = {name: getattr(scipy.integrate, name) for name in ("BDF", "Radau", "LSODA")}
"""SciPy's solvers that :class:`Implicit` can use."""


@dataclass(frozen=True)
class State:
    """One point of a flow.

    Attributes:
        ell: log(1/L), (S,).
        margins: q, (S, k).
        params: stacked parameters.
        steps: steps taken since the start.
        evaluations: gradient evaluations since the start (each evaluates all seeds).
        fidelity: rise of ell over the promised rise, since the last yielded state, (S,).
    """

    ell: Tensor
    margins: Tensor
    params: Params
    steps: int
    evaluations: int
    fidelity: Tensor


class FlowError(RuntimeError):
    """The flow cannot get where it was asked to; the message says why and what to do.

    Attributes:
        state: the last point that was reached, a :class:`State`.
    """

    def __init__(self, message: str, state: State):
        super().__init__(message)
        self.state = state


class Stepper(Protocol):
    """How a flow moves: ``run`` moves ``flow`` and yields the fidelity (S,) at each value of
    ``at``.

    Without ``at`` it yields at every step until all seeds have reached ``until``. It raises
    :class:`FlowError` through ``flow.stop`` when it cannot go on, :class:`ValueError` for a start
    that it does not take.
    """

    def run(
        self, flow: "Flow", at: Sequence[float] | None, until: float = math.inf
    ) -> Iterator[np.ndarray | float]: ...


def follow(
    model: Model,
    data: Data,
    params: Params,
    *,
    at: Sequence[float] | None = None,
    until: float = math.inf,
    stepper: Stepper | None = None,
    max_evaluations: int = 1_000_000,
) -> Iterator[State]:
    """Follow gradient flow on the exponential loss, ``d theta/dt = -grad L``, to prescribed
    losses.

    Args:
        model: scores ``model(params, X)``.
        data: inputs and labels.
        params: the starting point, stacked (S, ...).
        at: increasing values of ell. A state is yielded exactly there (to 1e-9, relative), for all
            seeds at once, and nowhere else.
        until: without ``at``, the start and every step are yielded until every seed has reached
            this ell, or the caller leaves the loop (:class:`Euler` and :class:`Heun` only).
        stepper: how to move, see the table above; ``Euler()`` by default.
        max_evaluations: limit on gradient evaluations.

    Yields:
        A :class:`State` for each value of ``at``, in order.

    Raises:
        FlowError: if a value cannot be reached: the limit, a critical point, numbers that are not
            finite, a solver that gave up or left the flow.
        ValueError: if ``at`` does not increase or lies below the starting point, or the stepper
            does not take this start or these data.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> start = {"w": torch.tensor([[1.0, 0.5]], dtype=torch.float64)}
    >>> *_, last = follow(lambda p, X: p["w"] @ X.T, data, start, at=[10.0, 100.0])
    >>> round(last.ell.item(), 6), round(last.margins.min().item(), 2)
    (100.0, 100.69)
    """
    stepper = stepper or Euler()
    targets = None if at is None else [float(value) for value in at]
    if targets is None and not isinstance(stepper, _Explicit):
        raise ValueError(f"{stepper} needs the values of log(1/L) to stop at: give at")
    if targets is not None and (not targets or not all(b > a for a, b in pairwise(targets))):
        raise ValueError(f"at must be a non-empty increasing list of log(1/L), got {at!r}")
    flow = Flow(model, data, params, max_evaluations)
    if targets and (flow.ell > targets[0] + LANDING * max(1, abs(targets[0]))).any():
        raise ValueError(f"the flow starts at {flow.ell.max():.6g}, above the values of at")
    for fidelity in stepper.run(flow, targets, until):
        yield flow.state(fidelity)


class Flow:
    """Where a flow is and what it has cost: the part that all steppers share.

    Attributes:
        theta: the current point, flat, (S, p).
        q: its margins (S, k), or None until they are wanted.
        ell: its log(1/L), an array (S,).
        g: the gradient of ell there, (S, p).
        steps: taken so far.
        evaluations: made so far.
    """

    def __init__(self, model: Model, data: Data, params: Params, max_evaluations: int):
        self.model, self.data, self.like = model, data, params
        self.steps, self.evaluations, self.limit = 0, 0, max_evaluations
        self.theta, self.q = flatten(params).detach(), None
        self.q, self.ell, self.g = self.evaluate(self.theta)

    def count(self) -> None:
        """One more evaluation; raises :class:`FlowError` at the limit."""
        if self.evaluations >= self.limit:
            raise self.stop(f"At the limit of {self.limit} evaluations: raise max_evaluations.")
        self.evaluations += 1

    def evaluate(self, theta: Tensor) -> tuple[Tensor, np.ndarray, Tensor]:
        """Margins, ell (an array) and its gradient at ``theta`` (S, p)."""
        self.count()
        q, ell, g = negative_gradient(self.model, self.data, unflatten(theta, self.like))
        return q, _host(ell), g

    def settle(self, vector: np.ndarray) -> None:
        """Make the (p,) array of a single seed the current point."""
        self.theta, self.q = vector.copy(), None

    def tensor(self, vector: np.ndarray) -> Tensor:  # (1, p)
        """A (p,) array as stacked flat parameters, where the parameters lie."""
        return torch.as_tensor(vector, dtype=self.g.dtype, device=self.g.device)[None]

    def state(self, fidelity: np.ndarray | float = 1.0) -> State:
        """The current point."""
        if isinstance(self.theta, np.ndarray):
            self.theta = self.tensor(self.theta)
        params = unflatten(self.theta, self.like)
        if self.q is None:
            with torch.no_grad():
                self.q = margins(self.model, self.data, params)
            self.ell = _host(log_inverse_loss(self.q))
        ell = torch.as_tensor(self.ell, dtype=self.theta.dtype, device=self.theta.device)
        fidelity = ell.new_tensor(fidelity).expand_as(ell)
        return State(ell, self.q, params, self.steps, self.evaluations, fidelity)

    def stop(self, why: str) -> FlowError:
        """The error to raise, with the current point."""
        state = self.state()
        return FlowError(f"{why} (It got to log(1/L) = {float(state.ell.min()):.6g}.)", state)


def _host(t: Tensor) -> np.ndarray:
    """A small tensor as a numpy array on the host."""
    return t.detach().cpu().numpy()


def _move(theta: Tensor, amount: np.ndarray, direction: Tensor) -> Tensor:
    amount = torch.as_tensor(amount, device=theta.device)
    return torch.addcmul(theta, amount[:, None], direction)


def _positive(values: np.ndarray, instead: float) -> np.ndarray:
    return np.where(values > 0, values, instead)


class _Explicit:
    """What Euler and Heun share. Before separation, where ``|g|`` can be tiny, a step moves theta
    by at most ``stretch |theta|``: near the origin that is the clock ``ds = L dt``."""

    def __post_init__(self):
        if not self.step > 0 or not self.stretch > 0:
            raise ValueError(f"step and stretch must be positive, got {self}")

    def run(self, flow, at, until=math.inf):
        """See :class:`Stepper`."""
        # the control arithmetic runs on (S,) numpy arrays: ten times less overhead than tensors
        own, clock, risen = np.full_like(flow.ell, self.step), np.zeros_like(flow.ell), flow.ell
        if at is None:
            yield np.ones_like(flow.ell)
        for goal in [until] if at is None else at:
            while True:
                left = goal - flow.ell
                done = left <= 0 if at is None else np.abs(left) <= LANDING * max(1.0, abs(goal))
                if done.all():
                    break
                length, size = (_host(t.norm(dim=1)) for t in (flow.g, flow.theta))
                if not (np.isfinite(flow.ell).all() and np.isfinite(length).all()):
                    raise flow.stop("A number is no longer finite: take smaller data or steps.")
                if (~done & (length == 0)).any():
                    raise flow.stop("The gradient vanished for a seed: start it elsewhere.")
                want = np.where(done, 0.0, own if at is None else np.minimum(own, left))
                # far from separation 1/|g|^2 would throw theta across the landscape
                want = np.minimum(want, _positive(self.stretch * size * length, np.inf))
                square = _positive(length, 1.0) ** 2
                trial, found, accept, own = self.attempt(flow, want, own, size, square)
                own, accept = np.where(done, self.step, own), accept | done
                self.take(flow, trial, found, accept)
                clock = clock + want * accept
                if at is None:
                    yield _ratio(flow.ell - risen, clock)
                    clock, risen = np.zeros_like(clock), flow.ell
            if at is not None:
                yield _ratio(flow.ell - risen, clock)
                clock, risen = np.zeros_like(clock), flow.ell

    @staticmethod
    def take(flow, trial, found, accept) -> None:
        """Move the seeds that accept."""
        flow.steps += 1
        if not accept.all():
            keep = torch.as_tensor(accept, device=trial.device)[:, None]
            trial = torch.where(keep, trial, flow.theta)
            q, g = torch.where(keep, found[0], flow.q), torch.where(keep, found[2], flow.g)
            found = q, np.where(accept, found[1], flow.ell), g
        flow.theta, (flow.q, flow.ell, flow.g) = trial, found


def _ratio(rise: np.ndarray, clock: np.ndarray) -> np.ndarray:
    return np.divide(rise, clock, out=np.ones_like(rise), where=clock > 0)


@dataclass(frozen=True)
class Euler(_Explicit):
    """Euler steps in loss time, ``theta + c g / |g|^2``: right for models with kinks, any number
    of seeds.

    A step that loses ground is taken again at half the length.

    Attributes:
        step: largest loss time of one step (nats of ell).
        stretch: largest relative change of theta in one step.

    >>> Euler(step=-1.0)
    Traceback (most recent call last):
    ValueError: step and stretch must be positive, got Euler(step=-1.0, stretch=0.1)
    """

    step: float = 1.0
    stretch: float = 0.1

    def attempt(self, flow, want, own, size, square):
        """A trial step of ``want``: the point, its evaluation, who accepts it, the next step
        lengths."""
        trial = _move(flow.theta, want / square, flow.g)
        found = flow.evaluate(trial)
        rise = found[1] - flow.ell
        # a step that lost ground was too long; a mere landing correction may go either way
        accept = (rise > 0) | (want < 1e-6)
        longer, shorter = np.minimum(1.1 * own, self.step), 0.5 * np.maximum(want, 1e-6)
        return trial, found, accept, np.where(np.abs(rise) >= 0.5 * np.abs(want), longer, shorter)


@dataclass(frozen=True)
class Heun(_Explicit):
    """Heun's method in loss time, each seed choosing its own step: for smooth models.

    The embedded error estimate stays below ``tol |theta| / max(1, ell)`` per step: margins are of
    size ell and enter the loss through ``e^-q``, so they must be right absolutely, not relatively.

    Attributes:
        tol: relative local error per step, in (0, 1).
        step: as in :class:`Euler`.
        stretch: as in :class:`Euler`.

    >>> Heun(1e-4).tol
    0.0001
    """

    tol: float = 1e-3
    step: float = 1.0
    stretch: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.tol < 1:
            raise ValueError(f"tol must be in (0, 1), got {self.tol}")

    def attempt(self, flow, want, own, size, square):
        """See :meth:`Euler.attempt`."""
        half = 0.5 * want / square
        euler = _move(flow.theta, 2 * half, flow.g)
        g = flow.evaluate(euler)[2]
        ahead = _positive(_host((g * g).sum(1)), 1.0)
        trial = _move(_move(flow.theta, half, flow.g), 0.5 * want / ahead, g)
        error = _host(torch.linalg.vector_norm(trial - euler, dim=1))
        error = error / (self.tol * _positive(size, 1.0)) * np.maximum(1.0, flow.ell)
        error = np.where(np.isfinite(error), error, np.inf)
        accept = error <= 1
        wish = want * np.clip(0.9 / np.sqrt(np.maximum(error, 1e-12)), 0.2, 2.0)
        # a step cut short to land says nothing against the longer one in use
        own = np.where(accept & (want < own), np.maximum(own, wish), wish)
        return trial, flow.evaluate(trial), accept, np.minimum(own, self.step)


def _one_seed(flow: Flow, stepper: Stepper) -> np.ndarray:
    """The flow's (p,) array; refuses stacked seeds."""
    if len(flow.ell) != 1:
        raise ValueError(f"{stepper} takes one seed, got {len(flow.ell)}: loop over them")
    return _host(flow.theta[0])


@dataclass(frozen=True)
class Implicit:
    """An implicit solver in log-loss time, ``d theta / dx = N g``: far asymptotics of one smooth
    seed.

    ``N = ell |theta|^2 / <theta, g>^2``, so that ``d log ell / dx = 1 / cos^2(theta, g)``, which
    is 1 once the direction has settled: the cost grows with log(ell). The Jacobian of the field is
    ``N H + N g (g / ell + 2 theta / |theta|^2 - 2 (g + H theta) / <theta, g>)^T`` with the Hessian
    H of ell (p up to a few hundred). The data must be separated at the start.

    Not ``N = ell / |g|^2``: near a KKT point g is a sum of large terms that cancel, so ``|g|^2``
    answers a margin error of 1e-4 with a factor, and Newton's iteration fails unless steps are
    tiny. On a seven-parameter diagonal model that clock took twenty times longer.

    SciPy's solvers can jump off the curve and report success. The rise of log ell in each step is
    therefore compared with the promise, the integral of ``1 / cos^2``; a step off by more than 2 %
    is an error.

    Attributes:
        rtol: relative tolerance of the solver (the absolute one is ``rtol |theta| / sqrt(p)`` at
            the start). None: ``0.1 / at[-1]`` within [1e-10, 1e-6] ([1e-10, 1e-5] for flows that
            end by 1000), because margins of size ell have to be right to much less than 1.
        method: one of :data:`SOLVERS`.
        max_step: longest step in x; short enough that the solver cannot jump over a bend unseen.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> start = {"w": torch.tensor([[4.0, 3.0]], dtype=torch.float64)}
    >>> (last,) = follow(lambda p, X: p["w"] @ X.T, data, start, at=[1e6], stepper=Implicit())
    >>> bool(abs(last.margins.min() / 1e6 - 1) < 1e-5)
    True
    """

    rtol: float | None = None
    method: str = "BDF"
    max_step: float = 0.5

    def __post_init__(self):
        if self.method not in SOLVERS:
            raise ValueError(f"method must be one of {sorted(SOLVERS)}, got {self.method!r}")

    def run(self, flow, at, until=math.inf):
        """See :class:`Stepper`."""
        start = _one_seed(flow, self)
        rtol = self.rtol or min(1e-5 if at[-1] <= 1000 else 1e-6, max(1e-10, 0.1 / at[-1]))

        def look(vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            """ell, g and d theta / dx."""
            _, ell, g = flow.evaluate(flow.tensor(vector))
            ell, g = float(ell[0]), _host(g[0])
            return ell, g, ell * (vector @ vector) / (vector @ g) ** 2 * g

        def jac(_x: float, vector: np.ndarray) -> np.ndarray:
            ell, g, velocity = look(vector)
            here = unflatten(flow.tensor(vector), flow.like)
            H = _host(hessian(flow.model, flow.data, here))
            squared, along = vector @ vector, vector @ g
            turn = g / ell + 2 * vector / squared - 2 * (g + H @ vector) / along
            return ell * squared / along**2 * H + np.outer(velocity, turn)

        ell, g, velocity = look(start)
        if not (ell > 0 and start @ g > 0):
            raise ValueError("Implicit starts where the data are separated: use Far or Heun first")
        atol = rtol * np.linalg.norm(start) / math.sqrt(start.size)
        options = {"rtol": rtol, "atol": atol, "max_step": self.max_step, "jac": jac}
        # the solver never gets as far as 1e6: the loop leaves when the last target is passed
        field = lambda _x, vector: look(vector)[2]  # noqa: E731
        first_step = min(1e-3, self.max_step)
        solver = SOLVERS[self.method](field, 0.0, start, 1e6, first_step=first_step, **options)
        slope, risen, promised = g @ velocity / ell, 0.0, 0.0  # slope of log ell in x
        for target in at:
            while ell < target:
                before, first = ell, slope
                _step(flow, solver)
                ell, g, velocity = look(solver.y)
                rise, slope = math.log(ell / before) if ell > 0 else math.nan, g @ velocity / ell
                due = 0.5 * (solver.t - solver.t_old) * (first + slope)
                if not abs(rise - due) <= 0.02 * due + 10 * rtol:
                    raise flow.stop(f"{self.method} left the flow: lower rtol or max_step.")
                risen, promised = risen + rise, promised + due
                flow.settle(solver.y)
            if solver.t > 0:
                # x as a cubic of log ell: its value and slope are known at both ends of the step
                u = math.log(target / before) / rise
                guess = (1 - u) ** 2 * (1 + 2 * u) * solver.t_old + u**2 * (3 - 2 * u) * solver.t
                guess += u * (1 - u) * rise * ((1 - u) / first - u / slope)
                flow.settle(_land(look, solver, target, guess))
            yield risen / promised if promised > 0 else 1.0
            risen = promised = 0.0


def _step(flow: Flow, solver: scipy.integrate.OdeSolver) -> None:
    """One step of a solver."""
    with np.errstate(all="ignore"):  # far-off trial points may overflow; it rejects them itself
        message = solver.step()
    flow.steps += 1
    if solver.status == "failed":
        raise flow.stop(f"{type(solver).__name__} gave up ({message}): change rtol or max_step.")


def _land(look, solver, target: float, x: float) -> np.ndarray:
    """The point of the solver's last step at which ell is ``target``: Newton's method on log
    ell."""
    dense = solver.dense_output()
    for _ in range(12):
        x = min(solver.t, max(solver.t_old, x))
        ell, g, velocity = look(dense(x))
        miss = math.log(target / ell)
        if abs(miss) <= LANDING / 10:
            break
        x += miss * ell / (g @ velocity)
    return dense(min(solver.t, max(solver.t_old, x)))


def affine_margins(
    model: Model, data: Data, params: Params
) -> tuple[np.ndarray, np.ndarray] | None:
    """``(q0, J)`` with ``q = q0 + J theta``, (k,) and (k, p), if margins are affine in theta, or
    None. S = 1.

    Checked at a random point, its opposite and farther ones, where a model that is not affine
    would agree only by accident.

    >>> data = Data(torch.eye(2).double(), torch.ones(2).double())
    >>> w = {"w": torch.ones(1, 2).double()}
    >>> affine_margins(lambda p, X: p["w"] @ X.T, data, w)[1].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> affine_margins(lambda p, X: p["w"] ** 2 @ X.T, data, w) is None
    True
    """
    theta = flatten(params).detach()
    J, q = jacobian(model, data, params)[0], margins(model, data, params)[0].detach()
    for length in (1.0, -1.0, 30.0, -30.0):  # opposite points: no activation pattern holds at both
        rng = torch.Generator().manual_seed(0)
        away = length * torch.randn(theta.shape, generator=rng, dtype=theta.dtype).to(theta.device)
        there = margins(model, data, unflatten(theta + away, params))[0].detach()
        close = {"rtol": 1e-10, "atol": 1e-10 * float(J.abs().max())}
        if not torch.allclose(there, q + J @ away[0], **close):
            return None
    return _host(q - J @ theta[0]), _host(J)


@dataclass(frozen=True)
class Affine:
    """SciPy's LSODA with the exact Jacobian, for one seed of a linear model, from any start.

    Two clocks, one curve: ``d theta / ds = g`` until the data are separated (ell = 1), where
    ``|g|`` stays bounded away from zero and infinity; then ``d theta / dx = e^x g / |g|^2``, in
    which ``ell = ell0 + e^x - 1`` is the clock itself, and every step whose ell is off by more
    than 0.1 % is an error. NumPy alone, because autograd costs ten times the arithmetic of so
    small a model.

    Attributes:
        rtol: relative tolerance of the solver.

    >>> data = Data(torch.eye(2).double(), torch.ones(2).double())
    >>> start = {"w": torch.tensor([[0.1, 0.3]]).double()}
    >>> linear = lambda p, X: p["w"] @ X.T
    >>> *_, last = follow(linear, data, start, at=[0.5, 1e2, 1e8], stepper=Affine())
    >>> round(last.ell.item() / 1e8, 6)
    1.0
    """

    rtol: float = 1e-6

    def run(self, flow, at, until=math.inf):
        """See :class:`Stepper`."""
        vector = _one_seed(flow, self)
        affine = affine_margins(flow.model, flow.data, unflatten(flow.theta, flow.like))
        if affine is None:
            raise ValueError("the margins are not affine in the parameters: use Far or Implicit")
        q0, J = affine

        def look(vector: np.ndarray) -> tuple[float, np.ndarray, float]:
            """ell, the weights w up to their sum, and that sum: the gradient is ``w J / sum``."""
            flow.count()
            q = q0 + J @ vector
            low = q.min()
            w = np.exp(low - q)
            total = w.sum()
            return low - math.log(total), w, total

        def solver_from(vector, span, rtol, late):
            def field(x, vector):
                _, w, total = look(vector)
                g = w @ J / total
                return math.exp(x) / (g @ g) * g if late else g

            def jac(x, vector):
                _, w, total = look(vector)
                g = w @ J / total
                H, gg = np.outer(g, g) - (J.T * w) @ J / total, g @ g
                return math.exp(x) * (H / gg - 2 * np.outer(g, H @ g) / gg**2) if late else H

            atol = self.rtol * max(np.linalg.norm(vector), 1e-3) / math.sqrt(J.shape[1])
            # first_step: LSODA's own guess can jump over the whole beginning
            options = {"first_step": min(1e-3, span), "max_step": 0.5 if late else np.inf}
            options |= {"rtol": rtol, "atol": atol, "jac": jac}
            return SOLVERS["LSODA"](field, 0.0, vector, span, **options)

        ell, solver = look(vector)[0], None
        for target in [*(value for value in at if value < 1), 1.0]:
            while ell < target:
                # errors from before separation are forgotten after it: a looser tolerance will do
                solver = solver or solver_from(vector, 1e9, max(self.rtol, 1e-4), False)
                _step(flow, solver)
                if solver.status == "finished":
                    raise flow.stop("The data were not separated: are they separable?")
                flow.settle(solver.y)
                ell = look(solver.y)[0]
            if solver:
                dense = solver.dense_output()
                miss = lambda s: look(dense(s))[0] - target  # noqa: B023, E731
                vector = dense(brentq(miss, solver.t_old, solver.t, xtol=1e-15))
            if target < 1:
                flow.settle(vector)
                yield 1.0
        ell0, late = look(vector)[0], [value for value in at if value >= 1]
        clocks = [math.log1p(max(target - ell0, 0.0)) for target in late]
        fidelity, span = 1.0, max([*clocks, 0.0]) or 1.0
        solver = solver_from(vector, span, self.rtol, True)
        for clock, target in zip(clocks, late, strict=True):
            while solver.t * (1 + 1e-14) < clock:
                _step(flow, solver)
                fidelity = look(solver.y)[0] / (ell0 + math.expm1(solver.t))
                if not abs(fidelity - 1) <= 1e-3:
                    raise flow.stop("LSODA left the flow: use a smaller rtol.")
                flow.settle(solver.y)
            point = solver.dense_output()(clock) if clock else vector
            # the solver's ell is off by its tolerance; a step along the flow lands exactly
            for _ in range(3):
                ell, w, total = look(point)
                g = w @ J / total
                point = point + (target - ell) / (g @ g) * g
            flow.settle(point)
            yield fidelity


@dataclass(frozen=True)
class Far:
    """One smooth seed from any start to the far asymptotics.

    :class:`Affine` where the margins are affine in the parameters; otherwise ``Heun(1e-3)`` until
    ell is ``begin``, then :class:`Implicit`.

    Attributes:
        begin: an ell at which the data are separated, > 0.
        rtol: as in :class:`Implicit`, or as in :class:`Affine`.
        method: as in :class:`Implicit`.
        max_step: as in :class:`Implicit`.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> start = {"w": torch.tensor([[0.5, 0.7]], dtype=torch.float64)}
    >>> square = lambda p, X: p["w"] ** 2 @ X.T
    >>> [round(s.ell.item(), 6) for s in follow(square, data, start, at=[1e2, 1e4], stepper=Far())]
    [100.0, 10000.0]
    """

    begin: float = 1.0
    rtol: float | None = None
    method: str = "BDF"
    max_step: float = 0.5

    def run(self, flow, at, until=math.inf):
        """See :class:`Stepper`."""
        _one_seed(flow, self)
        implicit = Implicit(self.rtol, self.method, self.max_step)
        if affine_margins(flow.model, flow.data, unflatten(flow.theta, flow.like)):
            yield from Affine(self.rtol or 1e-6).run(flow, at)
            return
        early = [value for value in at if value <= self.begin]
        yield from Heun(1e-3).run(flow, early)
        if len(early) < len(at):
            if flow.ell[0] < self.begin:
                next(Heun(1e-3).run(flow, [self.begin]))
            yield from implicit.run(flow, at[len(early) :])
