"""``qhlib new``: what it writes builds strictly, passes its test and has the project's style."""

import os
import shutil
import subprocess
import sys

import pytest

from qhlib.book import scaffold
from qhlib.book.cli import main
from qhlib.book.notebook import read_notebook
from tests.site.conftest import ScratchBook

from .conftest import ROOT

TITLE = "A `title` {of} $mine$ \\o/ *with* <b>marks</b> {{x}} @NAME@"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small book with a place for tests, and one notebook."""
    book = ScratchBook(tmp_path)
    book.write("good")
    (tmp_path / "tests" / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "notebooks" / "play.py", tmp_path / "tests" / "notebooks")
    monkeypatch.chdir(tmp_path)
    return book


def test_a_new_notebook_is_a_good_one_at_once(checkout, capsys):
    assert main(["new", "my_result", "--title", TITLE]) == 0
    written = capsys.readouterr().out.split()
    places = ["notebooks/my_result.ipynb", "tests/notebooks/test_my_result.py", "_toc.yml"]
    assert written == [str(checkout.folder / place) for place in places]
    toc = (checkout.folder / "_toc.yml").read_text("utf8").splitlines()
    assert toc.index("- file: notebooks/my_result") == toc.index("- file: notebooks/good") + 1
    book = read_notebook(written[0])
    assert book.title.replace("\\", "") == TITLE.replace("\\", "")
    assert list(book.claims) == ["follows"] and set(book.declaration.presets) == {
        "smoke",
        "book",
        "paper",
    }
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, *written[:2]], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    env = {**os.environ, "PYTHONPATH": str(checkout.folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", written[1]]
    done = subprocess.run(
        [*command, "--import-mode=importlib"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.site
def test_a_new_notebook_builds_strictly(checkout):
    assert main(["new", "my_result", "--title", TITLE, "--after", "good"]) == 0
    done = checkout.build("-W", "-n", "--keep-going")
    assert done.returncode == 0, done.told[-3000:]
    html = checkout.html("notebooks/my_result")
    assert "✓ reproduced" in html and "A `title` {of} $mine$" in html


def test_bad_names_are_refused_and_nothing_is_written(checkout, capsys, monkeypatch):
    before = sorted(checkout.folder.rglob("*"))
    for options, words in [
        (["Upper"], "is no name for a notebook"),
        (["../up"], "is no name for a notebook"),
        (["a b"], "is no name for a notebook"),
        (["__import__"], "is no name for a notebook"),
        (["x" * 51], "is no name for a notebook"),
        (["good"], "good.ipynb exists; choose another name"),
        (["rising_margin"], "rising_margin exists; choose another name"),
        (["mine", "--title", "one\ntwo"], "is no line of text"),
        (["mine", "--title", " "], "is no line of text"),
        (["mine", "--after", "nothing"], "--after nothing: _toc.yml has no such notebook"),
    ]:
        assert main(["new", *options]) == 2
        assert words in capsys.readouterr().err
    monkeypatch.setattr(scaffold, "home", lambda: checkout.folder / "nowhere")
    monkeypatch.chdir(checkout.folder / "notebooks")
    assert main(["new", "mine"]) == 2
    assert "this is no checkout of the book" in capsys.readouterr().err
    assert sorted(checkout.folder.rglob("*")) == before


def test_what_cannot_be_written_whole_is_not_written(checkout, capsys, monkeypatch):
    before = sorted(checkout.folder.rglob("*"))
    shutil.rmtree(checkout.folder / "tests")
    (checkout.folder / "tests").mkdir()
    (checkout.folder / "tests" / "notebooks").touch()
    assert main(["new", "mine"]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err
    assert not (checkout.folder / "notebooks" / "mine.ipynb").exists() and before
