"""From the flow to a certified limit: the KKT residual, and the polish of smooth models.

Conventions. The limit problem of a Lambda-quasi-homogeneous model is ::

    (P)   min 1/2 |theta|^2_{Lambda_max}   such that   q_i(theta) >= 1 for all i,

with ``|theta|^2_{Lambda_max} = lambda_max sum theta_j^2`` over the top-rate block; in gradients,
``P = lambda_max`` on that block and 0 below (``P = I/L`` for a homogeneous model of degree L, the
usual problem). Every point is first moved along its characteristic curve to unit margin, so that
no figure here depends on its scale. ``mu >= 0`` (S, k) are the multipliers, ``J = dq/dtheta`` (S,
k, p), all float64.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import qr
from scipy.optimize import least_squares, nnls
from torch import Tensor

from qhlib.convex import nested_qp
from qhlib.data import Data
from qhlib.homogeneity import normalize, top_rate, unit_margin
from qhlib.margins import KinkFinder, Model, hessian, jacobian, margins
from qhlib.params import Params, Rates, angle, flatten, unflatten

CERTIFIED = 1e-6
"""A limit is certified when residual and complementarity are both at most this."""


@dataclass(frozen=True)
class Certificate:
    """How far S points are from satisfying the KKT conditions of (P), at unit margin (feasible by
    construction).

    Attributes:
        residual: ``|P theta - J^T mu| / |P theta|``, with the gradients chosen in the Clarke
            subdifferential, (S,).
        complementarity: ``sum_i mu_i (q_i - 1) / |P theta|^2``, (S,). At a KKT point ``|P theta|^2
            = sum_i mu_i``.
        multipliers: mu >= 0, (S, k), for the point at unit margin.
    """

    residual: Tensor
    complementarity: Tensor
    multipliers: Tensor

    @property
    def worst(self) -> Tensor:
        """The larger of residual and complementarity, (S,)."""
        return torch.maximum(self.residual, self.complementarity)


@dataclass(frozen=True)
class Limit:
    """KKT points of (P) that were reached from a flow.

    Attributes:
        params: the points, at unit margin, stacked (S, ...).
        certificate: their KKT residuals, computed anew from the points alone.
        margin: ``q_min / |theta_top|^{1/lambda_max}``, what the limit maximises, (S,).
        angle: between the flow's and the limit's normalised parameters, in radians, (S,).
        certified: whether ``certificate.worst <= CERTIFIED``, (S,) bool.
        reason: per seed a sentence on how the polish ended.
    """

    params: Params
    certificate: Certificate
    margin: Tensor
    angle: Tensor
    certified: Tensor
    reason: tuple[str, ...]


def kkt_residual(
    model: Model, data: Data, params: Params, rates: Rates, *, kinks: KinkFinder | None = None
) -> Certificate:
    """Scale-free KKT residual of (P), ``min over mu >= 0 of |P theta - J^T mu|^2 / |P theta|^2 +
    complementarity^2``.

    Both parts are minimised together, as one least-squares problem with one row more: minimising
    the first part alone would call any point in the cone of the gradients a KKT point, active
    margins or not. With ``kinks`` the gradient of each q_i is chosen in its Clarke
    subdifferential: with ``nu_ij = mu_i s_ij`` that is a convex quadratic programme under ``0 <=
    nu_ij <= mu_i``. (Without, at a kink, the residual of a KKT point can be anything.)

    Args:
        model: scores ``model(params, X)``.
        data: inputs and labels.
        params: the stacked points (S, ...).
        rates: Lambda, as in :mod:`qhlib.homogeneity`.
        kinks: finds the generators at the unit-margin point, e.g.
            :func:`qhlib.near_homogeneity.activation_kinks`.

    Raises:
        ValueError: if a seed does not separate the data, its top-rate block is zero, or kinks and
            seeds differ.

    Source: approximate KKT points as in Lyu & Li (2020), as we recall them; normalisation and
    Clarke form derived.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> linear = lambda p, X: p["w"] @ X.T
    >>> point = {"w": torch.tensor([[3.0, 3.0]], dtype=torch.float64)}
    >>> here = kkt_residual(linear, data, point, {"w": 1.0})
    >>> round(here.residual.item(), 12), here.multipliers.tolist()
    (0.0, [[1.0, 1.0]])
    """
    at = unit_margin(model, data, params, rates)
    theta, q = flatten(at).detach().cpu().numpy(), margins(model, data, at).detach().cpu().numpy()
    slopes = jacobian(model, data, at)
    found = [None] * len(theta) if kinks is None else kinks(at, slopes)
    if len(found) != len(theta):
        raise ValueError(f"give the kinks of each of the {len(theta)} seeds, got {len(found)}")
    J = slopes.cpu().numpy()
    largest, top = top_rate(at, rates)
    P = largest * top.cpu().numpy()
    rows = []
    for s in range(theta.shape[0]):
        v = P * theta[s]
        size = np.linalg.norm(v)
        if not size > 0:
            raise ValueError("the top-rate parameters of a seed are zero: (P) has no cost there")
        # columns in units in which the multipliers of a KKT point sum to one
        slack = q[s] - 1
        sample, direction = found[s] or (np.zeros(0, int), np.zeros((0, v.size)))
        last, target = np.r_[slack, np.zeros(len(sample))], np.r_[v / size, 0.0]
        columns = np.vstack([np.hstack([J[s].T, direction.T]) * size, last])
        solution = _cone_least_squares(columns, target, len(slack), sample)
        gap, mu = columns @ solution - target, solution[: len(slack)]
        rows.append((np.linalg.norm(gap[:-1]), abs(gap[-1]), mu * size**2))
    return Certificate(*(torch.as_tensor(np.stack(part)) for part in zip(*rows, strict=True)))


def polish_smooth(
    model: Model, data: Data, params: Params, rates: Rates, *, max_evaluations: int = 200
) -> Limit:
    """From a flow past separation to the KKT point of (P) next to it, for smooth
    (quasi-)homogeneous models.

    Solves the KKT conditions ``P theta = J^T mu``, ``0 <= mu_i, 0 <= q_i - 1, mu_i (q_i - 1) = 0``
    as equations, the last as ``phi(mu_i, q_i - 1) = 0`` with the Fischer-Burmeister function
    ``phi(a, b) = sqrt(a^2 + b^2) - a - b``, by Levenberg-Marquardt (SciPy's MINPACK) with the
    exact Jacobian. It takes short steps where solutions form a continuum (lower-rate and symmetric
    directions), so the flow selects the point. Only margins near the smallest take part; any other
    that falls below 1 on the way is added.

    The point is a KKT point, no more: from too early a flow it can be a saddle beside the flow's
    own limit (3 of 12 diagonal-model runs polished at log(1/L) = 30, none at 100 or 1000). Look at
    ``angle``; it falls as the flow goes on if the limit is the flow's.

    Raises:
        ValueError: if a seed does not separate the data.

    >>> data = Data(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> linear = lambda p, X: p["w"] @ X.T
    >>> flow = {"w": torch.tensor([[9.0, 8.0]], dtype=torch.float64)}
    >>> limit = polish_smooth(linear, data, flow, {"w": 1.0})
    >>> round(limit.margin.item(), 9), limit.certified.item()
    (0.707106781, True)
    """
    points, reasons = [], []
    for s in range(len(flatten(params))):
        own = data._replace(X=data.X[s : s + 1]) if data.X.ndim == 3 else data
        start = unit_margin(model, own, {name: t[s : s + 1] for name, t in params.items()}, rates)
        point, reason = _solve_kkt(model, own, start, rates, max_evaluations)
        points.append(torch.as_tensor(point))
        reasons.append(reason)
    limit = unit_margin(model, data, unflatten(torch.stack(points), params), rates)
    # computed anew from the points alone: what a solver says of itself is no certificate
    certificate = kkt_residual(model, data, limit, rates)
    certified = certificate.worst <= CERTIFIED
    largest, top = top_rate(limit, rates)
    size = (flatten(limit)[:, top]).norm(dim=1)
    apart = angle(flatten(normalize(params, rates)[0]), flatten(normalize(limit, rates)[0]))
    worst = zip(reasons, certified, certificate.worst, strict=True)
    verdict = [
        f"{reason} {'Certified' if ok else 'Not certified'}: {w:.1e}." for reason, ok, w in worst
    ]
    return Limit(limit, certificate, size ** (-1 / largest), apart, certified, tuple(verdict))


def _solve_kkt(model, data, start, rates, max_evaluations) -> tuple[np.ndarray, str]:
    """The KKT point next to ``start`` (S = 1, unit margin), and how the solver ended."""
    largest, top = top_rate(start, rates)
    best = flatten(start)[0].detach().cpu().numpy()
    p, P = best.size, largest * top.cpu().numpy()
    size = np.linalg.norm(P * best)

    def look(vector: np.ndarray) -> tuple[Params, np.ndarray]:
        here = unflatten(torch.as_tensor(vector, dtype=torch.float64)[None], start)
        return here, margins(model, data, here)[0].detach().numpy()

    def equations(x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        (here, q), m = look(x[:p]), x[p:]
        J, slack = jacobian(model, data, here)[0].numpy()[chosen], q[chosen] - 1
        return np.r_[P * x[:p] / size - size * (J.T @ m), np.hypot(m, slack) - m - slack]

    def derivative(x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        (here, q), m = look(x[:p]), x[p:]
        J, slack = jacobian(model, data, here)[0].numpy()[chosen], q[chosen] - 1
        curvature = hessian(model, data, here, lambda q: q[:, chosen] @ torch.as_tensor(m)).numpy()
        r = np.hypot(m, slack)
        along_m, along_q = (
            np.divide(v, r, out=np.full_like(r, 0.5**0.5), where=r > 0) - 1 for v in (m, slack)
        )
        first = np.hstack([np.diag(P) / size - size * curvature, -size * J.T])
        return np.vstack([first, np.hstack([along_q[:, None] * J, np.diag(along_m)])])

    q = look(best)[1]
    mu = kkt_residual(model, data, start, rates).multipliers[0].numpy() / size**2
    # at a flow's end the active margins lie within O(1/ell) of the smallest one
    few = np.argsort(q, kind="stable")[: 2 * p + 20]
    chosen = np.union1d(few[q[few] <= 1.5], np.flatnonzero(mu > 1e-12))
    options = {"method": "lm", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    options |= {"jac": derivative, "max_nfev": max_evaluations}
    for _ in range(20):
        guess = np.r_[best, np.maximum(mu[chosen], 1e-12)]
        out = least_squares(equations, guess, args=(chosen,), **options)
        worst = np.abs(out.fun).max()
        if np.linalg.norm(P * out.x[:p]) < 1e-6 * size:
            return best, "The top-rate parameters shrink to zero: (P) does not select the limit."
        if not worst < 1e-7:
            count = f"{worst:.1e} after {out.nfev} evaluations: follow the flow further first."
            return best, f"The polish stopped at a KKT equation violated by {count}"
        best, mu[:] = out.x[:p], 0
        mu[chosen] = out.x[p:]
        missed = np.setdiff1d(np.flatnonzero(look(best)[1] < 1 - 1e-9), chosen)
        if not missed.size:
            return best, f"The KKT equations were solved to {worst:.1e}."
        chosen = np.union1d(chosen, missed)
    return best, "Margins kept falling below 1 as others were solved for: follow the flow further."


def _cone_least_squares(
    columns: np.ndarray, target: np.ndarray, k: int, sample: np.ndarray
) -> np.ndarray:
    """``min |columns x - target|`` over the nested x = (mu, nu) of :mod:`qhlib.convex`."""
    few = columns.shape[1] + 1
    if len(target) > few:  # only the triangle matters, so p never does
        triangle = qr(np.column_stack([columns, target]), mode="r", check_finite=False)[0][:few]
        columns, target = triangle[:, :-1], triangle[:, -1]
    if not len(sample):
        # the active-set method may cycle on dependent columns; the interior-point one does not
        with contextlib.suppress(RuntimeError):
            return nnls(columns, target, maxiter=30 * max(k, 30))[0]
    x = nested_qp(columns.T @ columns, columns.T @ target, k, sample)
    # the normal equations lose half the digits: one correction by least squares on the face. A
    # solver's status is no certificate: the caller computes the residual of whatever comes back.
    near = 1e-7 * max(x[:k].max(), 1e-300)
    zero, full = x <= near, (x[k:] >= x[:k][sample] - near) & (x[k:] > near)
    # columns that span the face: unknowns off their bounds; a nu held at its mu moves with it
    live = ~zero
    live[k:] &= ~full
    basis = np.eye(len(x))[:, live]
    basis[k + np.flatnonzero(full)] = basis[sample[full]]
    moved = x + basis @ np.linalg.lstsq(columns @ basis, target - columns @ x, rcond=1e-12)[0]
    mu = np.maximum(moved[:k], 0)
    moved = np.r_[mu, np.clip(moved[k:], 0, mu[sample])]
    return min(moved, x, key=lambda z: np.linalg.norm(columns @ z - target))
