"""What a notebook claims, read from its text without executing it, and claims as lines of text.

Conventions
-----------
* A claim's words stand in a markdown cell, in a directive that reads like a theorem::

      ::::{claim} Robustness on two balls follows the closed form {eq}`eq-ball-robustness`.
      :name: ball-robustness
      :source: derived here, from the theorem of Kunin et al. (2023)
      :tolerance: set before the first run: ten times the flow's own error estimate
      ::::

  and its numbers come from one call ``chapter.claim("ball-robustness", predicted=..., ...)``.
* The basis is ``derived`` unless ``:basis:`` says ``stated`` (in the paper) or ``conjecture``. The
  statement may go on below the options.
* Nothing here needs NumPy or a kernel, so that ``describe`` answers at once.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache

from .errors import ChapterError, nearest

RELATIONS = {"=": "", "<=": "≤ ", ">=": "≥ "}
BASES = {"stated": "stated in the paper", "derived": "derived here", "conjecture": "conjecture"}
VERDICTS = {"reproduced": "✓", "deviates": "✗", "outside": "○"}
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
OPTIONS = ("name", "source", "tolerance", "basis")
# A directive of a cell itself; one inside a fence that shows code begins in a line that is not its
# own.
BLOCK = re.compile(
    r"^(?P<shown>(?P<ticks>`{3,})(?!\{claim\}).*?^(?P=ticks) *$)"
    r"|^(?P<fence>:{3,}|`{3,})\{claim\} *(?P<text>.*?)\n(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class DeclaredClaim:
    """The words of one claim, and where they stand: "cell 4, line 2", all cells counted from 1."""

    name: str
    statement: str
    source: str
    tolerance_from: str
    basis: str = "derived"
    place: str = ""

    def words(self, prefix: str) -> dict:
        """The words as data; `prefix` is the notebook's.

        >>> DeclaredClaim("one", "x < 1", "Theorem 1", "rounding").words("tiny")["id"]
        'tiny/one'
        """
        told = {key: value for key, value in vars(self).items() if key != "place"}
        return {"id": f"{prefix}/{self.name}", **told, "anchor": f"claim-{prefix}-{self.name}"}


def declared_claims(notebook) -> dict[str, DeclaredClaim]:
    """The claims that `notebook` declares, by name, checked against the measurements in its code.

    Raises :class:`ChapterError` with the cell and the line for a directive with an unknown,
    missing or empty option, two claims of one name, a claim that is never measured or is measured
    twice, and a measurement of no claim.
    """
    found: dict[str, DeclaredClaim] = {}
    measured: set[str] = set()

    def refuse(place: str, what: str):
        raise ChapterError(f"{notebook.name}, {place}: {what}")

    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("cell_type") == "markdown":
            for block in BLOCK.finditer(cell["source"]):
                if block["fence"]:
                    claim = read_claim(block, f"cell {number}", refuse)
                    if claim.name in found:
                        refuse(claim.place, f"the claim {claim.name} is declared twice")
                    found[claim.name] = claim
    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("cell_type") == "code":
            for name, line in measurements(cell["source"]):
                place = f"cell {number}, line {line}"
                if name not in found:
                    hint = nearest(str(name), found) or "; write a {claim} directive for it"
                    refuse(place, f"no claim is called {name!r}{hint}")
                if name in measured:
                    refuse(place, f"the claim {name} is measured twice")
                measured.add(name)
    for name in found.keys() - measured:
        call = f'call chapter.claim("{name}", predicted=..., measured=..., tolerance=...) once'
        refuse(found[name].place, f"the claim {name} is never measured; {call}")
    return found


def read_claim(block: re.Match, cell: str, refuse) -> DeclaredClaim:
    """One directive, as `BLOCK` finds it, as a claim; `refuse(place, what)` raises."""
    first = block.string.count("\n", 0, block.start()) + 1
    statement, *body = block["text"].splitlines() or [""]
    options: dict[str, str] = {}
    while body and (option := re.match(r":([\w-]+):\s*(.*)", body[0])):
        if option[1] not in OPTIONS:
            hint = nearest(option[1], OPTIONS) or f"; it has {', '.join(OPTIONS)}"
            line = first + len(options) + 1
            refuse(f"{cell}, line {line}", f"a claim has no option {option[1]!r}{hint}")
        options[option[1]] = option[2].strip()
        body.pop(0)
    place, statement = f"{cell}, line {first}", "\n".join([statement, *body]).strip()
    missing = [key for key in OPTIONS[:3] if not options.get(key)] or ["statement"] * (
        not statement
    )
    if missing:
        refuse(place, f"the claim lacks its {' and its '.join(missing)}")
    basis = options.get("basis", "derived")
    if basis not in BASES:
        refuse(place, f"basis {basis!r} is not one of {', '.join(BASES)}")
    if not NAME.fullmatch(options["name"]):
        refuse(
            place, f"the name {options['name']!r} is not made of small letters, digits and hyphens"
        )
    words = (options["name"], statement, options["source"], options["tolerance"])
    return DeclaredClaim(*words, basis, place)


@cache  # a book reads a notebook before it is executed, and afterwards
def measurements(code: str) -> tuple[tuple[str | None, int], ...]:
    """Names and lines of the calls ``chapter.claim("name", ...)``; None for a name that is no
    literal.

    >>> measurements('chapter.claim("one", predicted=1, measured=x, tolerance=0)')
    (('one', 1),)
    """
    try:
        tree = ast.parse(re.sub(r"^[%!].*", "pass", code, flags=re.MULTILINE))
    except SyntaxError:
        return ()  # the kernel will say what is wrong with it
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "chapter.claim":
            name = getattr(call.args[0], "value", None) if call.args else None
            found.append((name, call.lineno))
    return tuple(found)


# --- a row (words and numbers of a claim) as text
# ---------------------------------------------------


def numbers(row: dict) -> str:
    """The numbers of a row as a reader sees them.

    >>> numbers({"predicted": 0.5, "relation": "<=", "measured": 0.4, "entries": 3,
    ...          "tolerance": 0.1, "relative": True})
    'predicted ≤ 0.5, measured 0.4 (worst of 3), tolerance 0.1 (relative)'
    """
    keys = ("predicted", "measured", "tolerance")
    p, m, t = (row[key] if isinstance(row[key], str) else f"{row[key]:.6g}" for key in keys)
    worst = f" (worst of {row['entries']})" if row["entries"] > 1 else ""
    relative = " (relative)" if row["relative"] else ""
    return (
        f"predicted {RELATIONS[row['relation']]}{p}, measured {m}{worst}, tolerance {t}{relative}"
    )


def line(row: dict) -> str:
    """A claim on one line, nothing cut: verdict, id, numbers, and the reason where it carries
    one."""
    reason = row["outside"] or row["expected_deviation"]
    name = row.get("id", row["name"])
    told = f"{VERDICTS[row['verdict']]} {row['verdict']} {name}: {numbers(row)}"
    return f"{told}; {reason}" if reason else told


def fails(row: dict) -> bool:
    """Whether a row deviates without having been declared to.

    >>> fails({"verdict": "deviates", "expected_deviation": ""})
    True
    """
    return row["verdict"] == "deviates" and not row["expected_deviation"]
