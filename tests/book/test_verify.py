"""``qhlib verify``: what comes out again is told from what does not, by how much."""

import io
import json
import re

import pytest

from qhlib.book.cli import main
from qhlib.book.running import run

from .conftest import CLAIM, GLUE


@pytest.fixture
def ran(write_chapter, workplace):
    """A run with parameters of its own, the random numbers of its seed among its claims."""
    draw = "import numpy\nrate = float(numpy.random.default_rng(seed).random())"
    write_chapter(draw, CLAIM, GLUE)
    run("tiny_chapter", {"seed": 5}, preset="smoke", output="a.ipynb", stream=io.StringIO())
    return workplace / "a.ipynb"


def edited(path, change) -> None:
    """Change the numbers of the stored claim."""
    content = json.loads(path.read_text("utf8"))
    for cell in content["cells"]:
        for output in cell.get("outputs", ()):
            row = output.get("data", {}).get("application/vnd.qhlib.claim+json")
            if row:
                change(row)
    path.write_text(json.dumps(content))


def test_the_same_comes_out_to_the_bit(ran, capsys):
    assert main(["verify", str(ran)]) == 0
    assert capsys.readouterr().out == "✓ a: 1 claims, the same to the bit\n"


def test_differences_are_told_with_their_size(ran, capsys):
    edited(ran, lambda row: row.update(measured=row["measured"] * (1 + 1e-12)))
    assert main(["verify", "a.ipynb"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"✓ a: 1 claims, differing by 1\.0e-12 at most\n    one: measured 1\.", out)
    assert main(["verify", "a.ipynb", "--tolerance", "1e-13"]) == 1
    assert "✗ a: 1 claims" in capsys.readouterr().out
    edited(ran, lambda row: row.update(measured="nan", verdict="deviates"))
    assert main(["verify", "a.ipynb"]) == 1
    out = capsys.readouterr().out
    assert "one: measured nan stored, 1.0" in out and "deviates stored, reproduced now" in out


def test_text_that_differs_is_told_and_decides_nothing(ran, capsys):
    ran.write_text(ran.read_text("utf8").replace('"0.63012"', '"0.1"'))
    assert main(["verify", "a.ipynb"]) == 0
    assert "numbers of the text that differ: value" in capsys.readouterr().out


def test_a_run_that_fails_now_differs(write_chapter, workplace, capsys):
    write_chapter(
        f"import pathlib\nassert pathlib.Path({str(workplace)!r}, 'there').exists()", CLAIM
    )
    (workplace / "there").touch()
    run("tiny_chapter", output="a.ipynb", stream=io.StringIO())
    (workplace / "there").unlink()
    assert main(["verify", "a.ipynb"]) == 1
    assert "a: cell [4], `import pathlib`, failed: AssertionError" in capsys.readouterr().out


def test_a_chapter_is_compared_with_a_books_scorecard(write_chapter, workplace, capsys):
    write_chapter(CLAIM, GLUE)
    row = {"chapter": "tiny_chapter", "name": "one", "predicted": 1.0, "verdict": "reproduced"}
    claims = [{**row, "measured": 1.0 + 5e-10}, {**row, "chapter": "another"}]
    (workplace / "scorecard.json").write_text(json.dumps({"claims": claims}))
    assert main(["verify", "tiny_chapter", "--against", "scorecard.json"]) == 0
    assert "✓ tiny_chapter: 1 claims, the same to the bit" in capsys.readouterr().out


def test_without_stored_numbers_nothing_runs(tiny, workplace, capsys):
    (workplace / "list.json").write_text("[]")
    (workplace / "none.json").write_text('{"claims": []}')
    for options, words in {
        ("tiny_chapter",): "no numbers of tiny_chapter are stored here: build the book",
        ("tiny_chapter", "--against", "none"): "cannot read none: No such file",
        ("tiny_chapter", "--against", "list.json"): "is not the scorecard.json of a book",
        ("tiny_chapter", "--against", "none.json"): "holds no claims of tiny_chapter",
        ("missing",): "there is no chapter 'missing'",
    }.items():
        assert main(["verify", *options]) == 2
        assert words in capsys.readouterr().err


def test_an_incomplete_run_is_no_reference(write_chapter, workplace, capsys):
    write_chapter("1 / 0", CLAIM)
    assert main(["run", "tiny_chapter", "-o", "a.ipynb"]) == 1
    assert main(["verify", "a.ipynb"]) == 2
    assert "holds no complete run: cell [4]" in capsys.readouterr().err
