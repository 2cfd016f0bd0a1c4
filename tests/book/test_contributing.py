"""The steps of CONTRIBUTING.md, followed as they stand there, in a small checkout."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from qhlib.book.notebook import read_notebook
from tests.site.conftest import ScratchBook

from .conftest import ROOT

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOLS = {"qhlib": "-m qhlib.book.cli", "jupytext": "-m jupytext", "python": ""}


@pytest.fixture
def checkout(tmp_path):
    """A small book with one notebook, and the commands of this environment."""
    (tmp_path / "book").mkdir()
    book = ScratchBook(tmp_path / "book")
    book.write("foundations")
    (book.folder / "tests" / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "notebooks" / "play.py", book.folder / "tests" / "notebooks")
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, book.folder)
    (tmp_path / "bin").mkdir()
    for name, module in TOOLS.items():
        tool = tmp_path / "bin" / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', "utf8")
        tool.chmod(0o755)
    return book


@pytest.mark.site
def test_the_steps_lead_to_a_page_of_the_book(checkout, tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text("utf8")
    steps = BLOCK.findall(text.split("## Add a paper in an afternoon")[1])
    commands = [line for kind, told in steps if kind == "bash" for line in told.splitlines()]
    claim, mutation = [told for kind, told in steps if kind == "python"]
    notebook = checkout.folder / "notebooks" / "my_paper.ipynb"
    test = checkout.folder / "tests" / "notebooks" / "test_my_paper.py"
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    # make installs nothing: what it needs is the environment of this test
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(checkout.folder), "NO_COLOR": "1"}
    env |= {"MAKEFLAGS": "e", "INSTALLED": "", "VENV": sys.prefix}
    tests_passed = []
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=checkout.folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        tests_passed += re.findall(r"(\d+) passed", done.stdout)
        if "py:percent" in command:
            script = notebook.with_suffix(".py")
            before, mark, after = script.read_text("utf8").partition("# %% [markdown]\n# ## Rerun")
            assert mark, "the new notebook has no place for what stands before Rerun this page"
            script.write_text(f"{before}{claim}\n{mark}{after}", "utf8")
        elif "--update" in command:
            test.write_text(f"{test.read_text('utf8')}\n\n{mutation}", "utf8")
    assert tests_passed == ["4", "5"]
    html = checkout.html("notebooks/my_paper")
    assert html.count("✓ reproduced") == 2 and 'id="claim-my-paper-loss"' in html
    assert "my-paper/loss" in checkout.html("scorecard")
    made = read_notebook(notebook)
    assert list(made.claims) == ["follows", "loss"] and not made.executed
    assert [cell["id"] for cell in made.cells][:4] == [
        "first-screen",
        "imports",
        "parameters",
        "open",
    ]
    left = {path.name for path in checkout.folder.glob("*.ipynb")}
    assert not left and not notebook.with_suffix(".py").exists()
