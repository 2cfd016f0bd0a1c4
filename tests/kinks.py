"""Clarke generators of two-layer (leaky) ReLU networks, for tests of KKT residuals at kinks.

Conventions: ``f(x) = sum_j a_j sigma(<w_j, x>)`` with ``sigma(z) = max(z, slope z)`` and a fixed
second layer a (m,); ``c_ij = y_i a_j`` and ``z_ij = <w_j, x_i>``. A pair sits on a kink when
``z_ij = 0``; there its slope is any number in [slope, 1].
"""

import numpy as np
from torch import Tensor

from qhlib.data import Data
from qhlib.margins import KinkFinder, Kinks
from qhlib.params import Params


def leaky_relu_kinks(data: Data, a: Tensor, slope: float, near: float = 1e-9) -> KinkFinder:
    """Clarke generators on the pairs with ``|z_ij| <= near |x_i| max_j |w_j|``.

    The direction of a pair is ``c_ij (xi' - xi) x_i`` in the row of w_j: xi is the slope that
    differentiation took and xi' the other one. xi is read off the Jacobian: at ``z = 1e-17`` the
    order of a sum decides the side, so recomputing z can give the other one.
    """

    def finder(params: Params, J: Tensor) -> list[Kinks]:
        found = []
        for s, W in enumerate(params["W"].detach().cpu().numpy()):
            X = (data.X[s] if data.X.ndim == 3 else data.X).cpu().numpy()
            y, a_ = data.y.cpu().numpy(), a.cpu().numpy()
            lengths = np.linalg.norm(X, axis=1)
            # relative to the longest w_j: a unit that vanishes altogether sits on all its kinks
            close = np.abs(X @ W.T) <= near * lengths[:, None] * np.linalg.norm(W, axis=1).max()
            i, j = np.nonzero(close & (lengths[:, None] > 0) & (a_ != 0))
            own = J[s].cpu().numpy().reshape(len(X), *W.shape)[i, j]  # c_ij xi x_i
            taken = (own * X[i]).sum(1) / (y[i] * a_[j] * lengths[i] ** 2)
            jump, direction = y[i] * a_[j] * (1 + slope - 2 * taken), np.zeros((len(i), *W.shape))
            direction[np.arange(len(i)), j] = jump[:, None] * X[i]
            found.append(Kinks(i, direction.reshape(len(i), W.size)))
        return found

    return finder
