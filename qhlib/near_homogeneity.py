"""Nearly homogeneous networks: what a smooth activation, a bias or a skip path costs, in
polynomials of the norm.

Conventions. A model f is *near-M-homogeneous* when ``|<grad f, theta> - M f| <= p'(|theta|)`` with
a polynomial p' of degree at most M - 1 and non-negative coefficients. Its *homogenisation* ``f_H =
lim f(r theta) / r^M`` then satisfies ``|f - f_H| <= p_a(|theta|)``, and the *modified margin*
``(log(1/L) - p_a(rho)) / rho^M``, ``rho = |theta|``, rises along gradient flow once it is
positive. Polynomials are sequences of coefficients, lowest power first. A model ``f(params, X,
phi)`` takes its activation as last argument, so that its homogenisation is the same function with
``torch.relu``. float64; S seeds in the leading axis.

Source: Cai et al. (2025). Their Definition 1 as we know it from a tutorial, p_a and the modified
margin derived here (proofs in the chapter ``nonhomogeneous_gd``).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import gelu, silu, softplus

from qhlib.data import Data
from qhlib.margins import KinkFinder, Kinks, Model, batched_gradients
from qhlib.params import Params

Activation = Callable[[Tensor], Tensor]


def mish(z: Tensor) -> Tensor:
    """``z tanh(log(1 + e^z))``. torch's own ``mish`` has NaN second derivatives from z = 710 on,
    which a Hessian meets.

    >>> round(mish(torch.tensor(1.0, dtype=torch.float64)).item(), 6)
    0.865098
    """
    return z * torch.tanh(softplus(z))


ACTIVATIONS = {"GELU": gelu, "SiLU": silu, "softplus": softplus, "Mish": mish}
"""Smooth activations whose homogenisation is the ReLU."""


class Order(NamedTuple):
    """Order M of a block in its parameters and N in its input, and the calculus of blocks.

    Source: derived here by the chain rule; that there is such a calculus is as the tutorial tells.

    >>> dense, activation = Order(1, 1), Order(0, 1)
    >>> dense.after(activation).after(dense)
    Order(parameters=2, inputs=1)
    """

    parameters: int
    inputs: int

    def after(self, inner: "Order") -> "Order":
        """Order of ``self(inner(x))``: parameters ``M + N M_inner``, inputs ``N N_inner``."""
        return Order(self.parameters + self.inputs * inner.parameters, self.inputs * inner.inputs)

    def times(self, other: "Order") -> "Order":
        """Order of a product of blocks: orders add."""
        return Order(self.parameters + other.parameters, self.inputs + other.inputs)

    def plus(self, other: "Order") -> "Order":
        """Order of a sum: the larger one in the parameters; the other term joins the defect."""
        return max(self, other)


class ActivationConstants(NamedTuple):
    """What the bounds need to know of an activation.

    ``kappa = sup |z phi'(z) - phi(z)|``, which bounds ``|phi - relu|`` too; the smallest value
    ``floor`` of phi; and the range ``slopes = (inf phi', sup phi')``.
    """

    kappa: float
    floor: float
    slopes: tuple[float, float]


def derivative(phi: Activation, z: Tensor) -> Tensor:
    """``phi'(z)``, entry by entry, by automatic differentiation.

    >>> round(derivative(gelu, torch.zeros(1, dtype=torch.float64)).item(), 12)
    0.5
    """
    leaf = z.detach().requires_grad_()
    return torch.autograd.grad(phi(leaf).sum(), leaf)[0]


def activation_defect(phi: Activation, z: Tensor) -> Tensor:
    """``z phi'(z) - phi(z)``: by how much phi misses being homogeneous of degree one at z.

    >>> activation_defect(torch.relu, torch.tensor([-2.0, 3.0])).tolist()
    [0.0, 0.0]
    """
    return z * derivative(phi, z) - phi(z)


def activation_constants(phi: Activation, reach: float = 40.0) -> ActivationConstants:
    """The suprema of :class:`ActivationConstants` over ``|z| <= reach``: a grid, then a bounded
    search around its best point.

    >>> round(activation_constants(gelu).kappa, 9)      # 2 / (e sqrt(2 pi)), at sqrt 2
    0.293525326
    """
    grid = torch.linspace(-reach, reach, 8001, dtype=torch.float64)
    width = 2 * (grid[1] - grid[0]).item()

    def best(f: Activation) -> float:
        def minus(z: float) -> float:
            return -f(torch.tensor([z], dtype=torch.float64)).item()

        start = grid[f(grid).argmax()].item()
        around, options = (start - width, start + width), {"xatol": 1e-12}
        found = minimize_scalar(minus, bounds=around, method="bounded", options=options)
        return max(-float(found.fun), -minus(start))

    kappa = best(lambda z: activation_defect(phi, z).abs())
    low, high = -best(lambda z: -derivative(phi, z)), best(lambda z: derivative(phi, z))
    return ActivationConstants(kappa, -best(lambda z: -phi(z)), (low, high))


def degree_defect(model: Model, params: Params, X: Tensor, degree: int) -> Tensor:  # (S, n)
    """``<grad f, theta> - M f`` for every seed and input: zero exactly where f is M-homogeneous
    along the ray.

    >>> square = lambda p, X: p["w"] ** 2 @ X.T + 1.0
    >>> degree_defect(square, {"w": torch.ones(1, 1)}, torch.ones(1, 1), 2).item()
    -2.0
    """
    f, along = torch.func.jvp(lambda p: model(p, X), (params,), (params,))
    return along - degree * f


def polynomial(coefficients: Sequence[float], rho: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """``sum_i c_i rho^i``, lowest power first.

    >>> polynomial([1.0, 2.0], np.array([3.0])).tolist()
    [7.0]
    """
    total = 0 * rho
    for c in reversed(coefficients):
        total = total * rho + c
    return total


def homogenization_bound(defect: Sequence[float], degree: int) -> list[float]:
    """Coefficients of p_a from those of p': ``c_i / (M - i)``, so that ``|f - f_H| <=
    p_a(|theta|)``.

    It is the polynomial with ``rho p_a' = M p_a - p'``. Source: derived here.

    Raises:
        ValueError: if p' has degree M or more: then f need not have a homogenisation of order M.

    >>> homogenization_bound([0.0, 0.0, 3.0], 4)
    [0.0, 0.0, 1.5]
    """
    if len(defect) > degree:
        raise ValueError(f"p' has degree {len(defect) - 1}, and needs at most {degree - 1}")
    return [c / (degree - i) for i, c in enumerate(defect)]


def modified_margin(ell: Tensor, rho: Tensor, defect: Sequence[float], degree: int) -> Tensor:
    """``(log(1/L) - p_a(rho)) / rho^M``, with L the **sum** of the exponentials. Source: derived
    here.

    >>> modified_margin(torch.tensor(10.0), torch.tensor(2.0), [0.0, 1.0], 2).item()
    2.0
    """
    return (ell - polynomial(homogenization_bound(defect, degree), rho)) / rho**degree


def activation_kinks(
    model: Callable[[Params, Tensor, Activation], Tensor],
    data: Data,
    near: float,
    slopes: tuple[float, float] = (0.0, 1.0),
) -> KinkFinder:
    """Kinks of the homogenised network at the pre-activations ``|z| <= near``, for
    ``qhlib.limits.kkt_residual``.

    At each of them the slope of the activation may be anything in ``slopes``: (0, 1) is Clarke's
    subdifferential of the ReLU, the range of phi' a larger set. Each kink gives two generators,
    one towards either end. For one layer of activations; near is measured on the parameters that
    the finder is given, at unit margin.

    Raises:
        ValueError: (from the finder) if the model applies its activation more than once.

    >>> data = Data(torch.tensor([[1.0]]).double(), torch.ones(1).double())
    >>> unit = lambda p, X, phi: (p["a"] * phi(p["W"] @ X.T).mT).sum(-1)
    >>> at = {"W": torch.zeros(1, 1, 1).double(), "a": torch.full((1, 1, 1), 2.0).double()}
    >>> activation_kinks(unit, data, 0.1)(at, torch.zeros(1, 1, 2))[0].direction.tolist()
    [[0.0, 0.0], [2.0, 0.0]]
    """

    def finder(params: Params, J: Tensor) -> list[Kinks]:
        found = []
        for s in range(len(J)):
            leaves = {name: t[s : s + 1].detach().requires_grad_() for name, t in params.items()}
            X, seen = data.X[s] if data.X.ndim == 3 else data.X, []
            model(leaves, X, lambda z, seen=seen: seen.append(z) or torch.relu(z))
            if len(seen) != 1:
                raise ValueError(
                    f"kinks need one layer of activations; this model has {len(seen)}"
                )
            taken = (seen[0] > 0).to(J).requires_grad_()  # the slope of each unit, (1, n, m)
            i, j = (seen[0][0].abs() <= near).nonzero(as_tuple=True)
            if not len(i):
                found.append(Kinks(np.zeros(0, int), np.zeros((0, J.shape[2]))))
                continue
            # f is affine in each slope: its derivative is the gradient of one more unit of slope
            scores = model(leaves, X, taken.mul)
            (by_slope,) = torch.autograd.grad(scores.sum(), taken, create_graph=True)
            rows = batched_gradients(by_slope[0, i, j], leaves)[:, 0]  # (K, p)
            room = (torch.tensor(slopes).to(J) - taken.detach()[0, i, j, None]) * data.y[i, None]
            direction = (room[:, :, None] * rows[:, None]).flatten(0, 1)
            sample = i.repeat_interleave(2)
            found.append(Kinks(sample.cpu().numpy(), direction.cpu().numpy()))
        return found

    return finder
