"""What a notebook declares of its parameters, and values held against it, before anything runs.

Conventions
-----------
* The cell tagged ``parameters`` has one line per parameter, ``name: type = literal  # meaning
  [range]``.
* Types: ``int``, ``float``, ``bool``, ``str``, ``list[int]``, ``list[float]``, ``list[str]``.
* Ranges: ``[a, b]``, ``(a, b)`` and mixtures, where a round bracket leaves its end out and ``inf``
  is allowed; ``{a, b}`` for a choice. Numbers need one. The range of a list holds for each entry,
  and no list is empty.
* A list's range may be followed by rules: ``increasing``, ``distinct``, ``3 entries``,
  ``2 to 8 entries``.
* A line of comment ``# require a <= b`` (or ``<``) in that cell relates two numbers.
* ``effort: str = "book"  # ... {smoke, book, paper}`` gives the presets; a notebook without it has
  the preset book alone, its default values.
* Cells are parsed, never executed. Lines that papermill would drop silently are refused: its
  regular expression loses a second ``=``, a ``#`` in a string, dotted or quoted types.
* Checks are strict. Text is never read as a number; a bool is not an int; an int may stand for a
  float and becomes one; NaN and infinity are no values. All faults are named in one message, a
  line each.
"""

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import ChapterError, ParameterError, nearest

BOOK, EFFORT = "book", "effort"
KINDS = {"int": "an int", "float": "a float", "bool": "true or false", "str": "a text"}
_RULE = r"(?:increasing|distinct|\d+(?: to \d+)? entries)"
_LINE = re.compile(
    r"(?P<name>[A-Za-z_]\w*): (?P<type>(?:int|float|bool|str)|list\[(?:int|float|str)\])"
    r" = (?P<default>[^=#]+?)\s*#\s*(?P<help>[^=\s][^=]*?)\s*"
    r"(?P<range>[\[(][^\[\](){},]+,[^\[\](){},]+[\])]|\{[^{}]+\})?"
    rf"(?P<rules>(?:,?\s*{_RULE})+)?\s*"
)
_FORM = (
    "write it as  name: type = literal  # meaning [range]  with a type of int, float, bool, str "
    "or a list of these; a number needs a range, only a list has rules, and papermill cannot read "
    "a second '=' or a '#' inside"
)
_RELATION = re.compile(r"^#\s*require\s+(\w+)\s*(<=|<)\s*(\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: name, type, default, meaning, range as text and rules of a list."""

    name: str
    type: str
    default: object
    help: str
    range: str = ""
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
        return ", ".join(filter(None, (self.range, *self.rules)))

    @property
    def choices(self) -> tuple:
        """The values of a range in braces; empty for others."""
        words = self.range[1:-1].split(",") if self.range.startswith("{") else ()
        convert = {"int": int, "float": float}.get(self.entry, str)
        return tuple(convert(word.strip(" \"'")) for word in words)

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of an interval; infinite where there is none.

        >>> Parameter("rate", "float", 0.5, "", "(0, 1]").ends
        (0.0, 1.0)
        """
        if not self.range or self.range.startswith("{"):
            return -math.inf, math.inf
        low, high = self.range[1:-1].split(",")
        return float(low), float(high)

    def admits(self, value: object) -> bool:
        """Whether one value, or one entry of a list, has the type and lies in the range.

        >>> rate = Parameter("rate", "float", 0.5, "", "(0, 1]")
        >>> rate.admits(1), rate.admits(0.0), rate.admits(True), rate.admits("0.5")
        (True, False, False, False)
        """
        kinds = {"float": (int, float), "int": int, "bool": bool, "str": str}[self.entry]
        if not isinstance(value, kinds) or isinstance(value, bool) != (self.entry == "bool"):
            return False
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # bytes that are no text, from a shell or a file
                return False
        if self.choices:
            return value in self.choices
        if self.entry not in ("int", "float"):
            return True
        if self.entry == "float":
            try:
                value = float(value)
            except OverflowError:
                return False
            if not math.isfinite(value):
                return False
        low, high = self.ends
        above = value > low if self.range[:1] == "(" else value >= low
        return above and (value < high if self.range[-1:] == ")" else value <= high)

    def row(self) -> dict:
        """The declaration as data that JSON can hold.

        >>> Parameter("seed", "int", 0, "first seed", "[0, 9]").row()
        {'name': 'seed', 'type': 'int', 'default': 0, 'range': '[0, 9]', 'help': 'first seed'}
        """
        told = {"name": self.name, "type": self.type, "default": self.default}
        return {**told, "range": self.allowed, "help": self.help}


@dataclass(frozen=True)
class Declaration:
    """All that a notebook declares: `specs` in the order of the cell, and `relations`, triples
    such as ``("n", "<=", "d")``.
    """

    chapter: str
    specs: tuple[Parameter, ...]
    relations: tuple[tuple[str, str, str], ...] = ()

    @property
    def defaults(self) -> dict:
        """The values of the book."""
        return {spec.name: spec.default for spec in self.specs}

    @property
    def presets(self) -> dict[str, dict]:
        """The values that each preset changes: nothing for "book".

        >>> effort = 'effort: str = "book"  # how much is computed {smoke, book}'
        >>> Declaration("a_chapter", parse_cell("a", effort)).presets
        {'book': {}, 'smoke': {'effort': 'smoke'}}
        """
        choices = next((spec.choices for spec in self.specs if spec.name == EFFORT), ())
        return {BOOK: {}, **{each: {EFFORT: each} for each in choices if each != BOOK}}

    def preset(self, name: str) -> dict:
        """Values that preset `name` changes.

        Raises :class:`ParameterError` with the nearest name for an unknown preset.

        >>> Declaration("a_chapter", ()).preset("smok")
        Traceback (most recent call last):
        qhlib.book.errors.ParameterError: a_chapter has no preset 'smok'; it has book
        """
        presets = self.presets
        if name not in presets:
            hint = nearest(name, presets) or f"; it has {', '.join(sorted(presets))}"
            raise ParameterError(f"{self.chapter} has no preset {name!r}{hint}")
        return presets[name]


def read_declaration(name: str, source: str | None) -> Declaration:
    """What notebook `name` declares in the `source` of its parameters cell.

    Its defaults are checked, so that a chapter never offers values it would refuse.
    Raises :class:`ChapterError` when the cell is missing or cannot be read, or a default would be
    refused.

    >>> cell = 'radii: list[float] = [0.5]  # radii of the balls (0, 1), distinct, 1 to 9 entries'
    >>> read_declaration("balls", cell).specs[0].allowed
    '(0, 1), distinct, 1 to 9 entries'
    """
    if source is None:
        raise ChapterError(f"{name}: no cell is tagged parameters")
    specs = parse_cell(name, source)
    declaration = Declaration(name, specs, parse_relations(name, source, specs))
    try:
        validate(declaration, {})
    except ParameterError as error:
        raise ChapterError(f"the default values: {error}") from None
    return declaration


def find_declaration(name: str, history: Sequence[str]) -> Declaration:
    """The declaration among the inputs that a kernel has run, its last parameters cell.

    Raises :class:`ChapterError` when there is none.

    >>> find_declaration("a", ["", "import math", "seed: int = 0  # first seed [0, 9]"]).defaults
    {'seed': 0}
    """
    for source in reversed(history):
        if re.search(r"^\w+: [\w\[\]]+ = .*#", source, re.MULTILINE) and "\nimport" not in source:
            specs = parse_cell(name, source)
            return Declaration(name, specs, parse_relations(name, source, specs))
    raise ChapterError(f"{name}: run the cell tagged parameters before open_chapter")


def parse_cell(name: str, source: str) -> tuple[Parameter, ...]:
    """Read the parameters cell of notebook `name`; its lines of comment alone are skipped.

    Raises :class:`ChapterError` for a line it cannot read and for a name declared twice.

    >>> parse_cell("a", "seed: int = 0  # first seed [0, 9]\\n# a comment\\n")[0].help
    'first seed'
    """
    specs: dict[str, Parameter] = {}
    for line in source.splitlines():
        if line.strip() and not line.startswith("#"):
            where = f"{name}: parameters cell, line {line!r}: "
            found = _LINE.fullmatch(line)
            try:
                spec = Parameter(
                    found["name"],
                    found["type"],
                    ast.literal_eval(found["default"]),
                    found["help"],
                    found["range"] or "",
                    tuple(re.findall(_RULE, found["rules"] or "")),
                )
                good = spec.ends[0] < spec.ends[1] and (not spec.range or len(spec.choices) != 1)
                good &= bool(spec.range) or spec.entry not in ("int", "float")
                good &= spec.entry in ("int", "float") or spec.range[:1] in ("", "{")
                good &= spec.type != spec.entry or not spec.rules
            except (TypeError, ValueError, SyntaxError):
                good = False
            if not good:
                raise ChapterError(where + _FORM)
            if spec.name in specs:
                raise ChapterError(where + f"{spec.name} is declared twice")
            specs[spec.name] = spec
    return tuple(specs.values())


def parse_relations(name: str, source: str, specs: Sequence[Parameter]) -> tuple:
    """Read the lines ``# require a <= b`` of a parameters cell.

    Raises :class:`ChapterError` for a name that is not declared or is no number.
    """
    declared = {spec.name for spec in specs if spec.entry in ("int", "float")}
    found = tuple(match.groups() for match in _RELATION.finditer(source))
    for low, _, high in found:
        if not {low, high} <= declared:
            raise ChapterError(
                f"{name}: 'require {low} ... {high}' names what is no declared number"
            )
    return found


def parse_assignment(text: str, specs: Sequence[Parameter]) -> tuple[str, object]:
    """Read ``key=value`` from the command line by the declared type: JSON for all but texts.

    Shells take quotes away or leave them in place: a list of texts may be ``["a", "b"]``,
    ``['a']``, ``[a, b]`` or ``a,b``. What does not read as its type is returned as it is, so that
    the validation names it with its range.
    Raises :class:`ParameterError` when there is no ``=``.

    >>> specs = parse_cell("a", "rate: float = 1.0  # r (0, 9)\\nks: list[int] = [1]  # k [0, 9]")
    >>> parse_assignment("rate=1e-3", specs), parse_assignment("ks=[2, 1]", specs)
    (('rate', 0.001), ('ks', [2, 1]))
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ParameterError(f"-p {text}: write it as -p name=value")
    kind = next((spec.type for spec in specs if spec.name == name), "str")
    if kind == "str":
        return name, value
    try:
        read = float if kind == "float" else json.loads
        return name, read(value.lower() if kind == "bool" else value)
    except (ValueError, RecursionError):
        words = [word.strip(" \"'") for word in value.strip("[]").split(",")]
        return name, words if kind == "list[str]" and all(words) else value


def validate(declaration: Declaration, values: Mapping[str, object]) -> dict:
    """Every parameter's value: `values` where given, else the default; checked, in the declared
    order.

    Raises :class:`ParameterError` with one line for each unknown name, wrong type or value out of
    range.

    >>> chapter = Declaration("a_chapter", parse_cell("a", "n_seeds: int = 4  # runs [1, 64]"))
    >>> validate(chapter, {"n_seeds": 0, "n_sed": 1})
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: 2 parameters of a_chapter cannot be used:
      n_sed: there is no such parameter; did you mean n_seeds?
      n_seeds: 0 is not an int in [1, 64]
    `qhlib describe a_chapter` lists every parameter with its type and range.
    """
    checked, faults = check(declaration, values)
    if faults:
        where, lines = declaration.chapter, "\n  ".join(faults)
        count = "a parameter" if len(faults) == 1 else f"{len(faults)} parameters"
        raise ParameterError(
            f"{count} of {where} cannot be used:\n  {lines}\n"
            f"`qhlib describe {where}` lists every parameter with its type and range."
        )
    return checked


def check(declaration: Declaration, values: Mapping[str, object]) -> tuple[dict, list[str]]:
    """What :func:`validate` returns, and a line for each fault instead of an error.

    >>> chapter = Declaration("a_chapter", parse_cell("a", "n_seeds: int = 4  # runs [1, 64]"))
    >>> check(chapter, {"n_seeds": 0})
    ({}, ['n_seeds: 0 is not an int in [1, 64]'])
    """
    known = {spec.name: spec for spec in declaration.specs}
    unknown = [name for name in values if name not in known]
    faults = [f"{_short(n)}: there is no such parameter{nearest(str(n), known)}" for n in unknown]
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
    return checked, faults


def validate_one(spec: Parameter, value: object) -> object:
    """One value, checked against `spec`; an int given for a float comes back as a float.

    Raises :class:`ParameterError` with one line that says what is allowed and how it is written.

    >>> ells = Parameter("ells", "list[float]", [1.0], "levels", "(0, 9)", ("increasing",))
    >>> validate_one(ells, [2, 1.5])
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: ells: [2, 1.5] is not increasing
    """
    if type(value).__module__ == "numpy":
        value = value.tolist()  # papermill cannot write NumPy's own numbers into a notebook
    within = f" in {spec.range}" if spec.range else ""
    if spec.type == spec.entry:
        if not spec.admits(value):
            raise ParameterError(
                f"{spec.name}: {_short(value)} is not {KINDS[spec.entry]}{within}"
            )
        return float(value) if spec.type == "float" else value
    if not isinstance(value, list) or not value:
        some = "[a,b]" if spec.entry == "str" else "[1,2]"
        raise ParameterError(
            f"{spec.name}: {_short(value)} is not a list of at least one {spec.entry}{within}; "
            f"write -p {spec.name}={some} (papermill: -y '{spec.name}: {some}')"
        )
    for index, each in enumerate(value):
        if not spec.admits(each):
            fault = f"{_short(each)} is not {KINDS[spec.entry]}{within}"
            raise ParameterError(f"{spec.name}[{index}]: {fault}")
    for rule in spec.rules:
        if not _obeys(value, rule):
            verb = "has not" if rule.endswith("entries") else "is not"
            raise ParameterError(f"{spec.name}: {_short(value)} {verb} {rule}")
    return [float(each) for each in value] if spec.entry == "float" else value


def _entries(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _obeys(entries: list, rule: str) -> bool:
    if rule == "increasing":
        return all(a < b for a, b in zip(entries, entries[1:], strict=False))
    if rule == "distinct":
        return len(set(entries)) == len(entries)
    least, *most = (int(word) for word in re.findall(r"\d+", rule))
    return least <= len(entries) <= (most or [least])[0]


def _short(value: object) -> str:
    """A value on one line of at most 60 characters."""
    try:
        text = " ".join(
            (value if isinstance(value, str) and value.isidentifier() else repr(value)).split()
        )
    except ValueError:  # Python refuses to print the longest integers
        text = f"an integer of {value.bit_length()} bits"
    return text if len(text) <= 60 else text[:59] + "…"
