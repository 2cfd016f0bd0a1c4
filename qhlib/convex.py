"""Convex problems by library solvers: limits computed without any flow, which flows are compared
with.

Conventions. Predictors are linear in their coefficients, ``q_i = y_i <beta, x_i>`` with labels ±1,
no bias. NumPy arrays, float64, one data set at a time. Every :class:`Solution` carries a relative
duality gap that is computed here from the primal and dual points; a solver that does not report an
optimal solution raises :class:`SolverError`, so that an inaccurate answer is never used unseen.
(scikit-learn's ``SVC`` fits an intercept: another problem.) Clarabel is called directly: CVXPY
takes a second to import and milliseconds to compile what takes a tenth of one to solve.

The *nested* programme at the end is behind every Clarke subdifferential: unknowns ``x = (mu,
nu)``, mu (k,) and nu (K,), with ``mu >= 0`` and ``0 <= nu_j <= mu_{sample_j}``. The gradient of a
margin with kinks is ``mu_i (grad q_i + sum_j s_j direction_j)`` with shares ``s_j = nu_j / mu_i``
in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import clarabel
import numpy as np
from scipy import sparse
from scipy.optimize import linprog, nnls

from qhlib.data import Data


class SolverError(RuntimeError):
    """A library solver found no optimal solution: infeasible (not separable), unbounded or
    inaccurate."""


@dataclass(frozen=True)
class Solution:
    """Answer of a convex problem.

    Attributes:
        x: the solution, (d,).
        value: the optimal value, as the function that returned it defines it.
        gap: relative duality gap, computed from the points.
    """

    x: np.ndarray
    value: float
    gap: float


def hard_margin(data: Data) -> Solution:
    """The largest Euclidean margin ``max_{|w| = 1} min_i y_i <w, x_i>``: x = w (unit), value = the
    margin.

    By non-negative least squares on the dual (by the quadratic programme where SciPy's NNLS stops
    short of the optimum, which the gap tells), the point of least norm in the convex hull of the
    ``y_i x_i``: ``min_{u >= 0} |A^T u|^2 + (1^T u - 1)^2`` has the same minimiser up to scale. Any
    hull point bounds the margin from above, which gives the gap.

    Raises:
        SolverError: if the data are not separable through the origin.

    >>> import torch
    >>> data = Data(torch.eye(2).double(), torch.tensor([1.0, -1.0]).double())
    >>> round(hard_margin(data).value, 9)
    0.707106781
    """
    A, scale = _rows(data)
    try:
        u, _ = nnls(
            np.vstack([A.T, np.ones(len(A))]),
            np.r_[np.zeros(A.shape[1]), 1.0],
            maxiter=100 * len(A),
        )
    except RuntimeError as error:
        raise SolverError(f"NNLS did not end: {error}") from error
    hull = A.T @ u / max(u.sum(), 1e-300)
    bound = np.linalg.norm(hull)
    w = hull / bound if bound > 0 else hull
    margin = (A @ w).min()
    if bound - margin > 1e-8 * bound:
        return hard_margin_qp(data)  # raises if the data are not separable
    return Solution(w, float(margin * scale), float((bound - margin) / bound))


def hard_margin_qp(data: Data) -> Solution:
    """The same margin as a quadratic programme, ``min |w|^2`` under ``q_i >= 1``: a second route.

    >>> import torch
    >>> data = Data(torch.eye(2).double(), torch.tensor([1.0, -1.0]).double())
    >>> round(hard_margin_qp(data).value, 9)
    0.707106781
    """
    found = block_norm(data, np.ones(data.X.shape[1], int))
    size = float(np.linalg.norm(found.x))
    return Solution(found.x / size, 1 / size, found.gap)


def block_norm(data: Data, depths: Sequence[int]) -> Solution:
    """Limit of the diagonal network ``f = sum_i (prod_{k <= D_i} theta_ik) x_i``: x = beta, value
    = the cost.

    It minimises ``sum_{i: D_i = D} |beta_i|^{2/D}``, with ``D = min_i D_i``, under ``y_n <beta,
    x_n> >= 1``, the other coordinates free: with balanced factors this is the problem (P) of
    :mod:`qhlib.limits`, whose top-rate block are the shallowest coordinates (rate ``1/D``). A
    quadratic programme for D = 1, a linear one for D = 2; deeper it is convex only when the block
    is one coordinate (then ``|beta_i|`` itself is minimised). Where the minimiser is not unique in
    the free coordinates, any one is returned.

    Raises:
        ValueError: for depths that do not fit the data, or D >= 3 with several coordinates (not
            convex).
        SolverError: if the data are not separable, or separable without the top-rate block (the
            value would be 0).

    >>> import torch
    >>> X = torch.tensor([[1.0, 2.0], [-1.0, 2.0]]).double()
    >>> data = Data(X, torch.tensor([1.0, -1.0]).double())
    >>> round(block_norm(data, [1, 2]).value, 6)
    1.0
    """
    A, scale = _rows(data)
    cone = clarabel.NonnegativeConeT(len(A))
    return _least_block(-A, -np.ones(len(A)), cone, lambda beta: (A @ beta).min(), depths, scale)


def ball_norm(mu: np.ndarray, radius: float, depths: Sequence[int]) -> Solution:
    """The same problem on two balls: labels ±1 on ``B(±mu, radius)``.

    The constraint is ``<beta, mu> - radius |beta| >= 1``: a second-order cone programme. The
    objective is flat in the free coordinates near the optimum: expect the top block to about 1e-8
    and the free one to about its root.

    Raises:
        ValueError: as :func:`block_norm`, or if the radius is not positive.
        SolverError: if ``radius >= |mu|`` (not separable), or the block is not needed.

    >>> found = ball_norm(np.array([0.8, 0.6]), 0.7, [1, 2])
    >>> round(found.value**-0.5, 5)     # A - sqrt(r^2 - m^2) with A = 0.8, m = 0.6
    0.43944
    """
    mu = np.asarray(mu, float)
    if not radius > 0:
        raise ValueError(f"the radius must be positive, got {radius}")
    scale = float(np.linalg.norm(mu))
    mu, radius, d = mu / scale, radius / scale, len(mu)
    rows = -np.vstack([mu, radius * np.eye(d)])  # (mu beta - 1, radius beta) in the cone

    def margin(beta: np.ndarray) -> float:
        return mu @ beta - radius * np.linalg.norm(beta)

    cone = clarabel.SecondOrderConeT(d + 1)
    return _least_block(rows, np.r_[-1.0, np.zeros(d)], cone, margin, depths, scale)


def cascade(data: Data, depths: Sequence[int]) -> tuple[Solution, list[int]]:
    """Lexicographic minimisation by decreasing rate: blocks that separation does not need are set
    to zero.

    Returns the solution of the first block that is needed, and the depths of those discarded
    before it.

    Source: the cascading-minimisation conjecture of Kunin et al. (2023), as we recall it.

    Raises:
        SolverError: if the data are not separable.

    >>> import torch
    >>> X = torch.tensor([[1.0, 2.0], [-3.0, -2.0]]).double()
    >>> data = Data(X, torch.tensor([1.0, -1.0]).double())
    >>> cascade(data, [1, 2])[1]
    [1]
    """
    A, depths = _rows(data)[0], np.asarray(depths)
    discarded, kept = [], np.ones(A.shape[1], bool)
    for depth in np.unique(depths):
        below = kept & (depths > depth)
        # needed unless the deeper coordinates separate the data alone, which a linear programme
        # tells
        status = 2
        if below.any():
            alone = -A[:, below], -np.ones(len(A))
            status = linprog(np.zeros(int(below.sum())), *alone, bounds=(None, None)).status
            if status not in (0, 2):
                raise SolverError(f"the linear programme ended with status {status}")
        if status == 2:
            found = block_norm(Data(data.X[:, np.flatnonzero(kept)], data.y), depths[kept])
            x = np.zeros(A.shape[1])
            x[kept] = found.x
            return replace(found, x=x), discarded
        discarded.append(int(depth))
        kept = below
    raise SolverError("the data are not separable by a hyperplane through the origin")


def path_point(
    data: Data, depths: Sequence[int], ell: float, speeds: float | Sequence[float] = 1.0
) -> Solution:
    """Regularisation path of the Lambda-seminorm, diagonal network: x = beta, value = the cost.

    With balanced factors ``|theta|_Lambda^2 = sum_i |beta_i|^{2/D_i}``. The point of the path at
    ``log(1/L) = ell`` is ::

        min  sum_i speeds_i |beta_i|^{2/D_i}   s.t.   -log sum_n e^{-y_n <beta, x_n>} >= ell.

    First rounds of a quadratic programme: a concave cost (D >= 3) is replaced by its tangent, the
    loss by what its multipliers w ask of each margin, ``q_n >= ell - log w_n``. Then Newton's
    method on the KKT equations, a coordinate that the programmes leave at 0 held there. For D >= 3
    the answer is a local minimum, the one reached from ``beta_i = ell``. ``gap`` is the last
    Newton step, relative.

    Raises:
        ValueError: unless ``ell >= 1`` and the depths fit the data.
        SolverError: if the data are not separable, or Newton's method does not end.

    >>> import torch
    >>> data = Data(torch.eye(2).double(), torch.ones(2).double())
    >>> path_point(data, [1, 1], 100.0).x.round(6).tolist()     # 100 + log 2
    [100.693147, 100.693147]
    """
    A, length = _rows(data)
    depths, speeds = _priced(depths, speeds, A.shape[1], ell)
    squared, deep = depths == 1, np.eye(len(depths))[depths > 1]
    size = np.eye(len(deep))
    bounds = np.block([[deep, -size], [-deep, -size]])  # |b_i| <= t_i
    costs = speeds * (ell / length) ** (2 / depths)  # of b = 1
    b, needed, moved = np.ones(len(depths)), np.ones(len(A)), np.inf  # b = length beta / ell
    for _ in range(30):
        far = np.maximum(np.abs(b), 1e-12)
        tangent = np.where(squared, 1.0, 2 / depths * far ** (2 / depths - 1))
        price = costs * tangent / (costs @ far ** (2 / depths))
        scale = np.where(squared, np.sqrt(price), 1.0)  # of the unknowns
        rows = np.hstack([-A / scale, np.zeros((len(A), len(deep)))])
        found = _clarabel(
            2.0 * np.diag(np.r_[squared, np.zeros(len(deep))]),
            np.r_[np.zeros(len(depths)), price[~squared]],
            np.vstack([rows, bounds]),
            np.r_[-needed, np.zeros(2 * len(deep))],
            [clarabel.NonnegativeConeT(len(A) + 2 * len(deep))],
        )
        if found.status != clarabel.SolverStatus.Solved:
            raise SolverError(f"Clarabel reports a round as {found.status}: is it separable?")
        first, before, b = np.isinf(moved), b, np.asarray(found.x)[: len(depths)] / scale
        moved = float(np.abs(b - before).max() / np.abs(b).max())
        if moved < 1e-6 and not first:  # the first round knows no multipliers
            break
        w = np.maximum(np.asarray(found.z)[: len(A)], 0)
        w = w / w.sum()
        needed = 1 - np.log(np.where(w > 1e-9, w, 1.0)) / ell
    kept = np.abs(b) > 1e-8 * np.abs(b).max()
    beta = np.zeros(len(depths))
    beta[kept], gap = _settle(
        A[:, kept] * length, depths[kept], ell, speeds[kept], b[kept] * ell / length
    )
    return Solution(beta, float(speeds @ np.abs(beta) ** (2 / depths)), gap)


def _settle(
    A: np.ndarray, depths: np.ndarray, ell: float, speeds: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, float]:
    """Newton for ``d cost = m grad ell``, ``ell(beta) = ell``: (beta, its last relative step)."""
    d, m = len(beta), None
    for _ in range(100):
        q = A @ beta
        w = np.exp(q.min() - q)
        here, w = q.min() - np.log(w.sum()), w / w.sum()
        g = w @ A
        H = np.outer(g, g) - (A.T * w) @ A
        price = speeds * 2 / depths * np.sign(beta) * np.abs(beta) ** (2 / depths - 1)
        m = (price @ g) / (g @ g) if m is None else m
        J = np.zeros((d + 1, d + 1))
        J[:d, :d] = np.diag((2 / depths - 1) * price / beta) - m * H
        J[:d, d], J[d, :d] = -g, g
        try:
            step = np.linalg.solve(J, np.r_[m * g - price, ell - here])
        except np.linalg.LinAlgError:
            break
        # beyond one or two nats the softmax of the margins is another one
        nats, share = np.abs(A @ step[:d]).max(), float(np.abs(step[:d] / beta).max())
        if not np.isfinite(nats):
            break
        taken = min(1.0, 2 / nats, 0.5 / share)
        beta, m = beta + taken * step[:d], m + taken * step[d]
        if taken == 1.0 and nats < 1e-6:
            return beta, share
    raise SolverError(f"Newton's method did not settle at ell = {ell:g}")


def ball_path_point(
    mu: np.ndarray,
    radius: float,
    depths: Sequence[int],
    ell: float,
    speeds: float | Sequence[float] = 1.0,
) -> Solution:
    """The same path on balls: labels ±1 on the spheres of this radius around ±mu in R^3.

    Their mean loss is elementary, see :func:`ball_loss`. Newton's method on the KKT equations in
    log beta. A coordinate with D >= 2 can be zero on the path: of the points without the
    shallowest 0, 1, ... of them the one of least cost is taken. ``gap`` is the last Newton step.

    Raises:
        ValueError: unless mu is positive, ``0 < radius < |mu|``, ``ell >= 1`` and the depths fit.
        SolverError: if Newton's method ends nowhere.

    >>> found = ball_path_point(np.array([0.8, 0.6]), 0.7, [1, 2], 1e4)
    >>> round(float(found.x @ [0.8, 0.6] / np.linalg.norm(found.x)) - 0.7, 4)    # limit: 0.2263
    0.2263
    """
    mu = np.asarray(mu, float)
    depths, speeds = _priced(depths, speeds, len(mu), ell)
    if not (mu > 0).all() or not 0 < radius < np.linalg.norm(mu):
        raise ValueError(
            f"mu must be positive and longer than the radius {radius}, got {mu.tolist()}"
        )
    order = np.argsort(depths, kind="stable")
    shallow, deep = order[depths[order] == 1], order[depths[order] > 1]
    best = None
    for start in (1.0, 10.0):
        for zeros in range(max(1, len(deep))):
            kept = np.sort(np.r_[shallow, deep[zeros:]])
            found = _stationary(start, mu[kept], radius, depths[kept], ell, speeds[kept])
            if found is None:
                continue
            beta = np.zeros(len(mu))
            beta[kept] = found[0]
            value = float(speeds @ beta ** (2 / depths))
            if best is None or value < best.value:
                best = Solution(beta, value, found[1])
        if best is not None:
            return best
    raise SolverError(f"Newton's method found no point at radius {radius:g}, ell = {ell:g}")


def ball_loss(
    beta: np.ndarray, mu: np.ndarray, radius: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """``log(1/L)`` on the sphere of this radius around mu, its gradient and its Hessian in beta.

    ``<beta, mu> - log(sinh(x) / x)`` with ``x = radius |beta|``: on a sphere of R^3 a component
    is uniform.

    >>> round(ball_loss(np.array([3.0, 4.0]), np.array([0.6, 0.8]), 0.1)[0], 6)
    4.958675
    """
    size = np.linalg.norm(beta)
    x, unit = radius * size, beta / size
    damped = np.exp(-2 * x)
    slope = (1 + damped) / (1 - damped) - 1 / x
    bend = 1 / x**2 - 4 * damped / (1 - damped) ** 2
    ell = beta @ mu - (x + np.log1p(-damped) - np.log(2 * x))
    along = np.outer(unit, unit)
    across = (np.eye(len(beta)) - along) * radius * slope / size
    return float(ell), mu - radius * slope * unit, -across - radius**2 * bend * along


def _priced(depths, speeds, d: int, ell: float) -> tuple[np.ndarray, np.ndarray]:
    """Checked depths, and one positive speed for each coordinate."""
    depths, speeds = np.asarray(depths), np.asarray(speeds, float) * np.ones(d)
    if depths.shape != (d,) or (depths < 1).any() or not (speeds > 0).all():
        raise ValueError(
            f"give {d} depths >= 1 and positive speeds, got {depths.tolist()}, {speeds.tolist()}"
        )
    if not ell >= 1:
        raise ValueError(f"the path begins at log(1/L) = 1, got {ell}")
    return depths, speeds


def _stationary(
    start: float,
    mu: np.ndarray,
    radius: float,
    depths: np.ndarray,
    ell: float,
    speeds: np.ndarray,
) -> tuple[np.ndarray, float] | None:
    """Newton for ``speeds (2/D) beta^{2/D - 1} = m grad ell``, ``ell(beta) = ell``, in logarithms.

    None where a coordinate vanishes, or nothing is found.
    """
    z = np.r_[np.log(start * ell * mu), 0.0]
    for _ in range(60):
        beta, m = np.exp(z[:-1]), np.exp(z[-1])
        here, g, H = ball_loss(beta, mu, radius)
        price = speeds * 2 / depths * beta ** (2 / depths - 1)
        J = np.diag(np.r_[price * (2 / depths - 1), 0.0])
        J[:-1, :-1] -= m * H * beta
        J[:-1, -1], J[-1, :-1] = -m * g, g * beta / ell
        try:
            step = np.linalg.solve(J, np.r_[m * g - price, 1 - here / ell])
        except np.linalg.LinAlgError:
            return None
        length = float(np.abs(step).max())
        if length < 1e-9:
            return beta, length
        z = z + step * min(1.0, 1.0 / length)
        if not np.abs(z).max() < 100 or z[:-1].min() < z[:-1].max() - 35:
            return None
    return None


def _rows(data: Data) -> tuple[np.ndarray, float]:  # (n, d)
    """Rows ``y_i x_i`` over the longest of them, and its length: solvers' tolerances are
    absolute."""
    if data.X.ndim != 2 or not data.y.is_floating_point():
        raise ValueError("reference solutions take one data set X (n, d) with labels ±1")
    A = (data.X * data.y[:, None]).detach().cpu().numpy()
    scale = np.linalg.norm(A, axis=1).max()
    return A / scale, float(scale)


def _least_block(
    rows: np.ndarray,  # (r, d)
    bound: np.ndarray,  # (r,)
    cone: object,
    margin: Callable[[np.ndarray], float],
    depths: Sequence[int],
    scale: float,
) -> Solution:
    """``min sum_top |beta|^{2/D}`` where ``bound - rows beta`` lies in the cone; answers over
    ``scale``.

    What is minimised is the sum of lengths t of groups of coordinates (one group for D = 1), each
    in a second-order cone with its group: as a quadratic programme, one ball in seven ended short
    of 1e-8.
    """
    d = rows.shape[1]
    depths = _priced(depths, 1.0, d, 1.0)[0]
    depth = int(depths.min())
    top = np.flatnonzero(depths == depth)
    if depth > 2 and len(top) > 1:
        raise ValueError("several top-rate coordinates of depth >= 3: the problem is not convex")
    groups = [top] if depth == 1 else list(top[:, None])
    unit = -np.eye(d + len(groups))
    lengths = [unit[[d + j, *group]] for j, group in enumerate(groups)]  # (t, beta of the group)
    A = np.vstack([np.pad(rows, ((0, 0), (0, len(groups)))), *lengths])
    b = np.r_[bound, np.zeros(len(A) - len(bound))]
    cost = np.r_[np.zeros(d), np.ones(len(groups))]
    cones = [cone, *(clarabel.SecondOrderConeT(len(rows)) for rows in lengths)]
    found = _clarabel(np.zeros((len(cost), len(cost))), cost, A, b, cones)
    if found.status != clarabel.SolverStatus.Solved:
        raise SolverError(f"Clarabel reports the problem as {found.status}: is it separable?")
    beta = np.asarray(found.x)[:d]
    beta = beta / margin(beta)  # feasible to rounding
    value = sum(float(np.linalg.norm(beta[group])) for group in groups)
    if value < 1e-6:
        raise SolverError("separable without the top-rate block: its least norm is zero")
    value, dual = (v ** (2 / depth) for v in (value, float(-b @ np.asarray(found.z))))
    return Solution(beta / scale, value / scale ** (2 / depth), abs(value - dual) / value)


def _clarabel(P, q, A, b, cones, accuracies=(1e-11, 1e-9, 1e-8), **settings):
    """Clarabel on ``min x^T P x / 2 + q^T x`` with ``b - A x`` in the cones.

    Asked for 1e-11 it sometimes stops one digit short and says so: then it is asked again for
    less. What was reached shows in the gap that a :class:`Solution` carries.
    """
    for accuracy in accuracies:
        chosen = clarabel.DefaultSettings()
        tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), accuracy)
        for name, value in {"verbose": False, **tolerances, **settings}.items():
            setattr(chosen, name, value)
        upper = sparse.csc_matrix(np.triu(P))
        found = clarabel.DefaultSolver(upper, q, sparse.csc_matrix(A), b, cones, chosen).solve()
        if str(found.status) in ("Solved", "PrimalInfeasible", "DualInfeasible"):
            break
    return found


def nested_qp(
    gram: np.ndarray,  # (k + K, k + K), positive semidefinite
    linear: np.ndarray,  # (k + K,)
    k: int,
    sample: np.ndarray,  # (K,) index into mu
) -> np.ndarray:  # (k + K,)
    """``min 1/2 x^T gram x - linear^T x`` over nested (mu, nu): x, made exactly feasible.

    A solver's status is no certificate: the caller computes a residual of whatever comes back.

    >>> nested_qp(np.eye(2), np.array([1.0, 3.0]), 1, np.array([0])).round(6).tolist()
    [2.0, 2.0]
    """
    size, K = len(linear), len(sample)
    index, values = np.arange(K), np.r_[-np.ones(size), np.ones(K), -np.ones(K)]
    places = np.r_[:size, size + index, size + index], np.r_[:size, k + index, sample]
    bounds = sparse.csc_matrix((values, places), shape=(size + K, size))
    # Gram matrices are well scaled as they are; with equilibration Clarabel gave up on some
    settings = {"equilibrate_enable": False, "iterative_refinement_max_iter": 50}
    cones = [clarabel.NonnegativeConeT(size + K)]
    out = _clarabel(gram, -linear, bounds, np.zeros(size + K), cones, (1e-11,), **settings)
    x = np.nan_to_num(np.asarray(out.x))
    mu = np.maximum(x[:k], 0)
    return np.r_[mu, np.clip(x[k:], 0, mu[sample])]
