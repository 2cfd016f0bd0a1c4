"""The chapter's object, outside of a kernel: parameters, claims, the end."""

import subprocess
import sys

import pytest

from qhlib.book import open_chapter
from qhlib.book.errors import ChapterError, ParameterError

from .conftest import PARAMETERS


def opened(**values):
    names = {"In": ["", PARAMETERS], "seed": 0, "n_seeds": 4, "device": "cpu", **values}
    return open_chapter("tiny_chapter", names), names


def test_values_are_checked_and_become_floats():
    chapter, names = opened(rate=2)
    assert chapter.parameters["rate"] == 2.0 and type(names["rate"]) is float
    with pytest.raises(ParameterError, match="n_seeds: 0 is not an int in"):
        opened(n_seeds=0)


def test_names_that_papermill_injects_in_vain_are_refused():
    names = {"In": ["", PARAMETERS, "# Parameters\nn_sed = 3\n"], "n_sed": 3}
    with pytest.raises(
        ParameterError, match="n_sed: there is no such parameter; did you mean n_seeds"
    ):
        open_chapter("tiny_chapter", names)


def test_without_a_parameters_cell_nothing_opens():
    with pytest.raises(ChapterError, match="run the cell tagged parameters"):
        open_chapter("tiny_chapter", {})


def test_claims_are_shown_kept_and_replaced(capsys):
    chapter, _ = opened()
    made = chapter.claim("one", predicted=1.0, measured=1.5, tolerance=0.1)
    assert made.verdict == "deviates" and chapter.claims == {"one": made}
    assert "✗ deviates one: predicted 1, measured 1.5, tolerance 0.1" in capsys.readouterr().out
    chapter.claim("one", predicted=1.0, measured=1.0, tolerance=0.1)
    assert chapter.claims["one"].verdict == "reproduced"
    with pytest.raises(ValueError, match="small letters"):
        chapter.claim("One", predicted=1.0, measured=1.0, tolerance=0.1)


def test_pictures_are_glued_and_closed(capsys):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    chapter, _ = opened()
    figure, _axes = plt.subplots()
    chapter.glue("picture", figure)
    assert (
        not plt.fignum_exists(figure.number) and "picture = a picture" in capsys.readouterr().out
    )


def test_a_faulty_chapter_shows_its_message_alone():
    """In IPython, where an exception may say how it is shown."""
    assert len(ParameterError("it is wrong")._render_traceback_()) == 1


def test_an_old_console_does_not_end_a_command(tiny):
    """✓ is not in a Windows code page: a mark in its place is no fault."""
    code = "from qhlib.book.cli import main; raise SystemExit(main(['describe', 'tiny_chapter']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=_old_console())
    assert done.returncode == 0, done.stderr


def _old_console():
    import os

    return {**os.environ, "PYTHONIOENCODING": "cp1252"}
