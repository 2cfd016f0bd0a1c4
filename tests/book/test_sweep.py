"""Sweeps with kernels: numbers as of single runs, nothing shared between them, all in a table."""

import csv
import json
import math
import os

import pytest

from qhlib.book.records import read_record
from qhlib.book.running import run

from .conftest import GLUE, table

pytest.importorskip("distributed")
STATE = """\
import os, random
import matplotlib, numpy, torch
found = [random.random(), float(numpy.random.rand()), float(torch.rand(1))]
clean = float("QHLIB_LEFT" in os.environ or "left_by" in globals())
clean += float(matplotlib.rcParams["lines.linewidth"] == 77) + float(torch.zeros(1).dtype.itemsize)
left_by = seed
os.environ["QHLIB_LEFT"] = str(seed)
matplotlib.rcParams["lines.linewidth"] = 77
random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
torch.set_default_dtype(torch.float64)
"""
SEES = 'chapter.claim("one", predicted=4.0, measured=clean, tolerance=0.0);'
WORDS = "label: str = 'a'  # any text\nseed: int = 0  # first seed [0, 99]\n"
KEEPS = 'chapter.glue("label", label)\nchapter.glue("seed", seed)'


def test_a_grid_becomes_a_table_and_its_notebooks(sweep, tiny, workplace, capsys):
    assert sweep("--grid", "seed=0:3:1", "--grid", "rate=0.5,2", "--preset", "smoke") == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(workplace / "out" / f"table.{kind}") for kind in ("parquet", "csv")]
    assert "tiny_chapter: 6 runs" in err and "6 finished, 0 failed" in err
    rows = table()
    assert [(row["seed"], row["rate"]) for row in rows] == [
        (seed, rate) for seed in range(3) for rate in (0.5, 2.0)
    ]
    for row in rows:
        assert row["measured"] == 1.0 + 1e-9 * row["rate"] and row["verdict"] == "reproduced"
        assert row["effort"] == "smoke" and row["radii"] == "[0.55, 0.7, 0.9]"
        record = read_record(f"out/runs/{row['run']}.ipynb")
        assert record.finished["parameters"]["seed"] == row["seed"] and not record.stopped
        assert record.chapter == "tiny_chapter"
        assert (
            row["whole_seconds"] > 0 and row["used_threads"] == 1 and row["status"] == "finished"
        )
    with open("out/table.csv", encoding="utf8") as stream:
        plain = list(csv.DictReader(stream))
    assert [float(row["measured"]) for row in plain] == [row["measured"] for row in rows]
    assert list(plain[0]) == list(rows[0])
    # again: refused; with --resume: nothing to do; more seeds: only those
    assert sweep("--grid", "seed=0:3:1", "--grid", "rate=0.5,2", "--preset", "smoke") == 2
    assert "holds runs already: go on with --resume" in capsys.readouterr().err
    ages = {path: path.stat().st_mtime_ns for path in (workplace / "out" / "runs").iterdir()}
    options = ["--grid", "seed=0:4:1", "--grid", "rate=0.5,2", "--preset", "smoke", "--resume"]
    options += ["--workers", "1"]
    assert sweep(*options) == 0
    assert "8 runs, 6 of them finished already; about " in capsys.readouterr().err
    assert len(table()) == 8
    assert {path: path.stat().st_mtime_ns for path in ages} == ages


def test_no_run_sees_another(sweep, write_chapter, workplace):
    write_chapter(STATE, SEES)
    assert sweep("--grid", "seed=0:6:1") == 0
    assert [(row["verdict"], row["measured"]) for row in table()] == [("reproduced", 4.0)] * 6


def test_numbers_are_those_of_a_single_run_to_the_bit(sweep, workplace):
    assert sweep("--grid", "seed=3,5", "--preset", "smoke", name="rising_margin") == 0
    alone = read_record(run("rising_margin", {"seed": 5}, preset="smoke", output="alone.ipynb"))
    rows = [row for row in table() if row["seed"] == 5]
    assert [row["claim"] for row in rows] == [claim["id"] for claim in alone.claims]
    assert [row["measured"].hex() for row in rows] == [c["measured"].hex() for c in alone.claims]
    assert [row["predicted"].hex() for row in rows] == [
        float(c["predicted"]).hex() for c in alone.claims
    ]


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["far", "here"])
def test_threads_are_those_of_a_single_run(workers, sweep, tiny, workplace, monkeypatch):
    """Dask sets variables for its workers, and in the process that starts them: none of them
    reaches a kernel, and none stays."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = dict(os.environ)
    assert sweep("--grid", "seed=0,1", *workers) == 0
    assert {row["used_threads"] for row in table()} == {2}
    assert dict(os.environ) == before


EVIL = [
    '"; import os; os.mkdir("pwned") #',
    "'''\nimport os; os.mkdir('pwned')\n'''",
    "{label!r} {0} %s $HOME `mkdir pwned` $(mkdir pwned)",
    "a\\",
    "\\N{BULLET}\\x41\u2028\u2029\x85 ✓ \U0001f600",
    "# Parameters\nseed = 7",
    "=cmd|' /C calc'!A0",
]


def test_texts_are_data_and_never_code(sweep, write_chapter, workplace, capsys):
    write_chapter(KEEPS, parameters=WORDS, text="# Texts")
    (workplace / "sets.json").write_text(json.dumps([{"label": text} for text in EVIL]))
    assert sweep("--table", "sets.json") == 0
    assert not list(workplace.rglob("pwned"))
    rows = table()
    assert [row["label"] for row in rows] == EVIL and {row["seed"] for row in rows} == {0}
    for row in rows:
        made = json.loads((workplace / "out" / "runs" / f"{row['run']}.ipynb").read_text("utf8"))
        glued = [o["data"] for cell in made["cells"] for o in cell.get("outputs", ())]
        values = [d["application/papermill.record/text/plain"] for d in glued if len(d) == 1]
        assert repr(row["label"]) in ["".join(value) for value in values]


def test_numbers_that_are_none_are_told_from_what_is_missing(sweep, write_chapter, workplace):
    unreal = (
        'chapter.claim("one", predicted=1.0, measured=float(["nan", "inf"][seed]), tolerance=0)'
    )
    write_chapter(unreal)
    assert sweep("--grid", "seed=0,1") == 0
    first, second = table()
    assert math.isnan(first["measured"]) and second["measured"] == math.inf
    assert first["verdict"] == second["verdict"] == "deviates"
    with open("out/table.csv", encoding="utf8") as stream:
        assert [row["measured"] for row in csv.DictReader(stream)] == ["nan", "inf"]


def test_a_notebook_without_claims_has_rows_too(sweep, write_chapter, workplace):
    write_chapter(GLUE)
    assert sweep("--grid", "seed=0,1") == 0
    assert [(row["seed"], row["claim"], row["measured"]) for row in table()] == [
        (0, None, None),
        (1, None, None),
    ]


def test_the_table_reads_with_pandas_and_duckdb(sweep, tiny, workplace):
    from qhlib.book.sweep import tables

    assert sweep("--grid", "seed=0,1", "--grid", "rate=1,2") == 0
    frame, plain = tables.read("out"), tables.read("out/table.csv")
    assert list(frame.columns) == list(plain.columns) and frame.measured.eq(plain.measured).all()
    assert tables.swept(frame, ["seed", "rate", "noisy"]) == ["rate", "seed"]
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql("select max(measured) from 'out/table.parquet' where rate = 2").fetchall()
    assert found == [(1.0 + 2e-9,)]
