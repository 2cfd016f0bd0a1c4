"""The course: graded by nbgrader itself, and searched for solutions that leak into what students
get."""

import json
import os
import re
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="the extra `course` is not installed")

from qhlib.book import course
from qhlib.book.cli import main
from qhlib.book.errors import BookError
from qhlib.book.notebook import read_notebook

from .conftest import ROOT

NOTEBOOKS = {p.stem: read_notebook(p) for p in sorted((ROOT / "notebooks").glob("*.ipynb"))}
LEADS = {"foundations", "asymmetric_margin", "leaky_relu_rank_two", "nonhomogeneous_gd"}
LEADS |= {"lexicographic_margin", "square_loss_bn_wd", "five_biases"}
# Grading all 24 takes minutes: QHLIB_COURSE=1, or `make test-course`
GRADED = list(NOTEBOOKS) if os.environ.get("QHLIB_COURSE") else ["foundations", "rising_margin"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The whole course, as `make course` writes it."""
    folder = tmp_path_factory.mktemp("course") / "course"
    course.write_course([], folder)
    return folder


def cells(path: Path) -> list[dict]:
    return read_notebook(path).cells


def released(folder: Path, name: str) -> Path:
    return folder / "release" / name / f"{name}.ipynb"


# --- what the notebooks hold ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_has_exercises_whose_solutions_assert(name):
    found = course.exercises(NOTEBOOKS[name])
    assert len(found) >= (3 if name in LEADS else 1)
    assert len({each.label for each in found}) == len(found)
    assert all("assert " in each.check + each.hidden for each in found)
    if name in LEADS:  # one takes a guess, and its checker answers only then
        assert any("check_guess" in each.check and each.given for each in found)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_exercise_needs_the_solution_of_another(name):
    found = course.exercises(NOTEBOOKS[name])
    for number, each in enumerate(found):
        own = set().union(*(course.bound(cell["source"]) for cell in each.given))
        asks = course.reads(each.solution["source"]) - own
        others = (other for other in found[:number])
        told = set().union(*(course.bound(other.solution["source"]) for other in others))
        parts = [c for e in found for c in (*e.given, e.solution)]
        page = [c["source"] for c in NOTEBOOKS[name].cells if c["cell_type"] == "code"]
        page = set().union(*map(course.bound, page[: len(page) - len(parts)]))
        assert not (asks & told) - page, f"{each.label} reads {asks & told}"


# --- graded by nbgrader --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Object of type")  # SQLAlchemy of nbgrader's own code
@pytest.mark.parametrize("name", GRADED)
def test_the_solved_assignment_gets_all_points_and_the_empty_one_none(made, name):
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    source = {c["id"]: c["source"] for c in cells(made / "source" / name / f"{name}.ipynb")}
    content = json.loads(released(made, name).read_text("utf8"))
    for student in ("empty", "solved"):
        if student == "solved":
            for cell in content["cells"]:
                if cell["metadata"].get("nbgrader", {}).get("solution"):
                    cell["source"] = source[cell["id"]]
        path = made / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content), "utf8")
    config = Config(CourseDirectory={"root": str(made)}, ExecutePreprocessor={"timeout": None})
    api = NbGraderAPI(config=config)
    with course.scripts():
        for student in ("empty", "solved"):
            told = api.autograde(name, student)
            assert told["success"], told["log"]
    with api.gradebook as book:
        score = {s: book.find_submission_notebook(name, name, s) for s in ("empty", "solved")}
        most = len(course.exercises(NOTEBOOKS[name]))
        assert score["solved"].max_score == most
        assert (score["empty"].score, score["solved"].score) == (0, most)


# --- nothing leaks -------------------------------------------------------------------------------

NUMBER = re.compile(r"(?<![\w.])\d+\.\d{2,}(?![\w.])|(?<![\w.])\d{3,}(?![\w.])")


def secrets(name: str):
    """Lines, sentences and numbers that students are not to see."""
    for each in course.exercises(NOTEBOOKS[name]):
        marked = course.with_marks(each)
        for region in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", marked, re.S):
            yield from region.splitlines()
        yield from each.hidden.splitlines()
        yield from re.split(r"(?<=[.:;?])\s+|\n", each.derivation)
        yield from re.findall(r"\$([^$]{8,})\$", each.derivation)
        shown = each.statement + each.check + "".join(c["source"] for c in each.given)
        hidden = each.derivation + each.hidden + each.answer
        yield from set(NUMBER.findall(hidden)) - set(NUMBER.findall(shown))


def public(name: str) -> str:
    """What an answer may repeat: the questions, what is given, and the code of the page itself."""
    found = course.exercises(NOTEBOOKS[name])
    told = [f"{each.title} {each.statement}" for each in found]
    solutions = [each.solution for each in found]
    page = [c for c in NOTEBOOKS[name].cells if c["cell_type"] == "code" and c not in solutions]
    return " ".join(" ".join([*told, *(cell["source"] for cell in page)]).split())


def leaks(path: Path, name: str) -> list[str]:
    """The secrets that the notebook at `path` tells, in its text or its outputs."""
    text = "\n".join(json.dumps(cell, ensure_ascii=False) for cell in cells(path))
    text = "\n".join([text, *(cell["source"] for cell in cells(path))])
    lines = {line.strip() for line in text.splitlines()}
    words, known = " ".join(text.split()), public(name)
    found = []
    for secret in secrets(name):
        secret = " ".join(secret.split())
        if len(secret) < 4 or secret in ("return", "else:", "try:") or secret in known:
            continue
        whole = rf"(?<![\w.]){re.escape(secret)}(?![\w.])"
        told = len(secret) > 12 or NUMBER.fullmatch(secret)
        if secret in lines or (told and re.search(whole, words)):
            found.append(secret)
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_solution_leaks_into_the_student_release(made, name):
    path = released(made, name)
    assert not [cell for cell in cells(path) if cell.get("outputs") or "attachments" in cell]
    assert not re.search(r"(BEGIN|END) (SOLUTION|HIDDEN)|solution-start", path.read_text("utf8"))
    assert not leaks(path, name)


def test_a_leak_would_be_found(made):
    """The search finds the solutions in the teacher's version."""
    for name in NOTEBOOKS:
        path = made / "source" / name / f"{name}.ipynb"
        assert len(leaks(path, name)) >= len(course.exercises(NOTEBOOKS[name])), name


def test_students_get_their_notebooks_and_nothing_else(made):
    inside = zipfile.ZipFile(made / "student-release.zip").namelist()
    assert sorted(n for n in inside if not n.endswith("/")) == [
        f"{n}/{n}.ipynb" for n in sorted(NOTEBOOKS)
    ]
    pack = zipfile.ZipFile(made / "instructor-pack.zip").namelist()
    for part in ("gradebook.db", "nbgrader_config.py", "README.md"):
        assert part in pack
    assert {f"source/{n}/{n}.ipynb" for n in NOTEBOOKS} <= set(pack)


def test_cells_are_known_by_names_that_stay(made):
    """Grades hang on them; a course that is made again has the same."""
    for name, book in NOTEBOOKS.items():
        marks = [c["metadata"].get("nbgrader", {}) for c in cells(released(made, name))]
        graded = [m["grade_id"] for m in marks if m.get("grade") and m["points"]]
        assert graded == [f"{each.label}-check" for each in course.exercises(book)]
        given = [m for m in marks if m and not m["solution"]]
        assert given and all(m["locked"] for m in given)


def test_plain_jupyter_shows_the_text(made):
    for name in NOTEBOOKS:
        for cell in cells(made / "source" / name / f"{name}.ipynb"):
            if cell["cell_type"] == "markdown":
                assert not re.search(r"^(:{3,}|```\{)|\{[\w:]+\}`|\(eq-", cell["source"], re.M), (
                    name
                )


def test_the_page_on_teaching_names_what_there_is():
    """Every notebook and every exercise has its place in the six weeks; all references resolve in
    a strict build."""
    text = (ROOT / "course.md").read_text("utf8")
    weeks = text[text.index("## Six weeks") :]
    assert set(re.findall(r"\(notebooks/(\w+)\.ipynb\)", weeks)) == set(NOTEBOOKS)
    labels = [each.label for book in NOTEBOOKS.values() for each in course.exercises(book)]
    assert sorted(re.findall(r"\{ref\}`(ex-[\w-]+)`", weeks)) == sorted(labels)
    told = dict(re.findall(r"\(notebooks/(\w+)\.ipynb\),? \(?(\d+)", " ".join(weeks.split())))
    for name, book in NOTEBOOKS.items():  # the time that the page itself tells
        assert f"**Time:** {told[name]} minutes" in "".join(c["source"] for c in book.cells), name
    sessions = weeks.split("\n### ")[1:]
    for part in ("Read", "Objectives", "In class", "Exercises", "Easily got wrong"):
        assert all(f"**{part}" in session for session in sessions), part


# --- what is refused -----------------------------------------------------------------------------

GOOD = """\
# A page

::::{exercise} One
:label: ex-one

Which `x` is one?
::::

::::{solution-start} ex-one
::::
"""
ANSWER, END = "x = 1\n# check\nassert x == 1\n", "::::{solution-end}\n::::\n"
BAD = {
    "no label": ([GOOD.replace(":label: ex-one\n", ""), ANSWER, END], "cannot stand here"),
    "another's solution": ([GOOD.replace("start} ex-one", "start} two"), ANSWER, END], "'two'"),
    "no code": ([GOOD, "", END], "it has no solution with a code cell"),
    "two cells": ([GOOD, ANSWER, ANSWER, END], "several code cells"),
    "no check": ([GOOD, "x = 1\nassert x == 1\n", END], "below the line `# check`"),
    "checks nothing": ([GOOD, "x = 1\n# check\nassert True\n", END], "below the line `# check`"),
    "magic": ([GOOD, "%time x = 1\n# check\nassert x == 1\n", END], "not plain Python"),
    "prose alone": ([GOOD.replace("-start", ""), "", ""], "cannot stand here"),
    "no exercise": (["# A page\n", "", ""], "has no exercises"),
}


def page(folder: Path, parts: list[str]) -> Path:
    kinds = ["markdown", *["code"] * (len(parts) - 2), "markdown"]
    made = [
        {"cell_type": kind, "id": f"c{number}", "metadata": {}, "source": part}
        | ({"outputs": [], "execution_count": None} if kind == "code" else {})
        for number, (kind, part) in enumerate(zip(kinds, parts, strict=True))
        if part
    ]
    path = folder / "page.ipynb"
    content = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), "utf8")
    return path


@pytest.mark.parametrize(("parts", "words"), BAD.values(), ids=BAD.keys())
def test_badly_written_exercises_are_refused_and_nothing_is_written(
    tmp_path, capsys, parts, words
):
    path = page(tmp_path, parts)
    assert main(["course", str(path), "-o", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("qhlib: ") == 1 and words in err
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_page_is_a_course(tmp_path, capsys):
    path = page(tmp_path, [GOOD, ANSWER, END])
    assert main(["course", str(path), "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.split()
    assert told[0] == str(tmp_path / "out") and all(Path(each).exists() for each in told)
    answer = next(
        c for c in cells(released(tmp_path / "out", "page")) if c["id"] == "ex-one-answer"
    )
    assert answer["source"] == "# Define: x\n# YOUR CODE HERE\nraise NotImplementedError()"


def test_bad_input_is_one_message(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    for options, words in [
        (["foundation"], "did you mean foundations?"),
        (["foundations", "-o", "there"], "exists; remove it, or choose another folder"),
        (["foundations", "-o", "file"], "exists; remove it, or choose another folder"),
        (["foundations", "-o", "file/below"], "cannot be written"),
    ]:
        assert main(["course", *options]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("qhlib: ") == 1 and words in err and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "there"]


def test_two_notebooks_of_one_name_are_refused(tmp_path, capsys):
    paths = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        paths.append(str(page(folder, [GOOD, ANSWER, END])))
    assert main(["course", *paths, "-o", str(tmp_path / "out")]) == 2
    assert "have the same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["course", paths[0], paths[0], "-o", str(tmp_path / "out")]) == 0


def test_what_nbgrader_refuses_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    path = page(tmp_path, [GOOD, ANSWER, END])
    monkeypatch.setattr(course, "with_marks", lambda each: "### BEGIN SOLUTION\nx = 1\n")
    with pytest.raises(BookError, match="nbgrader refuses page"):
        course.write_course([str(path)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_without_nbgrader_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "nbgrader", None)
    assert main(["course", "foundations", "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'qhlib[book,course]'" in capsys.readouterr().err


def test_an_answer_of_several_parts_keeps_what_helps():
    answer = 'def f(x):\n    """Twice x."""\n    return 2 * x\n\n\ny = f(2)\n'
    each = course.Exercise("e", "", "", answer=answer, check="assert y == 4 and f(1) == 2\n")
    marked = course.with_marks(each)
    student = re.sub(r"### BEGIN SOLUTION\n.*?### END SOLUTION", "…", marked, flags=re.S)
    assert student == '# Define: y\ndef f(x):\n    """Twice x."""\n    …\n…'
    short = course.Exercise(
        "e", "", "", answer="def f(x): return 2 * x\n", check="assert f(1) == 2\n"
    )
    assert course.with_marks(short).splitlines()[1:] == [
        "### BEGIN SOLUTION",
        "def f(x): return 2 * x",
        "### END SOLUTION",
    ]
