"""What a notebook claims, read from its text without executing it, and claims as lines of text.

Conventions
-----------
* A claim's words stand in a markdown cell, in a directive that reads like a theorem::

      ::::{claim} Robustness on two balls follows the closed form {eq}`eq-ball-robustness`.
      :name: ball-robustness
      :source: derived here, from the theorem of Kunin et al. (2023)
      :tolerance: set before the first run: ten times the flow's own error estimate, at most 1e-3
      ::::

  and its numbers come from exactly one call ``chapter.claim("ball-robustness", predicted=..., ...)``.
* The basis is ``derived`` unless ``:basis:`` says ``stated`` (in the paper) or ``conjecture``. The statement may go on
  below the options.
* Nothing here needs NumPy or a kernel, so that ``describe`` answers at once.
"""

import ast
import re
from dataclasses import dataclass

from .errors import ChapterError, nearest

RELATIONS = {"=": "=", "<=": "≤", ">=": "≥"}
BASES = {"stated": "stated in the paper", "derived": "derived here", "conjecture": "conjecture"}
VERDICTS = {"reproduced": "✓", "deviates": "✗", "outside": "○"}
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
OPTIONS = {"name": True, "source": True, "tolerance": True, "basis": False}  # whether required
_OPEN = re.compile(r"^\s*(?P<fence>:{3,}|`{3,})\{(?P<kind>[\w:-]+)\}\s*(?P<rest>.*)$")
_OPTION = re.compile(r"^\s*:(?P<key>[\w-]+):\s*(?P<value>.*)$")


@dataclass(frozen=True)
class DeclaredClaim:
    """The words of one claim, and where they stand (`cell` counts all cells from 1)."""

    name: str
    statement: str
    source: str
    tolerance_from: str
    basis: str = "derived"
    cell: int = 0
    line: int = 0

    def words(self, prefix: str) -> dict:
        """The words as data; `prefix` is the notebook's.

        >>> DeclaredClaim("one", "x < 1", "Theorem 1", "rounding").words("tiny")["id"]
        'tiny/one'
        """
        return {
            "id": f"{prefix}/{self.name}",
            "statement": self.statement,
            "source": self.source,
            "basis": self.basis,
            "tolerance_from": self.tolerance_from,
            "anchor": f"claim-{self.name}",
        }


def directives(text: str):
    """Each ``{claim}`` of a markdown cell: its first line's number, the rest of that line, and the lines inside.

    Directives inside the fence of another (a code block that shows one, say) are not the cell's own, except in
    the boxes and folds that colon fences make.

    >>> [found[:2] for found in directives(":::{claim} It holds.\\n:name: a\\n:::")]
    [(1, 'It holds.')]
    >>> list(directives("```\\n:::{claim} shown only\\n:::\\n```"))
    []
    """
    lines, number = text.splitlines(), 0
    verbatim = ""  # the fence of a block whose inside is not markdown
    while number < len(lines):
        line, number = lines[number], number + 1
        if verbatim:
            verbatim = "" if line.strip() == verbatim else verbatim
        elif (found := _OPEN.match(line)) and found["kind"] == "claim":
            inside, first = [], number
            while number < len(lines) and lines[number].strip() != found["fence"]:
                inside.append(lines[number])
                number += 1
            number += 1
            yield first, found["rest"].strip(), inside
        elif line.lstrip().startswith("```") and (not found or found["kind"] in ("code", "code-cell", "math")):
            verbatim = re.match(r"\s*(`+)", line)[1]


def declared_claims(notebook) -> dict[str, DeclaredClaim]:
    """The claims that `notebook` declares, by name, checked against the measurements in its code.

    Raises :class:`ChapterError` with the cell and the line for a directive with an unknown, missing or empty option,
    two claims of one name, a claim that is never measured or is measured twice, and a measurement of no claim.
    """
    found: dict[str, DeclaredClaim] = {}
    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("cell_type") != "markdown":
            continue
        for line, rest, inside in directives(cell["source"]):
            place = f"{notebook.name}, cell {number}, line {line}: "
            claim = _read(place, rest, inside, number, line)
            if claim.name in found:
                raise ChapterError(f"{place}the claim {claim.name} is declared before, in cell "
                                   f"{found[claim.name].cell}")  # fmt: skip
            found[claim.name] = claim
    measured: dict[str, str] = {}
    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("cell_type") != "code":
            continue
        for name, line in measurements(cell["source"]):
            place = f"{notebook.name}, cell {number}, line {line}: "
            if name is None:
                raise ChapterError(f"{place}write the claim's name as a text in quotes")
            if name not in found:
                hint = nearest(name, found) or "; write a {claim} directive for it"
                raise ChapterError(f"{place}no claim is called {name!r}{hint}")
            if name in measured:
                raise ChapterError(f"{place}the claim {name} is measured before, in {measured[name]}")
            measured[name] = f"cell {number}"
    for name, claim in found.items():
        if name not in measured:
            raise ChapterError(
                f"{notebook.name}, cell {claim.cell}, line {claim.line}: the claim {name} is never measured; "
                f'call chapter.claim("{name}", predicted=..., measured=..., tolerance=...) once'
            )
    return found


def _read(place: str, rest: str, inside: list[str], cell: int, line: int) -> DeclaredClaim:
    """One directive as a claim; `inside` holds the options and whatever goes on with the statement."""
    options: dict[str, str] = {}
    body = list(inside)
    while body and (option := _OPTION.match(body[0])):
        key, value = option["key"], option["value"].strip()
        if key not in OPTIONS:
            hint = nearest(key, OPTIONS) or f"; it has {', '.join(OPTIONS)}"
            at = place.replace(f"line {line}:", f"line {line + len(inside) - len(body) + 1}:")
            raise ChapterError(f"{at}a claim has no option {key!r}{hint}")
        options[key] = value
        body.pop(0)
    statement = "\n".join([rest, *body]).strip()
    missing = [key for key, required in OPTIONS.items() if required and not options.get(key)]
    if missing or not statement:
        raise ChapterError(f"{place}the claim lacks its {' and its '.join(missing or ['statement'])}")
    if not NAME.fullmatch(options["name"]):
        raise ChapterError(
            f"{place}the claim's name {options['name']!r} is not made of small letters, digits and hyphens"
        )
    basis = options.get("basis", "derived")
    if basis not in BASES:
        raise ChapterError(f"{place}basis {basis!r} is not one of {', '.join(BASES)}")
    words = (options["name"], statement, options["source"], options["tolerance"], basis)
    return DeclaredClaim(*words, cell, line)


def measurements(code: str):
    """Names and lines of the calls ``chapter.claim("name", ...)`` in `code`; None for a name that is no literal.

    Calls in the old form, which carry their words themselves, are left out.

    >>> list(measurements('chapter.claim("one", predicted=1, measured=x, tolerance=0)'))
    [('one', 1)]
    """
    plain = "\n".join("pass" if line.startswith(("%", "!")) else line for line in code.splitlines())
    try:
        tree = ast.parse(plain)
    except SyntaxError:
        return  # the kernel will say what is wrong with it
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr != "claim" or getattr(node.func.value, "id", "") != "chapter":
            continue
        if len(node.args) > 1 or any(word.arg == "statement" for word in node.keywords):
            continue
        first = node.args[0] if node.args else None
        literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
        yield (first.value if literal else None), node.lineno


# --- a row (words and numbers of a claim) as text ---------------------------------------------------


def number(value: float | str) -> str:
    """A number with at most six significant digits.

    >>> number(0.63), number(1e-12), number("nan")
    ('0.63', '1e-12', 'nan')
    """
    return value if isinstance(value, str) else f"{value:.6g}"


def shown(row: dict) -> dict[str, str]:
    """The numbers of a row as a reader sees them: prediction with its relation, measurement, tolerance.

    >>> shown({"predicted": 0.5, "relation": "<=", "measured": 0.4, "entries": 3, "tolerance": 0.1, "relative": True})
    {'predicted': '≤ 0.5', 'measured': '0.4 (worst of 3)', 'tolerance': '0.1 (relative)'}
    """
    sign = "" if row["relation"] == "=" else RELATIONS[row["relation"]] + " "
    worst = f" (worst of {row['entries']})" if row["entries"] > 1 else ""
    return {
        "predicted": sign + number(row["predicted"]),
        "measured": number(row["measured"]) + worst,
        "tolerance": number(row["tolerance"]) + (" (relative)" if row["relative"] else ""),
    }


def line(row: dict) -> str:
    """A claim on one line, nothing cut: verdict, id, numbers, and the reason where it carries one.

    >>> line({"verdict": "outside", "id": "a/b", "predicted": 0.5, "relation": "=", "measured": 0.4, "entries": 1,
    ...       "tolerance": 0.1, "relative": False, "outside": "d < n", "expected_deviation": ""})
    '○ outside a/b: predicted 0.5, measured 0.4, tolerance 0.1; d < n'
    """
    numbers = ", ".join(f"{key} {value}" for key, value in shown(row).items())
    reason = row["outside"] or row["expected_deviation"]
    name = row.get("id", row.get("name"))
    return f"{VERDICTS[row['verdict']]} {row['verdict']} {name}: {numbers}" + (f"; {reason}" if reason else "")


def fails(row: dict) -> bool:
    """Whether a row deviates without having been declared to.

    >>> fails({"verdict": "deviates", "expected_deviation": ""})
    True
    """
    return row.get("verdict") == "deviates" and not row.get("expected_deviation")
