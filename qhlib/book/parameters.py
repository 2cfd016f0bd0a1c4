"""What a chapter declares: its parameters, their ranges and its presets, read from two tagged cells.

Conventions
-----------
* The cell tagged ``parameters`` has one line per parameter, ``name: type = literal  # meaning [range]``.
* Types: ``int``, ``float``, ``bool``, ``str`` and lists ``list[int]``, ``list[float]``, ``list[str]``.
* Ranges: ``[a, b]``, ``(a, b)`` and mixtures, where a round bracket leaves its end out and ``inf`` is
  allowed; ``{a, b}`` for a choice. The range of a list holds for each entry, and no list is empty. Numbers
  need a range.
* A line of comment ``# require a <= b`` (or ``<``) in that cell relates two numbers, such as points and dimension.
* The cell tagged ``presets`` is one literal, ``PRESETS = {"smoke": {...}, "paper": {...}}``; "book" is the
  default values.
* Cells are parsed, never executed. Lines that papermill would drop silently are refused here with the
  reason: its regular expression loses a second ``=``, a ``#`` in a string, dotted or quoted types.
"""

import ast
import io
import json
import math
import re
import tokenize
from dataclasses import dataclass

from .errors import ChapterError, ParameterError, nearest
from .notebooks import tagged_source

TYPES = ("int", "float", "bool", "str", "list[int]", "list[float]", "list[str]")
NUMBER_TYPES = ("int", "float")
_RELATION = re.compile(r"#\s*require\s+(\w+)\s*(<=|<)\s*(\w+)\s*$")
_RANGE = re.compile(r"(?P<range>[\[(][^\[\](){},]+,[^\[\](){},]+[\])]|\{[^{}]+\})\s*$")
BOOK, SMOKE, PAPER = "book", "smoke", "paper"


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
class ParameterSpec:
    """One declared parameter: name, type (a string of `TYPES`), default, meaning and range."""

    name: str
    type: str
    default: object
    help: str
    range: Range | None

    @property
    def entry(self) -> str:
        """Type of the value, or of a list's entries.

        >>> ParameterSpec("radii", "list[float]", [0.5], "", None).entry
        'float'
        """
        return self.type.removeprefix("list[").removesuffix("]")

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.type.startswith("list[")

    def row(self) -> dict:
        """The declaration as data that JSON can hold.

        >>> ParameterSpec("seed", "int", 0, "first seed", Range("[0, 9]", 0, 9)).row()
        {'name': 'seed', 'type': 'int', 'default': 0, 'range': '[0, 9]', 'help': 'first seed'}
        """
        text = self.range.text if self.range else ""
        return {
            "name": self.name,
            "type": self.type,
            "default": self.default,
            "range": text,
            "help": self.help,
        }


@dataclass(frozen=True)
class Declaration:
    """All that a chapter declares: `specs` in the order of the cell, `presets` without "book".

    `relations` are triples such as ``("n", "<=", "d")``.
    """

    chapter: str
    specs: tuple[ParameterSpec, ...]
    presets: dict[str, dict]
    relations: tuple[tuple[str, str, str], ...] = ()

    @property
    def defaults(self) -> dict:
        """The values of the book."""
        return {spec.name: spec.default for spec in self.specs}

    def preset(self, name: str) -> dict:
        """Values that preset `name` changes: nothing for "book", nor for "paper" where the chapter has none.

        Raises :class:`ParameterError` with the nearest name for an unknown preset.

        >>> Declaration("a_chapter", (), {"smoke": {"n": 1}}).preset("smoke")
        {'n': 1}
        >>> Declaration("a_chapter", (), {"smoke": {}}).preset("smok")
        Traceback (most recent call last):
        qhlib.book.errors.ParameterError: a_chapter has no preset 'smok'; did you mean smoke?
        """
        if name in self.presets:
            return dict(self.presets[name])
        if name in (BOOK, PAPER):
            return {}
        known = sorted({BOOK, PAPER, *self.presets})
        hint = nearest(name, known) or f"; it has {', '.join(known)}"
        raise ParameterError(f"{self.chapter} has no preset {name!r}{hint}")


def parse_range(text: str, entry: str) -> Range:
    """Read a range such as ``[0, 1)`` or ``{cpu, cuda}`` for entries of type `entry`.

    Raises :class:`ChapterError` for an empty interval or an end that is not a number.

    >>> parse_range("{cpu, cuda}", "str").choices
    ('cpu', 'cuda')
    >>> parse_range("[1, 64]", "int").high
    64.0
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
    if entry not in NUMBER_TYPES or not low < high or not whole:
        raise ChapterError(f"the range {text} does not fit a parameter of type {entry}, or it is empty")
    return Range(text, low, high, text[0] == "(", text[-1] == ")")


def parse_line(code: str, comment: str) -> ParameterSpec:
    """Read one line of the parameters cell, already split into code and comment.

    Raises :class:`ChapterError` for a line that papermill would drop, or that lacks a range or a meaning.

    >>> parse_line("n_seeds: int = 4", "runs stacked side by side [1, 64]").row()["range"]
    '[1, 64]'
    """
    form = f"parameters cell, line {code!r}: "
    try:
        (node,) = ast.parse(code).body
        name, type_text = node.target.id, ast.unparse(node.annotation)
        default = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, AttributeError, TypeError):
        raise ChapterError(form + "write it as  name: type = literal  # meaning [range]") from None
    if type_text not in TYPES:
        raise ChapterError(form + f"the type {type_text} is not one of {', '.join(TYPES)}")
    if "=" in comment or code.count("=") > 1 or "#" in code:
        raise ChapterError(form + "papermill cannot read a second '=' or a '#' inside the line")
    entry = type_text.removeprefix("list[").removesuffix("]")
    found = _RANGE.search(comment)
    if not found and entry in NUMBER_TYPES:
        raise ChapterError(form + "a number needs its range at the end of the comment, such as [0, 1)")
    allowed = parse_range(found["range"], entry) if found else None
    meaning = comment[: found.start()].strip() if found else comment.strip()
    if not meaning:
        raise ChapterError(form + "say what the parameter means in the comment")
    return ParameterSpec(name, type_text, default, meaning, allowed)


def parse_cell(source: str) -> tuple[ParameterSpec, ...]:
    """Read the source of a parameters cell; its lines of comment alone are skipped.

    Raises :class:`ChapterError` for a line it cannot read and for a name declared twice.

    >>> [spec.name for spec in parse_cell("seed: int = 0  # first seed [0, 9]\\n# a comment\\n")]
    ['seed']
    """
    specs: dict[str, ParameterSpec] = {}
    for line in source.splitlines():
        code, comment = split_comment(line)
        if code:
            spec = parse_line(code, comment)
            if spec.name in specs:
                raise ChapterError(f"parameters cell: {spec.name} is declared twice")
            specs[spec.name] = spec
    return tuple(specs.values())


def parse_relations(source: str, specs: tuple[ParameterSpec, ...]) -> tuple[tuple[str, str, str], ...]:
    """Read the lines ``# require a <= b`` of a parameters cell.

    Raises :class:`ChapterError` for a name that is not declared or is no number.

    >>> specs = parse_cell("n: int = 2  # points [1, 9]\\nd: int = 3  # dimension [1, 9]")
    >>> parse_relations("# require n <= d", specs)
    (('n', '<=', 'd'),)
    """
    numbers = {spec.name for spec in specs if spec.entry in NUMBER_TYPES}
    found = [match.groups() for line in source.splitlines() if (match := _RELATION.match(line.strip()))]
    for low, _, high in found:
        if not {low, high} <= numbers:
            raise ChapterError(
                f"parameters cell: 'require {low} ... {high}' names what is no declared number"
            )
    return tuple(found)


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


def parse_presets(source: str | None) -> dict[str, dict]:
    """Read the presets cell, ``PRESETS = {...}``, without executing it.

    Raises :class:`ChapterError` when it is missing, is no such literal, redefines "book" or lacks "smoke".

    >>> parse_presets('PRESETS = {"smoke": {"n_seeds": 1}}')
    {'smoke': {'n_seeds': 1}}
    """
    try:
        (node,) = [node for node in ast.parse(source or "").body if isinstance(node, ast.Assign)]
        presets = ast.literal_eval(node.value)
        (target,) = node.targets
        good = target.id == "PRESETS" and all(isinstance(value, dict) for value in presets.values())
    except (SyntaxError, ValueError, AttributeError):
        good = False
    if not good:
        raise ChapterError('the cell tagged presets must hold one literal, PRESETS = {"smoke": {...}}')
    if BOOK in presets or SMOKE not in presets:
        raise ChapterError('PRESETS needs a "smoke" entry and no "book" entry, which is the default values')
    return presets


def read_declaration(name: str, notebook: dict) -> Declaration:
    """What chapter `name` declares in `notebook`, a dictionary as read by ``read_notebook``.

    Raises :class:`ChapterError` when a tagged cell is missing or cannot be read.

    >>> read_declaration("empty", {"cells": []})
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: empty: no cell is tagged parameters
    """
    source = tagged_source(notebook, "parameters")
    if source is None:
        raise ChapterError(f"{name}: no cell is tagged parameters")
    try:
        specs, presets = parse_cell(source), parse_presets(tagged_source(notebook, "presets"))
        return Declaration(name, specs, presets, parse_relations(source, specs))
    except ChapterError as error:
        raise ChapterError(f"{name}: {error}") from None


def parse_assignment(text: str, specs: tuple[ParameterSpec, ...]) -> tuple[str, object]:
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
