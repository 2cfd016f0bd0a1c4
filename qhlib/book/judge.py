"""A measurement is held against its prediction, and a verdict follows.

Conventions
-----------
* Predicted and measured are scalars, or arrays of one shape; the worst entry decides.
* The gap of an entry is ``|m - p|`` for ``=``, ``m - p`` for ``<=`` and ``p - m`` for ``>=``, over
  ``|p|`` when the tolerance is relative. A claim is reproduced when the largest gap is at most
  the tolerance.
* A measurement that is not finite deviates: a failed computation never counts as an agreement.
* `outside` holds the reason why the reader's parameters leave the assumptions; then nothing is
  asserted, and a prediction need not exist.
"""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np

from .claims import RELATIONS


@dataclass(frozen=True)
class Claim:
    """The numbers of one claim, those of its worst entry, and the verdict: ``reproduced``,
    ``deviates`` or ``outside``."""

    name: str
    predicted: float
    measured: float
    tolerance: float
    verdict: str
    relation: str
    relative: bool
    gap: float
    entries: int
    outside: str
    expected_deviation: str

    def row(self) -> dict:
        """The numbers as data that JSON can hold: NaN and infinities, for which it has none, are
        text.

        >>> judge("b", [1, 2], [1, math.nan], 0.1).row()["measured"]
        'nan'
        """
        values = vars(self).items()
        unreal = {k: str(v) for k, v in values if isinstance(v, float) and not math.isfinite(v)}
        return {**vars(self), **unreal}

    def _ipython_display_(self) -> None:
        """Nothing: the chapter has shown the numbers, and a cell's last value would show them
        again."""


def judge(
    name: str,
    predicted,
    measured,
    tolerance: float,
    relation: str = "=",
    relative: bool = False,
    outside: str = "",
    expected_deviation: str = "",
) -> Claim:
    """Compare a measurement with its prediction; a pure function of its arguments.

    Parameters: `predicted` and `measured`, real scalars or arrays of one shape (NumPy, torch,
    nested lists); `tolerance`, finite and not negative; `relation`, one of ``=``, ``<=``, ``>=``;
    `outside`, the reason why nothing is asserted; `expected_deviation`, the reason why a deviation
    is no fault.

    Raises :class:`ValueError` for a prediction that is not finite, or is zero where the tolerance
    is relative; a tolerance that is negative or not finite (such a claim could not fail); empty
    arrays; different shapes; values that are no real numbers; an unknown relation; a reason that
    is no text.

    Source: derived here; the definition of the gap stands in the module's conventions.

    >>> claim = judge("kkt-limit", [1.0, 2.0], [1.1, 2.1], 0.2, relative=True)
    >>> claim.verdict, round(claim.gap, 12)
    ('reproduced', 0.1)
    >>> judge("kkt-limit", 0.0, float("nan"), 1.0).verdict
    'deviates'
    """

    def refuse(what: str):
        raise ValueError(f"claim {name}: {what}") from None

    if relation not in RELATIONS:
        refuse(f"relation {relation!r} is not one of {', '.join(RELATIONS)}")
    for word, reason in (("outside", outside), ("expected_deviation", expected_deviation)):
        if not isinstance(reason, str):
            refuse(f"{word} is not a text; give the reason, or leave it out")
    try:
        limit, p, m = (to_array(value) for value in (tolerance, predicted, measured))
    except (TypeError, ValueError, OverflowError):
        refuse("predicted, measured and tolerance must be real numbers, or arrays of them")
    if p.shape != m.shape:
        refuse(f"predicted has shape {p.shape} and measured has shape {m.shape}; make them equal")
    if p.size == 0:
        refuse("predicted and measured are empty, so there is nothing to compare")
    if limit.ndim or not math.isfinite(limit) or limit < 0:
        refuse(f"tolerance {tolerance!r} is not a finite number of at least 0")
    asserted = not outside.strip()
    if asserted and not np.isfinite(p).all():
        refuse("predicted is not finite")
    if asserted and relative and (p == 0).any():
        refuse("predicted is zero, so a relative tolerance has no meaning; use an absolute one")
    with np.errstate(all="ignore"):  # what is not finite is a deviation below, not a warning
        gap = {"=": np.abs(m - p), "<=": m - p, ">=": p - m}[relation]
        gap = gap / np.abs(p) if relative else gap
    gap = np.where(np.isfinite(m) & ~np.isnan(gap), gap, np.inf).ravel()
    worst = int(gap.argmax())
    pair = float(p.ravel()[worst]), float(m.ravel()[worst])
    holds = "reproduced" if gap[worst] <= limit else "deviates"
    verdict, reasons = (
        holds if asserted else "outside",
        (outside.strip(), expected_deviation.strip()),
    )
    numbers = (*pair, float(limit), verdict, relation, bool(relative), float(gap[worst]), p.size)
    return Claim(name, *numbers, *reasons)


def to_array(value) -> np.ndarray:
    """`value` as a float64 array; a torch tensor is brought to the CPU without importing torch.

    Raises TypeError, ValueError or OverflowError for text, complex numbers, ragged lists and
    objects.

    >>> to_array([1, 2.5])
    array([1. , 2.5])
    """
    array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    # NumPy would turn None into NaN; as objects it holds Python's long integers, which are numbers
    if array.dtype.kind not in "biuf" and not all(isinstance(each, Real) for each in array.flat):
        raise TypeError("no real numbers")
    return array.astype(np.float64)
