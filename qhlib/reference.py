"""Limits computed without any flow, by convex solvers: what the flow is compared with.

Conventions. Predictors are linear in their coefficients, ``q_i = y_i <beta, x_i>`` with labels ±1, no bias.
NumPy arrays, float64, one data set at a time. Every answer carries a relative duality gap that is computed
here from the primal and dual points; a solver that does not report an optimal solution raises
:class:`SolverError`, so that an inaccurate answer is never used unseen. (scikit-learn's ``SVC`` fits an
intercept: another problem.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import clarabel
import numpy as np
from scipy import sparse
from scipy.optimize import linprog, nnls

from qhlib.data import Data


class SolverError(RuntimeError):
    """A library solver reported no optimal solution: infeasible (not separable), unbounded or inaccurate."""


@dataclass(frozen=True)
class Solution:
    """Answer of a convex problem.

    Attributes:
        x: the solution, (d,).
        value: the optimal value, as the function that returned it defines it.
        gap: relative duality gap, computed from the points.
        status: the solver's word for its success.
    """

    x: np.ndarray
    value: float
    gap: float
    status: str


def _rows(data: Data) -> np.ndarray:  # (n, d)
    """Rows ``y_i x_i``."""
    if data.X.ndim != 2 or not data.y.is_floating_point():
        raise ValueError("reference solutions take one data set X (n, d) with labels ±1")
    return (data.X * data.y[:, None]).detach().cpu().numpy()


def hard_margin(data: Data) -> Solution:
    """The largest Euclidean margin ``max_{|w| = 1} min_i y_i <w, x_i>``: x = w (unit), value = the margin.

    By non-negative least squares on the dual (by the quadratic programme where SciPy's NNLS stops short of
    the optimum, which the gap tells), the point of least norm in the convex hull of the ``y_i x_i``: ``min_{u
    >= 0} |A^T u|^2 + (1^T u - 1)^2`` has the same minimiser up to scale. Any hull point bounds the margin
    from above, which gives the gap.

    Raises:
        SolverError: if the data are not separable through the origin.

    >>> import torch
    >>> data = Data(torch.tensor([[1.0, 0.0], [0.0, -1.0]]).double(), torch.tensor([1.0, -1.0]).double())
    >>> round(hard_margin(data).value, 9)
    0.707106781
    """
    A = _rows(data)
    scale = np.linalg.norm(A, axis=1).max()
    A = A / scale
    try:
        u, _ = nnls(np.vstack([A.T, np.ones(len(A))]), np.r_[np.zeros(A.shape[1]), 1.0], maxiter=100 * len(A))
    except RuntimeError as error:
        raise SolverError(f"NNLS did not end: {error}") from error
    hull = A.T @ u / max(u.sum(), 1e-300)
    bound = np.linalg.norm(hull)
    w = hull / bound if bound > 0 else hull
    margin = (A @ w).min()
    if bound - margin > 1e-8 * bound:
        return hard_margin_qp(data)  # raises if the data are not separable
    return Solution(w, float(margin * scale), float((bound - margin) / bound), "optimal")


def hard_margin_qp(data: Data) -> Solution:
    """The same margin as a quadratic programme, ``min |w|^2 s.t. q_i >= 1``, by Clarabel: a second route.

    >>> import torch
    >>> data = Data(torch.tensor([[1.0, 0.0], [0.0, -1.0]]).double(), torch.tensor([1.0, -1.0]).double())
    >>> round(hard_margin_qp(data).value, 9)
    0.707106781
    """
    found = block_norm(data, np.ones(data.X.shape[1], int))
    size = float(np.linalg.norm(found.x))
    return Solution(found.x / size, 1 / size, found.gap, found.status)


def l1_margin(data: Data) -> Solution:
    """``max min_i q_i over |beta|_1 <= 1``: x = beta, value = the margin. A linear programme (SciPy's HiGHS).

    >>> import torch
    >>> data = Data(torch.tensor([[1.0, 0.0], [0.0, -2.0]]).double(), torch.tensor([1.0, -1.0]).double())
    >>> round(l1_margin(data).value, 9)
    0.666666667
    """
    found = block_norm(data, np.full(data.X.shape[1], 2))
    return Solution(found.x / found.value, float(1 / found.value), found.gap, found.status)


def block_norm(data: Data, depths: Sequence[int]) -> Solution:
    """Limit of the diagonal network ``f = sum_i (prod_{k <= D_i} theta_ik) x_i``: x = beta, value = the least
    cost.

        min  sum_{i: D_i = D} |beta_i|^{2/D}   s.t.   y_n <beta, x_n> >= 1,     D = min_i D_i,

    the other coordinates free: with balanced factors this is (P) of :mod:`qhlib.limits`, whose top-rate block
    are the shallowest coordinates (rate 1/D). A quadratic programme for D = 1, a linear one for D = 2; deeper
    it is convex only when the block is one coordinate (then ``|beta_i|`` itself is minimised). Where the
    minimiser is not unique in the free coordinates, any one is returned.

    Raises:
        ValueError: for depths that do not fit the data, or D >= 3 with several coordinates (not convex).
        SolverError: if the data are not separable, or separable without the top-rate block (the value would
        be 0).

    >>> import torch
    >>> data = Data(torch.tensor([[1.0, 2.0], [-1.0, 2.0]]).double(), torch.tensor([1.0, -1.0]).double())
    >>> round(block_norm(data, [1, 2]).value, 6)
    1.0
    """
    A, depths = _rows(data), np.asarray(depths)
    top, power = _top_block(depths, A.shape[1])
    # solvers' tolerances are absolute: give them rows of length about one, and scale the answer back
    scale = np.linalg.norm(A, axis=1).max()
    found = _least_l1(A / scale, top, int(depths.min())) if power == 1 else _least_squares(A / scale, top)
    return Solution(
        found.x / scale, float(found.value / scale ** (2 / depths.min())), found.gap, found.status
    )


def _least_squares(A: np.ndarray, top: np.ndarray) -> Solution:
    """``min sum_top beta^2`` as a quadratic programme, for rows of length at most one."""
    beta, u, status = _solve(2.0 * np.diag(top), np.zeros(A.shape[1]), -A, -np.ones(len(A)))
    x = beta / min((A @ beta).min(), 1.0)  # feasible to rounding
    value = float((x[top] ** 2).sum())
    if value < 1e-10:
        raise SolverError("the data are separable without the top-rate block: its least norm is zero")
    # dual of min |b|^2: sum u - |A_top^T u|^2 / 4, for u >= 0 with A_low^T u = 0
    u = np.maximum(u, 0)
    dual = u.sum() - (A[:, top].T @ u) @ (A[:, top].T @ u) / 4 - np.abs(A[:, ~top].T @ u) @ np.abs(x[~top])
    return Solution(x, value, float(abs(value - dual) / value), status)


def ball_norm(mu: np.ndarray, radius: float, depths: Sequence[int]) -> Solution:
    """The same problem on two balls: labels ±1 on ``B(±mu, radius)``, i.e. ``<beta, mu> - radius |beta| >=
    1``.

    A second-order cone programme (Clarabel). The objective is flat in the free coordinates near the
    optimum: expect the top block to about 1e-8 and the free one to about its root.

    Raises:
        ValueError: as :func:`block_norm`, or if the radius is not positive.
        SolverError: if ``radius >= |mu|`` (not separable), or the block is not needed.

    >>> found = ball_norm(np.array([0.8, 0.6]), 0.7, [1, 2])
    >>> round(found.value**-0.5, 5)     # A - sqrt(r^2 - m^2) with A = 0.8, m = 0.6
    0.43944
    """
    mu, depths = np.asarray(mu, float), np.asarray(depths)
    if not radius > 0:
        raise ValueError(f"the radius must be positive, got {radius}")
    top, power = _top_block(depths, len(mu))
    # unknowns beta and, for a cost |beta_top|_1, its bounds t: (mu beta - 1, radius beta) in the cone, |beta_top| <= t
    d, blocks = len(mu), np.eye(len(mu))[top] if power == 1 else np.zeros((0, len(mu)))
    k = len(blocks)
    robust = np.hstack([-np.vstack([mu, radius * np.eye(d)]), np.zeros((d + 1, k))])
    bounds = np.block([[blocks, -np.eye(k)], [-blocks, -np.eye(k)]])
    found, prices, status = _solve(
        2.0 * np.diag(np.r_[top * (power == 2), np.zeros(k)]),
        np.r_[np.zeros(d), np.ones(k)],
        np.vstack([robust, bounds]),
        np.r_[-1.0, np.zeros(d + 2 * k)],
        ball=d + 1,
    )
    beta = found[:d]
    x = beta / (mu @ beta - radius * np.linalg.norm(beta))
    value = float(np.abs(x[top]).sum() if power == 1 else (x[top] ** 2).sum())
    if value < 1e-8 / (mu @ mu):
        raise SolverError("the balls are separable without the top-rate block: its least norm is zero")
    # for a homogeneous constraint of degree 1 and multiplier u, the optimal value is u (cost 1) or u / 2
    # (squares)
    dual = float(prices[0]) / (1 if power == 1 else 2)
    if power == 1 and depths.min() > 2:
        value, dual = value ** (2 / depths.min()), dual ** (2 / depths.min())
    return Solution(x, value, float(abs(value - dual) / value), status)


def cascade(data: Data, depths: Sequence[int]) -> tuple[Solution, list[int]]:
    """Lexicographic minimisation by decreasing rate: blocks that separation does not need are set to zero.

    Returns the solution of the first block that is needed, and the depths of those discarded before it.

    Source: the cascading-minimisation conjecture of Kunin et al. (2023), as we recall it.

    Raises:
        SolverError: if the data are not separable.

    >>> import torch
    >>> data = Data(torch.tensor([[1.0, 2.0], [-3.0, -2.0]]).double(), torch.tensor([1.0, -1.0]).double())
    >>> cascade(data, [1, 2])[1]
    [1]
    """
    A, depths = _rows(data), np.asarray(depths)
    discarded, kept = [], np.ones(A.shape[1], bool)
    for depth in np.unique(depths):
        below = kept & (depths > depth)
        # needed unless the deeper coordinates separate the data alone, which a linear programme tells
        needed = not below.any()
        if not needed:
            free = np.zeros(int(below.sum()))
            alone = linprog(
                free, A_ub=-A[:, below], b_ub=-np.ones(len(A)), bounds=(None, None), method="highs"
            )
            if alone.status not in (0, 2):
                raise SolverError(f"the linear programme ended with: {alone.message}")
            needed = alone.status == 2
        if needed:
            found = block_norm(Data(data.X[:, np.flatnonzero(kept)], data.y), depths[kept])
            x = np.zeros(A.shape[1])
            x[kept] = found.x
            return Solution(x, found.value, found.gap, found.status), discarded
        discarded.append(int(depth))
        kept = below
    raise SolverError("the data are not separable by a hyperplane through the origin")


def _top_block(depths: np.ndarray, d: int) -> tuple[np.ndarray, int]:
    """Mask of the shallowest coordinates, and the power of |beta| that is minimised there (1 or 2)."""
    if depths.shape != (d,) or (depths < 1).any():
        raise ValueError(f"give a depth >= 1 for each of the {d} coordinates, got {depths.tolist()}")
    top = depths == depths.min()
    if depths.min() == 1:
        return top, 2
    if depths.min() > 2 and top.sum() > 1:
        raise ValueError(
            "for a top-rate block of depth >= 3 with several coordinates the problem is not convex"
        )
    return top, 1


def _least_l1(A: np.ndarray, top: np.ndarray, depth: int) -> Solution:
    """``min sum_top |beta|`` as a linear programme in beta = plus - minus; value as block_norm defines it."""
    cost = np.tile(top.astype(float), 2)
    out = linprog(cost, A_ub=np.hstack([-A, A]), b_ub=-np.ones(len(A)), bounds=(0, None), method="highs")
    if out.status != 0:
        raise SolverError(f"the linear programme ended with: {out.message}")
    d = A.shape[1]
    x = out.x[:d] - out.x[d:]
    x = x / min((A @ x).min(), 1.0)
    value = float(np.abs(x[top]).sum())
    if value < 1e-5:
        raise SolverError("the data are separable without the top-rate block: its least norm is zero")
    dual = -out.ineqlin.marginals.sum()
    gap = float(abs(value - dual) / value)
    return Solution(x, value ** (2 / depth), gap, "optimal")


def _solve(
    P: np.ndarray,  # (p, p)
    q: np.ndarray,  # (p,)
    A: np.ndarray,  # (rows, p)
    b: np.ndarray,  # (rows,)
    ball: int = 0,
) -> tuple[np.ndarray, np.ndarray, str]:
    """``min x^T P x / 2 + q^T x s.t. b - A x >= 0``, its first ``ball`` rows in a second-order cone instead.

    Returns x, the multipliers and the solver's word. Anything but an optimal status raises. Asked for 1e-11, Clarabel
    sometimes stops one digit short and says so: then it is asked again for 1e-9 and for its own default, 1e-8. What
    was reached shows in the gap that every :class:`Solution` carries.
    """
    cones = [clarabel.SecondOrderConeT(ball)] if ball else []
    if len(b) > ball:
        cones.append(clarabel.NonnegativeConeT(len(b) - ball))
    for accuracy in (1e-11, 1e-9, 1e-8):
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = accuracy
        problem = clarabel.DefaultSolver(
            sparse.csc_matrix(np.triu(P)), q, sparse.csc_matrix(A), b, cones, settings
        )
        found = problem.solve()
        if found.status not in (
            clarabel.SolverStatus.AlmostSolved,
            clarabel.SolverStatus.InsufficientProgress,
        ):
            break
    if found.status != clarabel.SolverStatus.Solved:
        raise SolverError(f"Clarabel reports the problem as {found.status}")
    return np.asarray(found.x), np.asarray(found.z), "optimal"
