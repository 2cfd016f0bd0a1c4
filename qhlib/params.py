"""Stacked parameters and their flat form.

Conventions: ``params`` is a dictionary of float64 tensors whose leading axis holds the S seeds, so
a tensor has shape (S, ...). Its flat form ``theta`` has shape (S, p) and follows the order of the
dictionary. A *rate* dictionary has the same keys; its values broadcast to the tensor without the
seed axis.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Params = dict[str, Tensor]
Rates = Mapping[str, float | Tensor]


def flatten(params: Params) -> Tensor:
    """Flat form of stacked parameters: (S, p), float64, in the order of the dictionary.

    Raises:
        ValueError: if there is no tensor, or the leading (seed) axes differ.

    >>> flatten({"w": torch.ones(2, 3), "b": torch.zeros(2)}).shape
    torch.Size([2, 4])
    """
    if not params:
        raise ValueError("params is empty: give at least one stacked tensor of shape (seeds, ...)")
    seeds = {int(t.shape[0]) if t.ndim else -1 for t in params.values()}
    if len(seeds) > 1 or -1 in seeds:
        shapes = {name: tuple(t.shape) for name, t in params.items()}
        raise ValueError(f"every tensor needs the same leading seed axis, got {shapes}")
    return torch.cat([t.reshape(t.shape[0], -1) for t in params.values()], dim=1)


def unflatten(
    theta: Tensor,  # (S, p)
    like: Params,
) -> Params:
    """Stacked parameters with the shapes of ``like``, as views of ``theta`` (S, p). Inverse of
    :func:`flatten`.

    Raises:
        ValueError: if p does not match ``like``.

    >>> like = {"w": torch.ones(2, 3), "b": torch.zeros(2)}
    >>> float(unflatten(flatten(like), like)["w"].sum())
    6.0
    """
    sizes = [t[0].numel() for t in like.values()]
    if theta.shape[1] != sum(sizes):
        raise ValueError(f"theta has {theta.shape[1]} columns, the parameters have {sum(sizes)}")
    pieces = theta.split(sizes, dim=1)
    return {
        name: piece.reshape(theta.shape[0], *t.shape[1:])
        for (name, t), piece in zip(like.items(), pieces, strict=True)
    }


def rates_vector(rates: Rates, like: Params) -> Tensor:  # (p,)
    """Rate of each coordinate of the flat form: (p,), float64.

    Raises:
        ValueError: if the keys differ from those of ``like``, or a rate is negative or not finite.

    >>> rates_vector({"w": 0.5, "b": 1.0}, {"w": torch.ones(1, 2), "b": torch.ones(1)}).tolist()
    [0.5, 0.5, 1.0]
    """
    if set(rates) != set(like):
        raise ValueError(f"rates are given for {sorted(rates)}, parameters are {sorted(like)}")
    rows = [
        torch.as_tensor(rates[name], dtype=torch.float64, device=t.device)
        .expand(t.shape[1:])
        .reshape(-1)
        for name, t in like.items()
    ]
    flat = torch.cat(rows)
    if not bool(torch.isfinite(flat).all()) or bool((flat < 0).any()):
        raise ValueError("rates must be finite and not negative")
    return flat


def angle(
    a: Tensor,  # (S, p)
    b: Tensor,  # (S, p)
) -> Tensor:  # (S,)
    """Angle between directions, in radians, exact for tiny angles: ``2 atan2(|u - v|, |u + v|)``,
    u, v the units.

    Raises:
        ValueError: if a direction is zero or not finite.

    >>> round(float(angle(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1e-9]]))) * 1e9, 6)
    1.0
    """
    na, nb = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    if not bool(
        (na > 0).all() & (nb > 0).all() & torch.isfinite(na).all() & torch.isfinite(nb).all()
    ):
        raise ValueError("a direction is zero or not finite: the angle is not defined")
    u, v = a / na, b / nb
    return 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
