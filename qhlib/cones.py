"""The small quadratic programme behind every Clarke subdifferential: multipliers with nested shares.

Conventions. Unknowns ``x = (mu, nu)``, mu (k,) and nu (K,), with ``mu >= 0`` and ``0 <= nu_j <=
mu_{sample_j}``: the gradient of a margin with kinks is ``mu_i (grad q_i + sum_j s_j direction_j)`` with
shares ``s_j = nu_j / mu_i`` in [0, 1]. NumPy arrays, float64.
"""

import clarabel
import numpy as np
from scipy import sparse


def nested_qp(
    gram: np.ndarray,  # (k + K, k + K), positive semidefinite
    linear: np.ndarray,  # (k + K,)
    k: int,
    sample: np.ndarray,  # (K,) index into mu
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """``min 1/2 x^T gram x - linear^T x`` over nested (mu, nu), by Clarabel.

    Returns:
        x, made exactly feasible; which unknowns are held at zero (k + K,); which nu are held at their mu
        (K,); and whether Clarabel reports the problem as solved.

    >>> x, zero, full, solved = nested_qp(np.eye(2), np.array([1.0, 3.0]), 1, np.array([0]))
    >>> x.round(6).tolist(), full.tolist(), solved
    ([2.0, 2.0], [True], True)
    """
    size, K = len(linear), len(sample)
    pick = sparse.csc_matrix((np.ones(K), (np.arange(K), sample)), shape=(K, k))
    bounds = sparse.vstack([-sparse.eye(size), sparse.hstack([-pick, sparse.eye(K)])], format="csc")
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    # Gram matrices are well scaled as they are; with equilibration Clarabel gave up on some ("insufficient
    # progress")
    settings.equilibrate_enable = False
    settings.iterative_refinement_max_iter = 50
    cones = [clarabel.NonnegativeConeT(size + K)]
    upper = sparse.csc_matrix(np.triu(gram))
    out = clarabel.DefaultSolver(upper, -linear, bounds, np.zeros(size + K), cones, settings).solve()
    x, slack, price = (np.nan_to_num(np.asarray(v)) for v in (out.x, out.s, out.z))
    held = price > slack
    zero = held[:size].copy()
    zero[k:] |= zero[:k][sample]
    mu = np.maximum(x[:k], 0)
    x = np.r_[mu, np.clip(x[k:], 0, mu[sample])]
    return x, zero, held[size:] & ~zero[k:], out.status == clarabel.SolverStatus.Solved


def free_basis(zero: np.ndarray, full: np.ndarray, k: int, sample: np.ndarray) -> np.ndarray:  # (k + K, free)
    """Columns that span the face: unknowns off their bounds; a nu held at its mu moves with it.

    >>> free_basis(np.array([False, False]), np.array([True]), 1, np.array([0])).tolist()
    [[1.0], [1.0]]
    """
    live = ~zero
    live[k:] &= ~full
    basis = np.zeros((len(zero), int(live.sum())))
    basis[np.flatnonzero(live), np.arange(basis.shape[1])] = 1
    basis[k + np.flatnonzero(full)] = basis[sample[full]]
    return basis
