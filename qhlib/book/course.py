"""The exercises of the notebooks as a course: assignments in nbgrader's format, made by nbgrader.

Why nbgrader and not otter: it cuts a student's version out of *notebooks*, whose checks stand
below the answers where students run them, with nothing installed but Jupyter; hidden checks, cut
solutions, a gradebook and feedback are its own. Otter cuts a master document of its own raw cells,
keeps the tests in metadata, and needs its package in every student's notebook.

Conventions
-----------
* An exercise is an ``{exercise}`` with a ``:label:``; code between it and its ``{solution-start}``
  is given to students. The solution has one code cell: what stands above the line ``# check``
  students write, the lines below check it, and those below ``# hidden check`` only a teacher sees.
  The text of a solution is cut from what students get, too.
* Of an answer's functions students see names, arguments and docstrings; of everything else the
  names that the checks read.
* An assignment has those cells of its notebook that the exercises need, at the effort ``smoke``,
  and one point for each exercise. Ids of graded cells are the exercises' labels.
* A course is written whole or not at all.
"""

import ast
import dis
import json
import os
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from .errors import BookError, ChapterError
from .notebook import Notebook, chapter_paths, find_chapter, read_notebook

FENCE = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>exercise|solution)(?P<edge>-start|-end)?\} *(?P<title>.*)"
    r"\n(?P<options>(?::[\w-]+:.*\n)*)(?P<body>(?s:.*?))^(?P=fence) *$",
    re.MULTILINE,
)
CUT = re.compile(r"^# (check|hidden check)\n", re.MULTILINE)
LOADS = ("LOAD_NAME", "LOAD_GLOBAL")
HEAD = """\
# Exercises: {title}

They belong to *{title}*, a chapter of *Margins in Motion*: read it first. All that they need is
the book's package, `qhlib`. The cells up to the first exercise are the chapter's own, with its
smallest settings. Run them and leave them as they are. Write your answers where it says
`YOUR CODE HERE` or `YOUR ANSWER HERE`. The cell below an answer checks it; what your teacher runs
may check more.
"""
THREADS = """\
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on small matrices more threads only cost
"""
CONFIG = """\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "margins-in-motion"
c.ExecutePreprocessor.timeout = None  # a slow machine is no student's fault
"""
README = """\
# Exercises of Margins in Motion, a course in nbgrader's format

`source/` has the solutions, `release/` is what students get (`student-release.zip`), and
`gradebook.db` knows the points. All of it needs `qhlib`, and grading needs `nbgrader`. Put what
students hand in into `submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`, then, in this folder:

    nbgrader autograde foundations
    nbgrader generate_feedback foundations
    nbgrader export

Derivations carry no points of their own: read them in `jupyter lab` with the form grader.
"""


@dataclass
class Exercise:
    """An exercise: its text, the code that is given, and its solution's text and three parts."""

    label: str
    title: str
    statement: str
    given: list[dict] = field(default_factory=list)
    solution: dict | None = None
    derivation: str = ""
    answer: str = ""
    check: str = ""
    hidden: str = ""


def write_course(names: Sequence[str], output: str | os.PathLike) -> list[Path]:
    """Write the course of the notebooks `names`, or of all that have exercises, into the new
    folder `output`; returns the folder and its two archives.

    Raises :class:`BookError` when the folder is there already or cannot be written, a notebook is
    not there or badly written, or nbgrader refuses it; nothing is left then.
    """
    import nbgrader  # noqa: F401  # what is not installed is said before anything is read

    output = Path(output).absolute()
    if output.exists() or output.is_symlink():
        raise BookError(f"{output} exists; remove it, or choose another folder with -o")
    paths = dict.fromkeys(map(find_chapter, names)) or chapter_paths().values()
    books = {book.name: book for book in map(read_notebook, paths)}
    if len(books) < len(paths):
        raise BookError("two of these notebooks have the same name")
    try:
        made = {name: assignment(b) for name, b in books.items() if names or exercises(b)}
    except SyntaxError as error:
        raise ChapterError(f"a cell is not plain Python: {error}") from None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".course-") as scratch:
            root = Path(scratch) / "course"
            for name, content in made.items():
                path = root / "source" / name / f"{name}.ipynb"
                path.parent.mkdir(parents=True)
                text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
                path.write_text(text, encoding="utf-8", newline="")
            (root / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
            (root / "README.md").write_text(README, encoding="utf-8")
            release(root, made)
            pack = shutil.make_archive(f"{scratch}/instructor-pack", "zip", root)
            shutil.make_archive(str(root / "student-release"), "zip", root / "release")
            shutil.move(pack, root)
            os.rename(root, output)
    except OSError as error:
        raise BookError(f"{output} cannot be written: {error.strerror or error}") from None
    return [output, output / "student-release.zip", output / "instructor-pack.zip"]


def release(root: Path, names: Iterable[str]) -> None:
    """Let nbgrader make the students' version of each assignment in ``root/source``.

    Raises :class:`BookError` with nbgrader's own words when it refuses one.
    """
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    api = NbGraderAPI(config=Config(CourseDirectory={"root": str(root)}))
    with scripts():
        for name in names:
            told = api.generate_assignment(name)
            if not told["success"]:
                raise BookError(f"nbgrader refuses {name}: {told['log'] or told['error']}")


def scripts():
    """A context in which the commands of this environment are found: nbgrader starts `alembic`,
    and an environment need not be activated.

    >>> with scripts(): os.environ["PATH"].startswith(sysconfig.get_path("scripts"))
    True
    """
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    return mock.patch.dict(os.environ, PATH=path)


def exercises(book: Notebook) -> list[Exercise]:
    """The exercises of a notebook, in order.

    Raises :class:`ChapterError` for an exercise without a label or without a solution that checks
    an answer, and for a solution that belongs to no exercise.
    """
    found: list[Exercise] = []
    inside = False
    for cell in book.cells:
        if cell["cell_type"] == "code":
            unsolved = found and found[-1].solution is None
            if inside and unsolved:
                _solve(found[-1], cell, book.name)
            elif unsolved:
                found[-1].given.append(cell)
            elif inside:
                _fail(book.name, found[-1].label, "its solution has several code cells")
            continue
        place = 0
        for match in [*FENCE.finditer(cell["source"]), None]:
            if inside:
                found[-1].derivation += cell["source"][place : match.start() if match else None]
            if match is None:
                break
            place, kind = match.end(), f"{match['kind']}{match['edge'] or ''}"
            label = re.search(r"^:label: *(\S+)", match["options"], re.MULTILINE)
            if kind == "exercise" and label and not inside:
                title = match["title"].strip() or "Exercise"
                found.append(Exercise(label[1], title, match["body"].strip()))
            elif kind == "solution-start" and found and match["title"].strip() == found[-1].label:
                inside = True
            elif kind == "solution-end" and inside:
                inside = False
            else:
                _fail(book.name, match["title"].strip(), f"{{{kind}}} cannot stand here")
    for each in found:
        if each.solution is None:
            _fail(book.name, each.label, "it has no solution with a code cell")
    return found


def _fail(name: str, label: str, fault: str):
    raise ChapterError(f"{name}: exercise {label!r}: {fault}")


def _solve(exercise: Exercise, cell: dict, name: str) -> None:
    """Take the three parts of a solution's code."""
    exercise.solution = cell
    exercise.answer, *rest = CUT.split(cell["source"])
    parts = dict(zip(rest[::2], rest[1::2], strict=True))
    exercise.check, exercise.hidden = parts.get("check", ""), parts.get("hidden check", "")
    checks = exercise.check + exercise.hidden
    if "assert " not in checks or not bound(exercise.answer) & reads(checks):
        _fail(name, exercise.label, "below the line `# check` no assert reads what its answer is")


def bound(source: str) -> set[str]:
    """Names that a cell binds.

    >>> bound("a = 1\\ndef f(): b = 2")  == {"a", "f"}
    True
    """
    code = compile(source, "<cell>", "exec")
    return {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_NAME"}


def reads(source: str) -> set[str]:
    """Names that a cell, or a function in it, takes from the cells before.

    >>> sorted(reads("def f(): return a + b\\nb = 1\\nc = f(b)"))
    ['a']
    """
    code, found, before = compile(source, "<cell>", "exec"), set(), set()
    for each in dis.get_instructions(code):
        if each.opname == "STORE_NAME":
            before.add(each.argval)
        elif each.opname in LOADS and each.argval not in before:
            found.add(each.argval)
    inner = (each for each in code.co_consts if hasattr(each, "co_consts"))
    return found.union(*map(_globals, inner)) - (before - found)


def _globals(code) -> set[str]:
    found = {each.argval for each in dis.get_instructions(code) if each.opname in LOADS}
    return found.union(*map(_globals, (c for c in code.co_consts if hasattr(c, "co_consts"))))


def needed(sources: Sequence[str], names: Iterable[str], call: str = "") -> list[bool]:
    """For each cell, whether what comes after needs it: it binds one of `names` or a name that a
    needed cell reads, or it has the text `call`.

    >>> needed(["a = 1", "b = 2", "c = a"], {"c"})
    [True, False, True]
    """
    names, keep = set(names), []
    for source in reversed(sources):
        binds = bound(source)
        keep.append(bool(binds & names) or bool(call) and call in source)
        names = (names - binds) | reads(source) if keep[-1] else names
    return keep[::-1]


def assignment(book: Notebook) -> dict:
    """The teacher's version of a notebook's exercises, with nbgrader's marks.

    Raises :class:`ChapterError` when the notebook has no exercises or they are badly written.
    """
    found = exercises(book)
    if not found:
        raise ChapterError(f"{book.name} has no exercises")
    own = [cell for each in found for cell in (*each.given, each.solution)]
    code = [cell for cell in book.cells if cell["cell_type"] == "code" and cell not in own]
    wanted = set().union(*(reads(cell["source"]) for cell in own))
    keep = needed([cell["source"] for cell in code], wanted)
    cells = [_cell("markdown", "head", HEAD.format(title=book.title))]
    cells.append(_cell("code", "setup-threads", THREADS, locked=True))
    for number, (cell, kept) in enumerate(zip(code, keep, strict=True)):
        if kept or "parameters" in cell["metadata"].get("tags", []):
            key = cell.get("id", number)
            smoke = re.sub(r'^(effort: str = )"\w+"', r'\1"smoke"', cell["source"], flags=re.M)
            cells.append(_cell("code", f"setup-{key}", smoke, locked=True))
    seen: dict[str, int] = {}
    for number, each in enumerate(found, 1):
        title = f"## {number}. {plain(each.title, book, seen)}\n\n"
        cells.append(_cell("markdown", each.label, title + plain(each.statement, book, seen)))
        for part, cell in enumerate(each.given, 1):
            cells.append(_cell("code", f"{each.label}-given-{part}", cell["source"], locked=True))
        if words := plain(each.derivation, book, seen).strip():
            text = f"### BEGIN SOLUTION\n{words}\n### END SOLUTION"
            marks = {"solution": True, "grade": True, "points": 0}
            cells.append(_cell("markdown", f"{each.label}-why", text, **marks))
        cells.append(_cell("code", f"{each.label}-answer", with_marks(each), solution=True))
        checks = each.check.rstrip("\n")
        if each.hidden:
            hidden = each.hidden.rstrip("\n")
            checks += f"\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
        checks = f"# One point when this cell runs without an error.\n{checks}"
        marks = {"grade": True, "locked": True, "points": 1}
        cells.append(_cell("code", f"{each.label}-check", checks, **marks))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(kind: str, key: str, source: str, **marks) -> dict:
    """A cell; with `marks` one that nbgrader knows."""
    none = {"grade": False, "locked": False, "solution": False, "task": False}
    known = {"nbgrader": {"grade_id": key, "schema_version": 3, **none, **marks}}
    cell = {"cell_type": kind, "id": key[-64:], "metadata": known if marks else {}}
    cell["source"] = source.rstrip("\n")
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def with_marks(exercise: Exercise) -> str:
    """The code of an answer, with marks around what students have to write.

    >>> print(with_marks(Exercise("e", "", "", answer="a = 1  # one", check="assert a == 1")))
    # Define: a
    ### BEGIN SOLUTION
    a = 1  # one
    ### END SOLUTION
    """
    lines = exercise.answer.rstrip("\n").splitlines()
    shown: list[str] = []
    hidden: list[str] = []
    place, functions = 0, set()

    def cut(indent: str = "") -> None:
        if any(line.strip() for line in hidden):
            marks = f"{indent}### BEGIN SOLUTION", f"{indent}### END SOLUTION"
            shown.extend([marks[0], *hidden, marks[1]])
        hidden.clear()

    for node in ast.parse(exercise.answer).body:
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno > node.lineno:
            cut()
            functions.add(node.name)
            told = ast.get_docstring(node) is not None
            first = node.body[0].end_lineno if told else node.body[0].lineno - 1
            shown += lines[place:first]
            hidden += lines[first : node.end_lineno]
            cut(" " * node.body[0].col_offset)
        else:
            hidden += lines[place : node.end_lineno]
        place = node.end_lineno
    hidden += lines[place:]
    cut()
    names = (bound(exercise.answer) - functions) & reads(exercise.check + exercise.hidden)
    # in the order in which they are written, as a reader thinks of them
    order = sorted(names, key=lambda name: re.search(rf"\b{name}\b", exercise.answer).start())
    return "\n".join([f"# Define: {', '.join(order)}"] * bool(order) + shown)


def plain(text: str, book: Notebook, seen: dict[str, int]) -> str:
    """MyST's text in words that plain Jupyter shows; an equation that it names follows where it is
    named first, and `seen` has the equations' numbers.

    >>> plain("By {eq}`eq-a`.", Notebook(Path("a.ipynb"), {"cells": []}), {})
    'By (eq-a).'
    """
    prose = "\n".join(c["source"] for c in book.cells if c["cell_type"] == "markdown")
    shown = []
    for label in dict.fromkeys(re.findall(r"\{eq\}`([^`]+)`", text)):
        block = re.search(rf"^ *\$\$\n((?:(?!\$\$).)*?)\n *\$\$ \({label}\)", prose, re.M | re.S)
        if block and label not in seen:
            seen[label] = len(seen) + 1
            shown.append(f"\n\n$$\n{block[1].rstrip(' .,')} \\tag{{{seen[label]}}}\n$$")
    text = re.sub(r"\{eq\}`([^`]+)`", lambda role: f"({seen.get(role[1], role[1])})", text)
    text = re.sub(r"\{[\w:-]+\}`([^`]+?)(?: *<[^`]*>)?`", r"*\1*", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\.(?:ipynb|md)[^)]*\)", r"\1", text)
    return text + "".join(shown)
