"""Declarations are read as papermill reads them, and values are checked without ever being
evaluated."""

import json
import logging
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhlib.book.declaration import (
    KINDS,
    Declaration,
    find_declaration,
    parse_assignment,
    parse_cell,
    parse_relations,
    read_declaration,
    validate,
)
from qhlib.book.errors import ChapterError, ParameterError
from qhlib.book.notebook import read_notebook

CELL = """\
seed: int = 0            # first random seed [0, 2147483647]
device: str = "cpu"      # torch device {cpu, cuda}
rate: float = 0.5        # learning rate (0, 1]

# a line of comment
free: float = 1.0        # any number (-inf, inf)
noisy: bool = False      # whether noise is added
label: str = "a"         # any text
sizes: list[int] = [1]   # widths {1, 2, 4}
"""
DECLARATION = Declaration("tiny_chapter", parse_cell("tiny_chapter", CELL))
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("*.ipynb"))


def papermill_reads(source):
    """What papermill itself finds in a parameters cell, and what it complains about."""
    from papermill.translators import PythonTranslator

    return {p.name: p for p in PythonTranslator.inspect({"source": source})}


def message(declaration, values):
    """The message of a refusal; None for good values."""
    try:
        validate(declaration, values)
    except ParameterError as error:
        return str(error)
    return None


def test_a_declaration_is_read_in_order():
    rows = [spec.row() for spec in DECLARATION.specs]
    assert rows[0] == {
        "name": "seed",
        "type": "int",
        "default": 0,
        "range": "[0, 2147483647]",
        "help": "first random seed",
    }
    assert [row["name"] for row in rows] == list(papermill_reads(CELL))
    json.dumps(rows)


@pytest.mark.parametrize("path", CHAPTERS, ids=[path.stem for path in CHAPTERS])
def test_every_chapter_of_the_book_is_well_declared(path):
    notebook = read_notebook(path)
    declaration = notebook.declaration  # which checks the defaults
    found = papermill_reads(notebook.tagged("parameters"))
    assert list(found) == list(declaration.defaults), "papermill loses a line"
    assert {spec.name: spec.type for spec in declaration.specs} == {
        name: parameter.inferred_type_name for name, parameter in found.items()
    }
    assert "seed" in found and "smoke" in declaration.presets
    assert notebook.claims  # words and numbers fit


@pytest.mark.parametrize(
    "line",
    [
        "a = 1  # no type [0, 1]",
        "a: int = 1",
        "a: int = 1  # no range",
        "a: int = 1  # [0, 1]",
        "a: int = 1  # range the wrong way round [2, 1]",
        "a: int = 1  # an equation x = 1 [0, 1]",
        "a: int | None = 1  # a type that papermill drops [0, 1]",
        'a: "int" = 1  # a quoted type [0, 1]',
        "a: tuple[int] = (1,)  # a type that papermill drops [0, 1]",
        "a: int = b  # not a literal [0, 1]",
        "a: int = open('x')  # code [0, 1]",
        "a: list[int] = [  # several lines [0, 1]",
        "import os  # code",
        'a: str = "#"  # a hash',
        "a: bool = True  # a range that makes no sense [0, 1]",
        "a: int = 1  # a rule for what is no list [0, 1], increasing",
        "a: int = 1  # twice [0, 1]\na: int = 2  # twice [0, 1]",
    ],
)
def test_lines_that_would_be_misread_are_refused(line):
    with pytest.raises(ChapterError) as caught:
        parse_cell("a_chapter", line)
    assert "\n" not in str(caught.value) and "a_chapter: parameters cell" in str(caught.value)


def test_the_parameter_effort_gives_the_presets():
    cell = 'effort: str = "book"  # how much is computed {smoke, book, paper}'
    declaration = read_declaration("a_chapter", cell)
    presets = {"book": {}, "smoke": {"effort": "smoke"}, "paper": {"effort": "paper"}}
    assert declaration.presets == presets
    without = read_declaration("a_chapter", "seed: int = 0  # first seed [0, 9]")
    with pytest.raises(ParameterError, match="no preset 'paper'; it has book"):
        without.preset("paper")


def test_defaults_must_be_good_values():
    with pytest.raises(ChapterError, match="the default values: .*\n  n: 0 is not an int in"):
        read_declaration("c", "n: int = 0  # number [1, 2]")


def test_the_kernel_finds_the_cell_that_was_run_last():
    history = [
        "",
        "import math",
        "seed: int = 0  # first seed [0, 9]",
        "x = 1",
        "# Parameters\nseed = 7",
    ]
    assert find_declaration("a", history).defaults == {"seed": 0}
    edited = [*history, "seed: int = 3  # first seed [0, 9]", "y: int = 2"]
    assert find_declaration("a", edited).defaults == {"seed": 3}
    with pytest.raises(ChapterError, match="run the cell tagged parameters"):
        find_declaration("a", ["", "import math"])


@given(st.integers())
def test_integers_are_accepted_in_their_range_only(value):
    assert (message(DECLARATION, {"seed": value}) is None) == (0 <= value <= 2**31 - 1)


@given(st.floats())
def test_floats_are_accepted_in_their_range_only(value):
    assert (message(DECLARATION, {"rate": value}) is None) == (0 < value <= 1)
    assert (message(DECLARATION, {"free": value}) is None) == math.isfinite(value)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_closed_ends_are_values(seed):
    assert validate(DECLARATION, {"seed": seed})["seed"] == seed


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(DECLARATION.defaults)) | st.text(), ANY, max_size=4))
def test_any_values_are_either_good_or_named_in_one_message(values):
    try:
        good = validate(DECLARATION, values)
    except ParameterError as error:
        first, *lines, last = str(error).split("\n")
        assert "tiny_chapter cannot be used:" in first and "qhlib describe tiny_chapter" in last
        assert 1 <= len(lines) <= len(values) and all(line.startswith("  ") for line in lines)
    else:
        assert list(good) == list(DECLARATION.defaults)
        assert (
            type(good["rate"]) is float
            and type(good["seed"]) is int
            and type(good["noisy"]) is bool
        )


@given(st.text(), st.sampled_from([spec.name for spec in DECLARATION.specs]))
def test_text_from_the_command_line_is_never_evaluated(text, name):
    key, value = parse_assignment(f"{name}={text}", DECLARATION.specs)
    assert key == name
    assert value == text.strip() or isinstance(
        value, (int, float, bool, list, dict, str, type(None))
    )


def test_assignments_are_read_by_their_type():
    read = dict(
        parse_assignment(text, DECLARATION.specs)
        for text in [
            "seed= 7",
            "rate=1e-3",
            "noisy=TRUE",
            "label=true",
            "sizes=[1, 2]",
            "device=a=b",
        ]
    )
    expected = {
        "seed": 7,
        "rate": 1e-3,
        "noisy": True,
        "label": "true",
        "sizes": [1, 2],
        "device": "a=b",
    }
    assert read == expected


def test_a_message_says_what_is_allowed():
    cases = [
        ("noisy", "false", "noisy: false is not true or false"),
        ("noisy", 1, "noisy: 1 is not true or false"),
        ("rate", "1e-3", "rate: '1e-3' is not a float in (0, 1]"),
        ("seed", 3.0, "seed: 3.0 is not an int in [0, 2147483647]"),
        ("seed", True, "seed: True is not an int"),
        ("sizes", "[1]", "papermill: -y"),
        ("sizes", [], "sizes: [] is not a list of at least one int in {1, 2, 4}"),
        ("sizes", [1, 3], "sizes[1]: 3 is not an int in {1, 2, 4}"),
        ("device", "tpu", "device: tpu is not a text in {cpu, cuda}"),
        ("seeds", 1, "did you mean seed?"),
        ("rate", 10**400, "is not a float in (0, 1]"),
        ("seed", 10**5000, "an integer of 16610 bits is not an int"),
    ]
    for name, value, words in cases:
        assert words in message(DECLARATION, {name: value}), name
    assert set(KINDS) == {"int", "float", "bool", "str"}


RULES = """\
ells: list[float] = [1.0, 10.0]  # levels (0, inf), increasing
cases: list[str] = ["a", "b"]  # cases {a, b, c}, distinct, 2 entries
radii: list[float] = [0.5]  # radii (0, 1), distinct, 1 to 3 entries
"""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ells": [10, 1.0]}, "ells: [10, 1.0] is not increasing"),
        ({"ells": [1.0, 1.0]}, "ells: [1.0, 1.0] is not increasing"),
        ({"cases": ["a"]}, "cases: ['a'] has not 2 entries"),
        ({"cases": ["a", "a"]}, "cases: ['a', 'a'] is not distinct"),
        ({"cases": ["a", "b", "c"]}, "has not 2 entries"),
        ({"radii": [0.1, 0.2, 0.3, 0.4]}, "has not 1 to 3 entries"),
        ({"radii": [0.1, 0.1]}, "is not distinct"),
        ({}, None),
        ({"radii": [0.3, 0.1], "cases": ["c", "a"]}, None),
    ],
)
def test_rules_of_lists_are_checked_and_never_sorted_away(values, words):
    chapter = Declaration("a_chapter", parse_cell("a_chapter", RULES))
    if words:
        assert words in message(chapter, values)
    else:
        assert validate(chapter, values) == {**chapter.defaults, **values}


def test_numpy_scalars_become_python_values():
    values = {"seed": np.int64(3), "rate": np.float64(0.25), "sizes": np.array([1, 2])}
    good = validate(DECLARATION, values)
    assert (good["seed"], good["rate"], good["sizes"]) == (3, 0.25, [1, 2])
    assert type(good["seed"]) is int and type(good["rate"]) is float


def test_papermill_is_quiet_about_what_we_accept(caplog):
    with caplog.at_level(logging.WARNING):
        papermill_reads(CELL)
    assert not caplog.records


RELATED = """\
n: int = 4  # points [1, 100]
sizes: list[int] = [1, 2]  # sizes [0, 100]
# require n <= d
d: int = 9  # dimension [1, 100]
# require sizes < n
# any other comment
"""


def test_relations_between_parameters_are_checked_and_named():
    specs = parse_cell("a_chapter", RELATED)
    chapter = Declaration("a_chapter", specs, parse_relations("a_chapter", RELATED, specs))
    assert chapter.relations == (("n", "<=", "d"), ("sizes", "<", "n"))
    assert validate(chapter, {"n": 9})["n"] == 9
    for values, word in (
        ({"n": 10}, "n: 10 must be at most d, which is 9"),
        ({"d": 3}, "n: 4 must be at most d, which is 3"),
        ({"sizes": [0, 4]}, "sizes: 4 must be below n, which is 4"),
    ):
        with pytest.raises(ParameterError, match=word):
            validate(chapter, values)


@pytest.mark.parametrize("line", ["# require n <= m", "# require m < d"])
def test_a_relation_of_unknown_names_is_refused(line):
    with pytest.raises(ChapterError, match="names what is no declared number"):
        parse_relations("a_chapter", line, parse_cell("a_chapter", RELATED))


def test_notebooks_are_read_as_nbformat_reads_them(tmp_path):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("a = 1\nb = 2")])
    nbformat.write(made, tmp_path / "a.ipynb")
    assert read_notebook(tmp_path / "a.ipynb").cells[0]["source"] == "a = 1\nb = 2"
