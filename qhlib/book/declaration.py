"""What a notebook declares of its parameters, and values held against it, before anything runs.

Conventions
-----------
* The cell tagged ``parameters`` has one line per parameter, ``name: type = literal  # meaning [range]``.
* Types: ``int``, ``float``, ``bool``, ``str`` and lists ``list[int]``, ``list[float]``, ``list[str]``.
* Ranges: ``[a, b]``, ``(a, b)`` and mixtures, where a round bracket leaves its end out and ``inf`` is allowed;
  ``{a, b}`` for a choice. Numbers need one. The range of a list holds for each entry, and no list is empty.
* A list's range may be followed by rules: ``increasing``, ``distinct``, ``3 entries``, ``2 to 8 entries``.
* A line of comment ``# require a <= b`` (or ``<``) in that cell relates two numbers, such as points and dimension.
* ``effort: str = "book"  # ... {smoke, book, paper}`` gives the presets. Notebooks without it have a cell tagged
  ``presets`` with one literal, ``PRESETS = {"smoke": {...}}``.
* Cells are parsed, never executed. Lines that papermill would drop silently are refused here with the reason: its
  regular expression loses a second ``=``, a ``#`` in a string, dotted or quoted types.
* Checks are strict. Text is never read as a number; a bool is not an int; an int may stand for a float and becomes one;
  NaN and infinity are no values. All faulty parameters are named in one message, a line each.
"""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .errors import ChapterError, ParameterError, nearest

SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
TYPES = (*SCALARS, "list[int]", "list[float]", "list[str]")
BOOK, SMOKE, PAPER, EFFORT = "book", "smoke", "paper", "effort"
_RELATION = re.compile(r"#\s*require\s+(\w+)\s*(<=|<)\s*(\w+)\s*$")
_RULE = r"(?:increasing|distinct|\d+(?: to \d+)? entries)"
_RANGE = re.compile(
    r"(?P<range>[\[(][^\[\](){},]+,[^\[\](){},]+[\])]|\{[^{}]+\})?"
    rf"(?P<rules>(?:,?\s*{_RULE})(?:,\s*{_RULE})*)?\s*$"
)
_LONGEST = 60  # characters of a faulty value that are repeated in a message


@dataclass(frozen=True)
class Range:
    """The values a parameter may take: an interval, or a choice when `choices` is not empty.

    >>> allowed = parse_range("(0, 1]", "float")
    >>> allowed.low, allowed.low_open, allowed.high, allowed.high_open
    (0.0, True, 1.0, False)
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    choices: tuple = ()


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: name, type (a string of `TYPES`), default, meaning, range and rules of a list."""

    name: str
    type: str
    default: object
    help: str
    range: Range | None = None
    rules: tuple[str, ...] = ()

    @property
    def entry(self) -> str:
        """Type of the value, or of a list's entries.

        >>> Parameter("radii", "list[float]", [0.5], "").entry
        'float'
        """
        return self.type.removeprefix("list[").removesuffix("]")

    @property
    def allowed(self) -> str:
        """Range and rules in words; empty when every value of the type is allowed."""
        return ", ".join([self.range.text] * bool(self.range) + list(self.rules))

    def row(self) -> dict:
        """The declaration as data that JSON can hold.

        >>> Parameter("seed", "int", 0, "first seed", Range("[0, 9]", 0, 9)).row()
        {'name': 'seed', 'type': 'int', 'default': 0, 'range': '[0, 9]', 'help': 'first seed'}
        """
        told = {"name": self.name, "type": self.type, "default": self.default}
        return {**told, "range": self.allowed, "help": self.help}


@dataclass(frozen=True)
class Declaration:
    """All that a notebook declares: `specs` in the order of the cell, `presets` without "book".

    `relations` are triples such as ``("n", "<=", "d")``.
    """

    chapter: str
    specs: tuple[Parameter, ...]
    presets: dict[str, dict] | None = None
    relations: tuple[tuple[str, str, str], ...] = ()

    @property
    def defaults(self) -> dict:
        """The values of the book."""
        return {spec.name: spec.default for spec in self.specs}

    def preset(self, name: str) -> dict:
        """Values that preset `name` changes: nothing for "book", nor for "paper" where there is none.

        Raises :class:`ParameterError` with the nearest name for an unknown preset.

        >>> Declaration("a_chapter", (), {"smoke": {"n": 1}}).preset("smoke")
        {'n': 1}
        >>> Declaration("a_chapter", (), {"smoke": {}}).preset("smok")
        Traceback (most recent call last):
        qhlib.book.errors.ParameterError: a_chapter has no preset 'smok'; did you mean smoke?
        """
        presets = {BOOK: {}, PAPER: {}, **(self.presets or {})}
        if name in presets:
            return dict(presets[name])
        hint = nearest(name, presets) or f"; it has {', '.join(sorted(presets))}"
        raise ParameterError(f"{self.chapter} has no preset {name!r}{hint}")


# --- reading ----------------------------------------------------------------------------------------


def read_declaration(name: str, source: str | None, presets: str | None = None) -> Declaration:
    """What notebook `name` declares in the `source` of its parameters cell (and its presets cell, in the old form).

    Its defaults and presets are checked, so that a chapter never offers values it would refuse.
    Raises :class:`ChapterError` when a cell is missing or cannot be read, or a preset would be refused.

    >>> read_declaration("empty", None)
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: empty: no cell is tagged parameters
    """
    if source is None:
        raise ChapterError(f"{name}: no cell is tagged parameters")
    try:
        specs = parse_cell(source)
        effort = next((spec for spec in specs if spec.name == EFFORT), None)
        if effort and effort.range and presets is None:
            known = {choice: {EFFORT: choice} for choice in effort.range.choices if choice != BOOK}
        else:
            known = parse_presets(presets)
        declaration = Declaration(name, specs, known, parse_relations(source, specs))
    except ChapterError as error:
        raise ChapterError(f"{name}: {error}") from None
    for preset in (BOOK, *known):
        try:
            validate(declaration, declaration.preset(preset))
        except ParameterError as error:
            raise ChapterError(f"preset {preset}: {error}") from None
    return declaration


def find_declaration(name: str, history: list[str]) -> Declaration:
    """The declaration among the inputs that a kernel has run: the last that is a parameters cell, defaults as they are.

    Raises :class:`ChapterError` when there is none.

    >>> find_declaration("a", ["", "import math", "seed: int = 0  # first seed [0, 9]"]).defaults
    {'seed': 0}
    """
    fault = ChapterError(f"{name}: run the cell tagged parameters before open_chapter")
    for source in reversed(history):
        try:
            specs = parse_cell(source)
        except ChapterError as error:
            # a faulty parameters cell deserves its own message; any other cell is just not one
            if re.match(r"\w+: (int|float|bool|str|list\[)", source):
                fault = ChapterError(f"{name}: {error}")
            continue
        if specs:
            return Declaration(name, specs, None, parse_relations(source, specs))
    raise fault


def parse_range(text: str, entry: str) -> Range:
    """Read a range such as ``[0, 1)`` or ``{cpu, cuda}`` for entries of type `entry`.

    Raises :class:`ChapterError` for an empty interval or an end that is not a number.

    >>> parse_range("{cpu, cuda}", "str").choices
    ('cpu', 'cuda')
    """
    ends = [end.strip() for end in text[1:-1].split(",")]
    convert = {"int": int, "float": float}.get(entry, str)
    try:
        if text[0] == "{":
            return Range(text, choices=tuple(convert(end.strip("\"'")) for end in ends))
        low, high = (float(end) for end in ends)
    except ValueError:
        raise ChapterError(f"the range {text} is not of the form [a, b], (a, b) or {{a, b}}") from None
    whole = entry == "float" or all(math.isinf(end) or end == int(end) for end in (low, high))
    if entry not in ("int", "float") or not low < high or not whole:
        raise ChapterError(f"the range {text} does not fit a parameter of type {entry}, or it is empty")
    return Range(text, low, high, text[0] == "(", text[-1] == ")")


def parse_line(code: str, comment: str) -> Parameter:
    """Read one line of the parameters cell, already split into code and comment.

    Raises :class:`ChapterError` for a line that papermill would drop, or that lacks a range or a meaning.

    >>> parse_line("radii: list[float] = [0.5]", "radii of the balls (0, 1), distinct, 1 to 9 entries").allowed
    '(0, 1), distinct, 1 to 9 entries'
    """
    form = f"parameters cell, line {code!r}: "
    try:
        (node,) = ast.parse(code).body
        name, kind = node.target.id, ast.unparse(node.annotation)
        default = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, AttributeError, TypeError):
        raise ChapterError(form + "write it as  name: type = literal  # meaning [range]") from None
    if kind not in TYPES:
        raise ChapterError(form + f"the type {kind} is not one of {', '.join(TYPES)}")
    if "=" in comment or code.count("=") > 1 or "#" in code:
        raise ChapterError(form + "papermill cannot read a second '=' or a '#' inside the line")
    found = _RANGE.search(comment)
    rules = tuple(re.findall(_RULE, found["rules"] or ""))
    entry = kind.removeprefix("list[").removesuffix("]")
    if not found["range"] and entry in ("int", "float"):
        raise ChapterError(form + "a number needs its range at the end of the comment, such as [0, 1)")
    if rules and entry == kind:
        raise ChapterError(form + f"only a list can be {rules[0]}")
    meaning = comment[: found.start()].strip()
    if not meaning:
        raise ChapterError(form + "say what the parameter means in the comment")
    allowed = parse_range(found["range"], entry) if found["range"] else None
    return Parameter(name, kind, default, meaning, allowed, rules)


def parse_cell(source: str) -> tuple[Parameter, ...]:
    """Read the source of a parameters cell; its lines of comment alone are skipped.

    Raises :class:`ChapterError` for a line it cannot read and for a name declared twice.

    >>> [spec.name for spec in parse_cell("seed: int = 0  # first seed [0, 9]\\n# a comment\\n")]
    ['seed']
    """
    specs: dict[str, Parameter] = {}
    for line in source.splitlines():
        code, comment = split_comment(line)
        if code:
            spec = parse_line(code, comment)
            if spec.name in specs:
                raise ChapterError(f"parameters cell: {spec.name} is declared twice")
            specs[spec.name] = spec
    return tuple(specs.values())


def split_comment(line: str) -> tuple[str, str]:
    """Code and comment of one line; a ``#`` inside a string is code.

    >>> split_comment('a: str = "#"  # meaning')
    ('a: str = "#"', 'meaning')
    """
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type == tokenize.COMMENT:
                return line[: token.start[1]].strip(), token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass  # a line that Python cannot split is reported as code by the caller
    return line.strip(), ""


def parse_relations(source: str, specs: tuple[Parameter, ...]) -> tuple[tuple[str, str, str], ...]:
    """Read the lines ``# require a <= b`` of a parameters cell.

    Raises :class:`ChapterError` for a name that is not declared or is no number.

    >>> specs = parse_cell("n: int = 2  # points [1, 9]\\nd: int = 3  # dimension [1, 9]")
    >>> parse_relations("# require n <= d", specs)
    (('n', '<=', 'd'),)
    """
    numbers = {spec.name for spec in specs if spec.entry in ("int", "float")}
    lines = (line.strip() for line in source.splitlines())
    found = tuple(match.groups() for line in lines if (match := _RELATION.match(line)))
    for low, _, high in found:
        if not {low, high} <= numbers:
            raise ChapterError(f"parameters cell: 'require {low} ... {high}' names what is no declared number")
    return found


def parse_presets(source: str | None) -> dict[str, dict]:
    """Read the presets cell, ``PRESETS = {...}``, without executing it.

    Raises :class:`ChapterError` when it is missing, is no such literal, redefines "book" or lacks "smoke".

    >>> parse_presets('PRESETS = {"smoke": {"n_seeds": 1}}')
    {'smoke': {'n_seeds': 1}}
    """
    try:
        (node,) = ast.parse(source or "").body
        presets = ast.literal_eval(node.value)
        good = node.targets[0].id == "PRESETS" and all(isinstance(value, dict) for value in presets.values())
    except (SyntaxError, ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise ChapterError(
            "declare  effort: str = \"book\"  # how much is computed {smoke, book, paper}  (or a cell tagged presets "
            'with one literal, PRESETS = {"smoke": {...}})'
        )
    if BOOK in presets or SMOKE not in presets:
        raise ChapterError('PRESETS needs a "smoke" entry and no "book" entry, which is the default values')
    return presets


def parse_assignment(text: str, specs: tuple[Parameter, ...]) -> tuple[str, object]:
    """Read ``key=value`` from the command line by the declared type: JSON for lists, true/false for bools.

    Text that does not read as its type is returned as it is, so that the validation names it with its range.
    Raises :class:`ParameterError` when there is no ``=``.

    >>> specs = parse_cell("rate: float = 1.0  # rate (0, 9)\\nradii: list[float] = [1.0]  # radii (0, 9)")
    >>> parse_assignment("rate=1e-3", specs), parse_assignment("radii=[0.5, 1]", specs)
    (('rate', 0.001), ('radii', [0.5, 1]))
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ParameterError(f"-p {text}: write it as -p name=value")
    kind = next((spec.type for spec in specs if spec.name == name), "str")
    if kind == "str":
        return name, value
    read = {"int": int, "float": float, "bool": lambda word: {"true": True, "false": False}[word.lower()]}
    try:
        return name, read.get(kind, json.loads)(value.strip())
    except (ValueError, KeyError, RecursionError):
        return name, value


# --- checking ---------------------------------------------------------------------------------------


def validate(declaration: Declaration, values: Mapping[str, object]) -> dict:
    """Every parameter's value: `values` where given, else the default; checked and in the declared order.

    Raises :class:`ParameterError` with one line for each unknown name, wrong type or value out of range.

    >>> chapter = Declaration("a_chapter", parse_cell("n_seeds: int = 4  # stacked runs [1, 64]"))
    >>> validate(chapter, {"n_seeds": 8})
    {'n_seeds': 8}
    >>> validate(chapter, {"n_seeds": 0, "n_sed": 1})
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: 2 parameters of a_chapter cannot be used:
      n_sed: there is no such parameter; did you mean n_seeds?
      n_seeds: 0 is not in [1, 64]
    `qhlib describe a_chapter` lists every parameter with its type and range.
    """
    known = {spec.name: spec for spec in declaration.specs}
    faults = [
        f"{shorten(str(name))}: there is no such parameter{nearest(name, known)}"
        for name in values
        if name not in known
    ]
    checked = {}
    for name, spec in known.items():
        try:
            checked[name] = validate_one(spec, values.get(name, spec.default))
        except ParameterError as error:
            faults.append(str(error))
    for low, sign, high in declaration.relations:
        if low in checked and high in checked:
            top, bottom = max(_entries(checked[low])), min(_entries(checked[high]))
            if top > bottom or (sign == "<" and top == bottom):
                word = "below" if sign == "<" else "at most"
                faults.append(f"{low}: {top} must be {word} {high}, which is {bottom}")
    if faults:
        count = "a parameter" if len(faults) == 1 else f"{len(faults)} parameters"
        where = declaration.chapter
        raise ParameterError(
            f"{count} of {where} cannot be used:\n  " + "\n  ".join(faults) + "\n"
            f"`qhlib describe {where}` lists every parameter with its type and range."
        )
    return checked


def validate_one(spec: Parameter, value: object) -> object:
    """One value, checked against `spec`; an int given for a float comes back as a float.

    Raises :class:`ParameterError` with one line.

    >>> validate_one(parse_line("radii: list[float] = [0.5]", "radii (0, 1)"), [0.5, 1.5])
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: radii[1]: 1.5 is not in (0, 1)
    >>> validate_one(parse_line("ells: list[float] = [1.0]", "levels (0, 9), increasing"), [2.0, 1.0])
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: ells: [2.0, 1.0] is not increasing
    """
    import pydantic

    value = plain(value)
    try:
        checked = _validator(spec.type, spec.range)(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{index}]" for index in first["loc"])
        given = value[first["loc"][0]] if first["loc"] else value
        raise ParameterError(f"{spec.name}{place}: {_sentence(spec, first['type'], given)}") from None
    for rule in spec.rules:
        if not _obeys(checked, rule):
            has = f"has {len(checked)} entries, not {rule}" if rule.endswith("entries") else f"is not {rule}"
            raise ParameterError(f"{spec.name}: {shorten(repr(checked))} {has}")
    return checked


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


def _entries(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _obeys(entries: list, rule: str) -> bool:
    if rule == "increasing":
        return all(a < b for a, b in zip(entries, entries[1:], strict=False))
    if rule == "distinct":
        return len(set(entries)) == len(entries)
    least, *most = (int(word) for word in re.findall(r"\d+", rule))
    return least <= len(entries) <= (most or [least])[0]


@cache
def _validator(kind: str, allowed: Range | None):
    """A strict pydantic validator for the type and range; a list is checked entry by entry."""
    from typing import Annotated

    from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

    entry = kind.removeprefix("list[").removesuffix("]")
    form: object = SCALARS[entry]
    if allowed and allowed.choices:

        def choose(value):
            if value not in allowed.choices:
                raise ValueError("not a choice")
            return value

        form = Annotated[form, AfterValidator(choose)]
    elif allowed:
        # An infinite end is no bound: pydantic would compare ints with a float that has no integer value.
        low, high = "gt" if allowed.low_open else "ge", "lt" if allowed.high_open else "le"
        ends = {key: end for key, end in {low: allowed.low, high: allowed.high}.items() if math.isfinite(end)}
        form = Annotated[form, Field(**ends)]
    if entry != kind:
        form = Annotated[list[form], Field(min_length=1)]
    return TypeAdapter(form, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python


def _sentence(spec: Parameter, fault: str, value: object) -> str:
    """Pydantic's fault in the words of the chapter's author."""
    shown = shorten(_printed(value))
    if fault == "too_short":
        return "the list is empty; give at least one value"
    if fault in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"{shown} is not in {spec.range.text}"
    if fault == "finite_number":
        return f"{shown} is not a finite number"
    if fault == "value_error":
        return f"{shown} is not one of {spec.range.text}"
    expected = spec.type if fault == "list_type" else spec.entry
    return f"expected {expected}, got {shown}{_hint(expected, value)}"


def _printed(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print the longest of them
    return repr(value)


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
