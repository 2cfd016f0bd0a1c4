"""Chapters as a user runs them, from a foreign directory; and what they refuse."""

import subprocess
import sys
from pathlib import Path

import pytest

from qhlib.book.claims import fails
from qhlib.book.notebook import chapter_paths
from qhlib.book.records import read_record
from qhlib.book.running import run

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SEED = 20261121  # nothing was tuned on it: the date on which the test was written


def test_the_chapters_are_found():
    assert CHAPTERS and set(CHAPTERS) <= set(chapter_paths())


def test_a_run_of_the_command_reproduces_its_claims(tmp_path, monkeypatch):
    """With a kernel; tests of their own try every notebook on other seeds without one."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "out.ipynb"
    record = read_record(run("asymmetric_margin", {"seed": SEED}, preset="smoke", output=output))
    assert record.finished, record.stopped
    assert record.claims and not [row for row in record.claims if fails(row)]


def test_plain_papermill_runs_from_any_directory_and_validates(tmp_path):
    source = ROOT / "notebooks" / "asymmetric_margin.ipynb"
    listed = subprocess.run(
        [sys.executable, "-m", "papermill", "--help-notebook", str(source)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    for name in ("seed", "effort", "tilt", "radii"):
        assert f"{name}:" in listed.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "papermill", str(source), "out.ipynb", "-p", "sede", "7"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert refused.returncode == 1
    assert "sede" in refused.stderr and "seed" in refused.stderr


BAD = {
    "misspelt": ["sede=7"],
    "misspelt long": ["radius=[0.4]"],
    "wrong type": ["seed=seven"],
    "float for int": ["points=12.5"],
    "bool for int": ["points=true"],
    "negative seed": ["seed=-1"],
    "zero points": ["points=0"],
    "huge": ["points=1000000000000"],
    "huger than 64 bits": ["seed=99999999999999999999999"],
    "not a number": ["end=nan"],
    "infinite": ["end=inf"],
    "minus infinity": ["end=-inf"],
    "radius of one: the balls touch": ["radii=[0.6, 1.0]"],
    "radius above one: not separable": ["radii=[1.5]"],
    "negative radius": ["radii=[-0.2]"],
    "the same radius twice": ["radii=[0.6, 0.6]"],
    "empty list": ["radii=[]"],
    "list of strings": ["radii=['a']"],
    "scalar for list": ["radii=0.6"],
    "not a list": ["radii=[0.6"],
    "NaN in a list": ["radii=[NaN]"],
    "code": ["seed=__import__('os').system('touch pwned')"],
    "code in a choice": ["effort=smoke; import os"],
    "unknown choice": ["effort=more"],
    "no value": ["seed"],
    "too flat": ["tilt=0"],
    "two faults": ["seed=-1", "points=zero"],
}


BAD_LEAKY = {
    "no negative point": ["n=5", "n_positive=5"],
    "negative slack": ["slack=-1"],
    "further from orthogonal than the theorem allows": ["slack=1.01"],
    "slope of a linear network": ["gamma=1"],
    "slope of a ReLU": ["gamma=0"],
    "no unit of one sign": ["width_minus=0"],
    "no start": ["start=0.0"],
}
CASES = {
    **{name: ("asymmetric_margin", bad) for name, bad in BAD.items()},
    **{name: ("leaky_relu_rank_two", bad) for name, bad in BAD_LEAKY.items()},
}


@pytest.mark.parametrize(("chapter", "assignments"), CASES.values(), ids=CASES.keys())
def test_bad_parameters_are_refused_before_anything_is_written(
    chapter, assignments, tmp_path, monkeypatch, capsys
):
    from qhlib.book.cli import main

    monkeypatch.chdir(tmp_path)
    options = [part for assignment in assignments for part in ("-p", assignment)]
    assert main(["run", chapter, "--preset", "smoke", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("qhlib: ") == 1 and "Traceback" not in err
    for assignment in assignments:
        assert assignment.split("=")[0] in err
    assert not list(tmp_path.iterdir())
