"""A measurement is held against its prediction, and a verdict follows.

Conventions
-----------
* Predicted and measured are scalars, or arrays of one shape; the worst entry decides.
* The gap of an entry is ``|m - p|`` for ``=``, ``m - p`` for ``<=`` and ``p - m`` for ``>=``, over ``|p|`` when the
  tolerance is relative. A claim is reproduced when the largest gap is at most the tolerance.
* A measurement that is not finite deviates: a failed computation never counts as an agreement.
* `outside` holds the reason why the reader's parameters leave the assumptions; then nothing is asserted, and
  a prediction need not exist.
"""

import math
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from .claims import NAME, RELATIONS


@dataclass(frozen=True)
class Judgement:
    """The worst entry of a comparison: gap, flat index and both values; and whether all entries hold."""

    holds: bool
    gap: float
    index: int
    predicted: float
    measured: float
    entries: int


def judge(
    predicted, measured, tolerance, relation="=", relative=False, *, asserted=True
) -> Judgement:
    """Compare a measurement with its prediction; a pure function of its arguments.

    Parameters: `predicted` and `measured`, real scalars or arrays of one shape (NumPy, torch, nested lists);
    `tolerance`, finite and not negative; `relation`, one of ``=``, ``<=``, ``>=``; `asserted`, False to
    accept predictions that do not exist (NaN, or zero where the tolerance is relative).

    Raises :class:`ValueError` for a prediction that is not finite, or is zero where the tolerance is
    relative; a tolerance that is negative or not finite (such a claim could not fail); empty arrays;
    different shapes; values that are no real numbers; and an unknown relation.

    Source: derived here; the definition of the gap stands in the module's conventions.

    >>> round(judge([1.0, 2.0], [1.1, 2.1], 0.2, relative=True).gap, 12)
    0.1
    >>> judge(0.0, float("nan"), 1.0).holds, judge(0.0, -5.0, 0.0, "<=").holds
    (False, True)
    """
    p, m = to_array(predicted, "predicted"), to_array(measured, "measured")
    limit = to_array(tolerance, "tolerance")
    if relation not in RELATIONS:
        raise ValueError(f"relation {relation!r} is not one of {', '.join(RELATIONS)}")
    if p.shape != m.shape:
        raise ValueError(
            f"predicted has shape {p.shape} and measured has shape {m.shape}; make them equal"
        )
    if p.size == 0:
        raise ValueError("predicted and measured are empty, so there is nothing to compare")
    if limit.ndim or not math.isfinite(limit) or limit < 0:
        raise ValueError(f"tolerance {tolerance!r} is not a finite number of at least 0")
    if asserted and not np.isfinite(p).all():
        raise ValueError("predicted is not finite")
    if asserted and relative and (p == 0).any():
        raise ValueError(
            "predicted is zero, so a relative tolerance has no meaning; use an absolute one"
        )
    with np.errstate(all="ignore"):  # what is not finite is a deviation below, not a warning
        gap = {"=": np.abs(m - p), "<=": m - p, ">=": p - m}[relation]
        if relative:
            gap = gap / np.abs(p)
    gap = np.where(np.isfinite(m) & ~np.isnan(gap), gap, np.inf).ravel()
    worst = int(gap.argmax())
    pair = float(p.ravel()[worst]), float(m.ravel()[worst])
    return Judgement(bool(gap[worst] <= limit), float(gap[worst]), worst, *pair, p.size)


def to_array(value, name: str) -> np.ndarray:
    """`value` as a float64 array; a torch tensor is detached and brought to the CPU without importing torch.

    Raises :class:`ValueError`, naming `name`, for text, complex numbers, ragged lists and other objects.

    >>> to_array([1, 2.5], "measured")
    array([1. , 2.5])
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
        # NumPy would turn None into NaN; as objects it holds Python's long integers, which are numbers
        if array.dtype.kind not in "biuf" and not all(isinstance(entry, Real) for entry in array.flat):
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not a real number or an array of real numbers") from None


@dataclass(frozen=True, eq=False)
class Claim:
    """The numbers of one claim and the verdict that follows from them; the words stand on the page.

    `outside` is the reason why nothing is asserted, `expected_deviation` the reason why a deviation is no fault.
    Raises :class:`ValueError` as :func:`judge` does, with the claim's name.

    >>> claim = Claim("kkt-limit", predicted=0.0, measured=2e-9, tolerance=1e-8)
    >>> claim.verdict, claim.row()["gap"]
    ('reproduced', 2e-09)
    """

    name: str
    predicted: object
    measured: object
    tolerance: float
    relation: str = "="
    relative: bool = False
    outside: str = ""
    expected_deviation: str = ""
    judgement: Judgement = field(init=False)

    def __post_init__(self):
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(
                f"the claim's name {self.name!r} is not made of small letters, digits and hyphens"
            )
        for name in ("outside", "expected_deviation"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(
                    f"claim {self.name}: {name} is not a text; give the reason, or leave it out"
                )
        try:
            found = judge(
                self.predicted,
                self.measured,
                self.tolerance,
                self.relation,
                self.relative,
                asserted=not self.outside.strip(),
            )
        except ValueError as error:
            raise ValueError(f"claim {self.name}: {error}") from None
        object.__setattr__(self, "judgement", found)

    @property
    def verdict(self) -> str:
        """``reproduced``, ``deviates`` or ``outside``."""
        if self.outside.strip():
            return "outside"
        return "reproduced" if self.judgement.holds else "deviates"

    def _ipython_display_(self) -> None:
        """Nothing: the chapter has shown the numbers, and a cell's last value would show them again."""

    def row(self) -> dict:
        """The numbers as data that JSON can hold: the worst entry's values; NaN and infinities are text.

        >>> row = Claim("b", predicted=[1, 2], measured=[1, 2.5], tolerance=0.1).row()
        >>> row["predicted"], row["measured"], row["entries"], row["verdict"]
        (2.0, 2.5, 2, 'deviates')
        """
        worst = self.judgement
        return {
            "name": self.name,
            "predicted": json_number(worst.predicted),
            "measured": json_number(worst.measured),
            "tolerance": float(self.tolerance),
            "verdict": self.verdict,
            "relation": self.relation,
            "relative": bool(self.relative),
            "gap": json_number(worst.gap),
            "entries": worst.entries,
            "outside": self.outside.strip(),
            "expected_deviation": self.expected_deviation.strip(),
        }


def json_number(value: float) -> float | str:
    """A float, or "nan", "inf", "-inf", for which JSON has no number.

    >>> json_number(0.5), json_number(float("-inf"))
    (0.5, '-inf')
    """
    return value if math.isfinite(value) else str(value)
