"""The methods that the engine is measured against, each written for speed in NumPy.

Conventions: a problem is a function ``evaluate(theta) -> (ell, g, q)`` on flat arrays, with ``ell
= log(1/L)``, ``g = grad ell = -grad L / L`` and the margins q. A method is a generator that yields
theta after every gradient evaluation of an accepted step; the caller stops it. All share the
closed-form gradients and the reduced inputs.
"""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


def _loss(q: np.ndarray) -> tuple[float, np.ndarray]:
    low = q.min()
    w = np.exp(low - q)
    total = w.sum()
    return low - np.log(total), w / total


def linear(A: np.ndarray) -> Evaluate:
    """Linear model; rows of A are ``y_i x_i``."""

    def evaluate(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        q = A @ theta
        ell, w = _loss(q)
        return ell, w @ A, q

    return evaluate


def two_layer(X: np.ndarray, y: np.ndarray, a: np.ndarray, slope: float) -> Evaluate:
    """Two-layer leaky ReLU network with a fixed second layer; theta is W (m, d), flat."""

    def evaluate(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        z = X @ theta.reshape(len(a), -1).T
        slopes = np.where(z > 0, 1.0, slope)
        q = y * ((slopes * z) @ a)
        ell, w = _loss(q)
        g = ((w * y)[:, None] * slopes * a).T @ X
        return ell, g.ravel(), q

    return evaluate


def gradient_descent(evaluate: Evaluate, theta: np.ndarray, lr: float) -> Iterator[np.ndarray]:
    """``theta -= lr grad L``, constant learning rate."""
    while True:
        ell, g, _ = evaluate(theta)
        theta = theta + lr * np.exp(-ell) * g
        yield theta


def normalised_gd(evaluate: Evaluate, theta: np.ndarray, lr: float) -> Iterator[np.ndarray]:
    """``theta -= lr grad L / |grad L|``."""
    while True:
        _, g, _ = evaluate(theta)
        theta = theta + (lr / np.sqrt(g @ g)) * g
        yield theta


def lyu_li(evaluate: Evaluate, theta: np.ndarray, lr: float = 0.1) -> Iterator[np.ndarray]:
    """Loss-based learning rate of Lyu & Li: ``theta -= (alpha / L) grad L``; alpha grows by
    2^{1/5} after a step that

    lowers the loss, and shrinks by 2^{1/10} until one does (their constants, as we recall them).
    """
    ell, g, _ = evaluate(theta)
    while True:
        trial = theta + lr * g
        ell_new, g_new, _ = evaluate(trial)
        if ell_new > ell:
            theta, ell, g, lr = trial, ell_new, g_new, lr * 2 ** (1 / 5)
        else:
            lr /= 2 ** (1 / 10)
        yield theta


def prgd(
    evaluate: Evaluate, theta: np.ndarray, lr: float, growth: float, steps: int, warm: int = 200
) -> Iterator[np.ndarray]:
    """Progressive rescaling: stretch theta to the norm ``R_k = growth^k R_0``, then ``steps`` of
    normalised-loss gradient

    descent projected on the ball of that radius.
    """
    for _ in range(warm):
        theta = theta + lr * evaluate(theta)[1]
        yield theta
    radius = np.sqrt(theta @ theta)
    while (
        radius < 1e100
    ):  # long before, steps of a fixed length have stopped turning so long a vector
        theta = theta * (radius / np.sqrt(theta @ theta))
        for _ in range(steps):
            theta = theta + lr * evaluate(theta)[1]
            size = np.sqrt(theta @ theta)
            if size > radius:
                theta = theta * (radius / size)
            yield theta
        radius *= growth


def dual_acceleration(A: np.ndarray, theta: np.ndarray, step: float) -> Iterator[np.ndarray]:
    """Ji, Srebro & Telgarsky (2021), for linear models: ``v <- t/(t+1) (v + s)``, ``theta += step
    (v + s)`` with

    ``s = A^T softmax(-A theta)`` and rows scaled to norm at most 1 (as we recall their algorithm).
    """
    A = A / np.linalg.norm(A, axis=1).max()
    v = np.zeros_like(theta)
    for t in itertools.count():
        w = _loss(A @ theta)[1]
        s = w @ A
        v = (t / (t + 1)) * (v + s)
        theta = theta + step * (v + s)
        yield theta


def race(
    method: Iterator[np.ndarray],
    good: Callable[[np.ndarray], bool],
    *,
    seconds: float,
    growth: float = 1.05,
) -> tuple[float, int, np.ndarray, bool]:
    """CPU seconds and gradients until ``good(theta)``; the checks, between growing chunks, are not
    timed.

    A chunk is at most 5 % of the run, so the time is at most 5 % late.
    """
    spent, count, theta = 0.0, 0, None
    while spent < seconds:
        chunk, last = max(1, int(count * (growth - 1))), None
        began = time.process_time()
        for last in itertools.islice(method, chunk):  # noqa: B007
            pass
        spent += time.process_time() - began
        if last is None or not np.isfinite(last).all():
            break  # it ended, or diverged
        theta, count = last, count + chunk
        if good(theta):
            return spent, count, theta, True
    return spent, count, theta, False


def textbook_loop(X: torch.Tensor, y: torch.Tensor, m: int, slope: float, steps: int) -> None:
    """What a course shows: ``nn.Sequential``, ``optim.SGD``, the loss printed through
    ``.item()``."""
    n, d = X.shape
    model = torch.nn.Sequential(
        torch.nn.Linear(d, m, bias=False, dtype=X.dtype),
        torch.nn.LeakyReLU(slope),
        torch.nn.Linear(m, 1, bias=False, dtype=X.dtype),
    )
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.exp(-y * model(X).squeeze(1)).mean()
        loss.backward()
        optimizer.step()
        loss.item()
