"""Chapters as a user runs them, from a foreign directory; and what they refuse."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from qhlib.book.claims import fails
from qhlib.book.notebook import chapter_paths, read_notebook
from qhlib.book.records import read_record
from qhlib.book.running import run

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SEED = 20261121  # nothing was tuned on it: the date on which the test was written


def test_the_chapters_are_found():
    assert CHAPTERS and set(CHAPTERS) <= set(chapter_paths())


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_time_of_reading_is_computed_and_not_promised(name):
    """150 words a minute, and 20 seconds for each figure and each open cell, rounded up."""
    cells = read_notebook(ROOT / "notebooks" / f"{name}.ipynb").cells
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    figures = len(re.findall(r"^`{3,}\{glue(?::figure)?\}", text, re.MULTILINE))
    figures += sum("figure" in cell["metadata"].get("mystnb", {}) for cell in cells)
    closed = {"hide-input", "remove-input", "parameters"}
    code = [cell["metadata"].get("tags", []) for cell in cells if cell["cell_type"] == "code"]
    looks = figures + sum(not closed & set(tags) for tags in code)
    minutes = math.ceil(len(text.split()) / 150 + looks / 3)
    assert f"**Time:** {minutes} minutes" in text


def test_leads_and_companions_lead_to_each_other():
    parts = [part["chapters"] for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]]
    for part in parts:
        names = [each["file"].removeprefix("notebooks/") for each in part if "/" in each["file"]]
        texts = {name: (ROOT / "notebooks" / f"{name}.ipynb").read_text("utf8") for name in names}
        for companion in names[1:]:
            assert f"({companion}.ipynb" in texts[names[0]], companion
            assert f"({names[0]}.ipynb" in texts[companion], companion


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
