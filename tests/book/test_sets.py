"""Sets of parameters: what is wrong is named, row by row, before anything starts or is written."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qhlib.book.cli import main
from qhlib.book.declaration import parse_cell
from qhlib.book.errors import ParameterError
from qhlib.book.notebook import read_notebook
from qhlib.book.sweep import sets

from .conftest import PARAMETERS

SPECS = parse_cell("a", PARAMETERS)
BAD = {
    "nothing swept": ([], "say what is to be swept"),
    "two ways": (["--grid", "seed=1", "--table", "t.csv"], "--grid, once or more, or --table"),
    "misspelt": (["--grid", "sed=1,2"], "rows 1-2: sed: there is no such parameter; did you mean"),
    "one value of many": (["--grid", "seed=3,-1,4"], "row 2: seed: -1 is not an int in"),
    "several": (
        ["--grid", "seed=0,-1", "--grid", "rate=1,0"],
        "rows 2, 4: rate: 0.0 is not a float in (0, inf)\n  rows 3-4: seed: -1 is not",
    ),
    "the same twice": (["--grid", "seed=1,2,1"], "row 3: the same set as row 1"),
    "a key twice": (["--grid", "seed=1", "--grid", "seed=2"], "seed is given twice"),
    "fixed and swept": (["--grid", "seed=1", "-p", "seed=2"], "the parameter seed is swept as"),
    "no values": (["--grid", "seed="], "write it as key=v1,v2"),
    "no key": (["--grid", "seed"], "write it as key=v1,v2"),
    "empty range": (["--grid", "seed=5:5:1"], "there are no values"),
    "backwards": (["--grid", "seed=5:1:1"], "there are no values"),
    "no step": (["--grid", "seed=0:5:0"], "there are no values"),
    "no end": (["--grid", "seed=0:inf:1"], "there are no values"),
    "no number": (["--grid", "seed=a:b:c"], "there are no values"),
    "too long": (["--grid", "rate=0:1:1e-9"], "more than 1,000,000"),
    "too many": (
        ["--grid", "seed=0:1000:1", "--grid", "rate=1:1002:1"],
        "the grid has 1,001,000 sets, more than 1,000,000",
    ),
    "parts of an int": (["--grid", "seed=0:2:0.5"], "seed: 0.5 is not an int"),
    "code": (["--grid", "seed=__import__('os').getcwd()"], "is not an int"),
    "no such table": (["--table", "none.csv"], "--table none.csv: "),
    "unknown preset": (["--grid", "seed=1", "--preset", "smoek"], "did you mean smoke?"),
    "no workers": (["--grid", "seed=1", "--workers", "0"], "--workers 0: it must be above 0"),
    "no time": (["--grid", "seed=1", "--limit", "-1"], "--limit -1: it must be above 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_sets_are_refused_and_nothing_is_written(kind, tiny, workplace, capsys):
    options, words = BAD[kind]
    assert main(["sweep", "tiny_chapter", *options, "-o", "out"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("qhlib: ") == 1 and "Traceback" not in err
    assert words in err and not list(workplace.iterdir())


TABLES = {
    "ragged.csv": ("seed,rate\n1\n2,3\n4,5,6\n", "rows 1, 3: not as many cells as names"),
    "wrong.csv": ("seed,rate\n1,1\n2,zero\n-3,1\n", "row 2: rate: zero is not a float"),
    "empty.csv": ("seed,rate\n", "write a row for each set"),
    "empty.yaml": ("", "write a row for each set"),
    "flat.yaml": ("seed: 1\n", "write a row for each set"),
    "items.yaml": ("- 1\n- 2\n", "write a row for each set"),
    "broken.yaml": ("- {seed: 1", "--table broken.yaml: "),
    "tagged.yaml": ("- {seed: !!python/object/apply:os.getcwd []}", "--table tagged.yaml: "),
    "wrong.json": ('[{"seed": 1}, {"sede": 2}]', "row 2: sede: there is no such parameter"),
    "torn.json": ('[{"label": "\\ud83d"}]', "label: '\\ud83d' is not a text"),
    "lists.yaml": ("- {radii: [0.5]}\n- {radii: [2]}\n", "row 2: radii[0]: 2 is not a float"),
}


@pytest.mark.parametrize("name", TABLES)
def test_bad_tables_are_refused(name, write_chapter, workplace, capsys):
    write_chapter(parameters=PARAMETERS + 'label: str = "a"  # any text')
    text, words = TABLES[name]
    (workplace / name).write_text(text, "utf8")
    assert main(["sweep", "tiny_chapter", "--table", name, "-o", "out"]) == 2
    assert words in capsys.readouterr().err and not (workplace / "out").exists()


def test_tables_and_grids_say_the_same(workplace):
    rows = [{"seed": 1, "rate": 0.001, "radii": [0.5, 0.7], "noisy": True}, {"seed": 2}]
    text = '\ufeffseed,rate,radii,noisy\n1,1e-3,"[0.5, 0.7]",TRUE\n2,,,\n'
    (workplace / "a.csv").write_text(text, "utf8")
    (workplace / "a.yaml").write_text(yaml.safe_dump(rows), "utf8")
    (workplace / "a.json").write_text(json.dumps(rows), "utf8")
    assert sets.table("a.csv", SPECS) == rows
    assert sets.table("a.yaml", SPECS) == rows == sets.table("a.json", SPECS)
    (workplace / "b.json").write_text('[{"device": "\\ud83d\\ude00"}]')
    assert sets.table("b.json", SPECS) == [{"device": "\U0001f600"}]
    assert sets.grid(["seed=1:3:1", "noisy=true,false"], SPECS) == [
        {"seed": seed, "noisy": noisy} for seed in (1, 2) for noisy in (True, False)
    ]


@given(st.integers(-999, 999), st.integers(1, 50), st.integers(1, 200))
def test_a_range_is_pythons_in_tenths(start, count, step):
    text = f"rate={start / 10}:{(start + count * step) / 10}:{step / 10}"
    assert sets.span(text, SPECS)[1] == [(start + k * step) / 10 for k in range(count)]


def test_the_name_of_a_run_is_its_values_and_its_code(tiny, write_chapter):
    book = read_notebook(tiny)
    values = book.declaration.defaults
    name = sets.name_of(book, values)
    assert name == sets.name_of(book, dict(reversed(values.items())))
    assert name != sets.name_of(book, {**values, "seed": 1})
    assert name != sets.name_of(read_notebook(write_chapter("1 + 1")), values)


def test_too_many_faults_are_still_one_message(tiny):
    with pytest.raises(ParameterError) as caught:
        sets.checked(
            read_notebook(tiny).declaration, [{"seed": -1, "rate": k} for k in range(999)]
        )
    assert "999 of 999 sets" in str(caught.value) and len(str(caught.value)) < 400
