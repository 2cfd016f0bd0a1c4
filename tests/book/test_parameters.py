"""Declarations are read as papermill reads them, and values are checked without ever being evaluated."""

import json
import logging
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhlib.book.errors import ChapterError, ParameterError
from qhlib.book.notebooks import read_notebook
from qhlib.book.parameters import (
    Declaration,
    parse_assignment,
    parse_cell,
    parse_presets,
    parse_relations,
    read_declaration,
)
from qhlib.book.validation import check_declaration, message, validate

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
DECLARATION = Declaration("tiny_chapter", parse_cell(CELL), {"smoke": {}})
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("*.ipynb"))


def papermill_reads(source):
    """What papermill itself finds in a parameters cell, and what it complains about."""
    from papermill.translators import PythonTranslator

    return {p.name: p for p in PythonTranslator.inspect({"source": source})}


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
    declaration = read_declaration(path.stem, read_notebook(path))
    check_declaration(declaration)
    source = next(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    found = papermill_reads(source)
    assert list(found) == list(declaration.defaults), "papermill loses a line"
    assert {spec.name: spec.type for spec in declaration.specs} == {
        name: parameter.inferred_type_name for name, parameter in found.items()
    }
    assert {"seed", "device"} <= set(found)


@pytest.mark.parametrize(
    "line",
    [
        "a = 1  # no type [0, 1]",
        "a: int = 1",
        "a: int = 1  # no range",
        "a: int = 1  # [0, 1]",
        "a: int = 1  # range the wrong way round [2, 1]",
        "a: int = 1  # ends that are no integers [0.5, 2]",
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
        "a: int = 1  # twice [0, 1]\na: int = 2  # twice [0, 1]",
    ],
)
def test_lines_that_would_be_misread_are_refused(line):
    with pytest.raises(ChapterError) as caught:
        parse_cell(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [None, "", "PRESETS = {", "PRESETS = []", "PRESETS = {}", "X = {'smoke': {}}", "PRESETS = {'smoke': 1}"]
    + ["PRESETS = {'smoke': {}, 'book': {}}", "PRESETS = dict(smoke={})", "PRESETS = {'smoke': {'a': f()}}"],
)
def test_presets_are_literals_with_a_smoke_entry(source):
    with pytest.raises(ChapterError):
        parse_presets(source)


def test_presets_and_defaults_must_be_good_values():
    with pytest.raises(ParameterError, match="preset smoke: .*cannot be used:\n  seed: -1"):
        check_declaration(Declaration("c", DECLARATION.specs, {"smoke": {"seed": -1}}))
    with pytest.raises(ParameterError, match="preset book"):
        check_declaration(Declaration("c", parse_cell("n: int = 0  # number [1, 2]"), {"smoke": {}}))


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
        assert type(good["rate"]) is float and type(good["seed"]) is int and type(good["noisy"]) is bool


@given(st.text(), st.sampled_from([spec.name for spec in DECLARATION.specs]))
def test_text_from_the_command_line_is_never_evaluated(text, name):
    key, value = parse_assignment(f"{name}={text}", DECLARATION.specs)
    assert key == name
    assert value == text or isinstance(value, (int, float, bool, list, dict, str, type(None)))


def test_assignments_are_read_by_their_type():
    read = dict(
        parse_assignment(text, DECLARATION.specs)
        for text in ["seed= 7", "rate=1e-3", "noisy=TRUE", "label=true", "sizes=[1, 2]", "device=a=b"]
    )
    expected = {"seed": 7, "rate": 1e-3, "noisy": True, "label": "true", "sizes": [1, 2], "device": "a=b"}
    assert read == expected


def test_hints_say_what_to_write():
    cases = [
        ("noisy", "false", "write true or false"),
        ("rate", "1e-3", "write 0.001"),
        ("seed", 3.0, "write 3"),
        ("seed", "3", "write 3"),
        ("seed", True, "a bool"),
        ("sizes", "[1]", "papermill: -y"),
        ("sizes", [], "the list is empty"),
        ("sizes", [1, 3], "sizes[1]: 3 is not one of {1, 2, 4}"),
        ("seeds", 1, "did you mean seed?"),
        ("rate", 10**400, "too large"),
        ("seed", 10**5000, "16610 bits"),
    ]
    for name, value, words in cases:
        assert words in message(DECLARATION, {name: value}), name


def test_numpy_scalars_become_python_values():
    good = validate(DECLARATION, {"seed": np.int64(3), "rate": np.float64(0.25), "sizes": np.array([1, 2])})
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
    specs = parse_cell(RELATED)
    chapter = Declaration("a_chapter", specs, {}, parse_relations(RELATED, specs))
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
        parse_relations(line, parse_cell(RELATED))
