"""Check parameters against their declaration, with pydantic, and say what is wrong in one message.

Conventions: checks are strict. Text is never read as a number and nothing is evaluated; a bool is not an
int; an int may stand for a float and becomes one; NaN and infinity are no values. All faulty parameters are
named in one message, a line each.
"""

import math
from collections.abc import Mapping
from functools import cache

from .errors import ParameterError, nearest
from .parameters import Declaration, ParameterSpec

_SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
_LONGEST = 60  # characters of a faulty value that are repeated in a message


def validate(declaration: Declaration, values: Mapping[str, object]) -> dict:
    """Every parameter's value: `values` where given, else the default; checked and in the declared order.

    Raises :class:`ParameterError` with one line for each unknown name, wrong type or value out of range.

    >>> from qhlib.book.parameters import parse_cell
    >>> chapter = Declaration("a_chapter", parse_cell("n_seeds: int = 4  # stacked runs [1, 64]"), {})
    >>> validate(chapter, {"n_seeds": 8})
    {'n_seeds': 8}
    >>> print(str(message(chapter, {"n_seeds": 0, "n_sed": 1})))
    2 parameters of a_chapter cannot be used:
      n_sed: there is no such parameter; did you mean n_seeds?
      n_seeds: 0 is not in [1, 64]
    `qhlib describe a_chapter` lists every parameter with its type and range.
    """
    known = {spec.name: spec for spec in declaration.specs}
    faults = []
    for name in values:
        if name not in known:
            hint = nearest(name, known)
            faults.append(f"{shorten(str(name))}: there is no such parameter{hint}")
    checked = {}
    for name, spec in known.items():
        try:
            checked[name] = validate_one(spec, values.get(name, spec.default))
        except ParameterError as error:
            faults.append(str(error))
    for low, sign, high in declaration.relations:
        if low in checked and high in checked:
            top, bottom = _ends(checked[low])[1], _ends(checked[high])[0]
            if top > bottom or (sign == "<" and top == bottom):
                word = "below" if sign == "<" else "at most"
                faults.append(f"{low}: {top} must be {word} {high}, which is {bottom}")
    if faults:
        count = "a parameter" if len(faults) == 1 else f"{len(faults)} parameters"
        lines = "\n  ".join(faults)
        where = declaration.chapter
        raise ParameterError(
            f"{count} of {where} cannot be used:\n  {lines}\n"
            f"`qhlib describe {where}` lists every parameter with its type and range."
        )
    return checked


def _ends(value: object) -> tuple:
    """Smallest and largest entry of a number or a list of numbers."""
    return (min(value), max(value)) if isinstance(value, list) else (value, value)


def message(declaration: Declaration, values: Mapping[str, object]) -> str | None:
    """The message of :func:`validate`, or None when the values are good."""
    try:
        validate(declaration, values)
    except ParameterError as error:
        return str(error)
    return None


def check_declaration(declaration: Declaration) -> None:
    """Validate the defaults and each preset, so that a chapter never offers values it would refuse.

    Raises :class:`ParameterError` that names the preset.

    >>> check_declaration(Declaration("a_chapter", (), {"smoke": {}}))
    """
    for name, values in {"book": {}, **declaration.presets}.items():
        try:
            validate(declaration, values)
        except ParameterError as error:
            raise ParameterError(f"preset {name}: {error}") from None


def validate_one(spec: ParameterSpec, value: object) -> object:
    """One value, checked against `spec`; an int given for a float comes back as a float.

    Raises :class:`ParameterError` with one line.

    >>> from qhlib.book.parameters import parse_line
    >>> validate_one(parse_line("radii: list[float] = [0.5]", "radii (0, 1)"), [0.5, 1.5])
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: radii[1]: 1.5 is not in (0, 1)
    """
    import pydantic

    value = plain(value)
    try:
        return _adapter(spec)(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{index}]" for index in first["loc"])
        given = value[first["loc"][0]] if first["loc"] else value
        raise ParameterError(f"{spec.name}{place}: {_sentence(spec, first['type'], given)}") from None


def plain(value: object) -> object:
    """NumPy scalars and arrays as Python values: papermill cannot write them into a notebook.

    >>> import numpy
    >>> plain([numpy.float64(0.5), 1])
    [0.5, 1]
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def shorten(text: str) -> str:
    """`text` on one line and cut to 60 characters.

    >>> len(shorten("x" * 100))
    60
    """
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


@cache
def _build(entry: str, is_list: bool, allowed):
    """A strict pydantic validator for the type and range; a list is checked entry by entry."""
    from typing import Annotated

    from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

    kind: object = _SCALARS[entry]
    if allowed and allowed.choices:

        def choose(value):
            if value not in allowed.choices:
                raise ValueError("not a choice")
            return value

        kind = Annotated[kind, AfterValidator(choose)]
    elif allowed:
        # An infinite end is no bound: pydantic would compare ints with a float that has no integer value.
        ends = {
            "gt" if allowed.low_open else "ge": allowed.low,
            "lt" if allowed.high_open else "le": allowed.high,
        }
        kind = Annotated[kind, Field(**{key: end for key, end in ends.items() if math.isfinite(end)})]
    if is_list:
        kind = Annotated[list[kind], Field(min_length=1)]
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python


def _adapter(spec: ParameterSpec):
    return _build(spec.entry, spec.is_list, spec.range)


def _show(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print the longest of them
    return shorten(repr(value))


def _sentence(spec: ParameterSpec, fault: str, value: object) -> str:
    """Pydantic's fault in the words of the chapter's author."""
    shown = _show(value)
    if fault == "too_short":
        return "the list is empty; give at least one value"
    if fault in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"{shown} is not in {spec.range.text}"
    if fault == "finite_number":
        return f"{shown} is not a finite number"
    if fault == "value_error":
        return f"{shown} is not one of {spec.range.text}"
    whole = fault == "list_type"
    expected = spec.type if whole else spec.entry
    return f"expected {expected}, got {shown}{_hint(expected, value)}"


def _hint(expected: str, value: object) -> str:
    """What to write instead, where it can be guessed."""
    if expected.startswith("list["):
        if isinstance(value, tuple):
            return "; write a list, with square brackets"
        # The second form is papermill's, whose -p option cannot pass a list.
        return "; write a list such as -p name='[1, 2]' (papermill: -y 'name: [1, 2]')"
    if isinstance(value, bool):
        return ", a bool"
    if isinstance(value, float) and expected == "int":
        return f"; write {int(value)}" if math.isfinite(value) and value == int(value) else ""
    if isinstance(value, int) and expected == "float":
        return ", which is too large for a float"
    if not isinstance(value, str):
        return ""
    if expected == "bool":
        return " as text; write true or false (papermill: True or False)"
    try:
        number = float(value)
    except ValueError:
        return " as text"
    if not math.isfinite(number):
        return " as text, and it is not a finite number"
    if expected == "int":
        return f" as text; write {int(number)}" if number == int(number) else " as text"
    return f" as text; write {number!r} (YAML reads 1e-3 as text and 1.0e-3 as a number)"
