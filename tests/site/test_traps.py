"""Each trap of Jupyter Book 1.x that the house closes, on tiny books with the repository's own settings."""

import csv
import json
import subprocess

import nbformat
import pytest

V4 = nbformat.v4
NUMBER = 'from pathlib import Path\nprint("the number is", Path("../qhlib/number.txt").read_text())'
FIGURE = "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1));\nplt.plot([1, 2]);"


def claim(name: str, measured: float, **more: str) -> str:
    """Code of a claim that predicts 1 within 0.01."""
    rest = "".join(f", {key}={value!r}" for key, value in more.items())
    return (
        f"chapter.claim({name!r}, 'The ratio $q/\\\\|w\\\\|$ is 1', source='Theorem 1', basis='stated', "
        f"predicted=1.0, measured={measured!r}, tolerance=0.01, tolerance_from='the last step'{rest});"
    )


def figure(**metadata) -> dict:
    return V4.new_code_cell(FIGURE, metadata={"mystnb": metadata} if metadata else {})


@pytest.fixture(scope="module")
def good(new_book):
    """A book without a fault, built strictly."""
    book = new_book()
    book.set_intro("A book\n\n```{chapter-figure} fig-line\n:alt: The line again\nThe same *line*.\n```")
    book.write(
        "good",
        NUMBER,
        claim("one", 1.001),
        claim("two", 1.2, expected_deviation="finite $n$"),
        claim("three", 7.0, outside="the data are not separable"),
        'import sys; print("half" + "way", file=sys.stderr)',
        figure(image={"alt": "A rising line"}, figure={"name": "fig-line", "caption": "A line."}),
    )
    book.done = book.build("-W", "-n", "--keep-going")
    return book


def test_a_sound_book_builds_strictly_and_says_what_it_does(good):
    assert good.done.returncode == 0, good.done.told[-3000:]
    assert (
        "executing “The chapter good”" in good.done.told
        and "executed “The chapter good” in" in good.done.told
    )
    assert "halfway" not in good.html("notebooks/good"), "progress on stderr is no part of the page"


def test_scorecard_lists_every_claim_with_its_place(good):
    page = good.html("scorecard")
    for name in ("one", "two", "three"):
        assert f'href="notebooks/good.html#claim-{name}"' in page
        assert f'id="claim-{name}"' in good.html("notebooks/good")
    assert "✓ reproduced" in page and "✗ deviates" in page and "○ outside" in page
    assert 'class="math' in page and "tex-mml-chtml.js" in page, "formulas in statements are typeset"
    rows = json.loads((good.folder / "_build/html/scorecard.json").read_text("utf8"))["claims"]
    assert [r["verdict"] for r in rows] == ["reproduced", "deviates", "outside"]
    with (good.folder / "_build/html/scorecard.csv").open(newline="", encoding="utf8") as file:
        assert [r["id"] for r in csv.DictReader(file)] == [r["id"] for r in rows]


def test_a_chapters_figure_is_shown_on_the_front_page(good):
    from bs4 import BeautifulSoup

    figure = BeautifulSoup(good.html("intro"), "html.parser").find("figure")
    image = figure.find("img")
    assert image["alt"] == "The line again" and (good.folder / "_build/html" / image["src"]).exists()
    assert "The same line." in figure.find("figcaption").get_text()


def test_status_tells_versions_and_durations(good):
    page = good.html("status")
    assert "ran to its last cell" in page and "torch" in page and "fingerprint" in page


def test_a_second_build_has_the_claims_from_the_cache(good):
    """The trap: myst-nb leaves a notebook without outputs when it found it in the cache."""
    (good.folder / "notebooks" / "good.ipynb").touch()
    good.set_intro("A book, edited")
    done = good.build("-W", "-n", "--keep-going")
    assert done.returncode == 0, done.told[-3000:]
    assert "executing “" not in done.told
    assert 'href="notebooks/good.html#claim-one"' in good.html("scorecard")


def test_nothing_on_a_page_comes_from_outside(good):
    from bs4 import BeautifulSoup

    for path in (good.folder / "_build" / "html").rglob("*.html"):
        soup = BeautifulSoup(path.read_text("utf8"), "html.parser")
        loaded = [t.get("src") for t in soup.find_all(["script", "img", "iframe"])]
        loaded += [t.get("href") for t in soup.find_all("link") if "canonical" not in t.get("rel", [])]
        outside = [u for u in loaded if u and u.startswith(("http:", "https:", "//"))]
        assert not outside, f"{path.name}: {outside}"
        assert "THEBE_JS_URL" not in path.read_text("utf8"), path.name


def test_mathjax_comes_from_the_package_and_is_not_committed(good, root):
    assert (good.folder / "_build/html/mathjax/tex-mml-chtml.js").stat().st_size > 1e6
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    assert not [name for name in listed.stdout.lower().splitlines() if "mathjax" in name]


def test_an_edit_in_qhlib_executes_again(good):
    """The trap: the stock cache knows a notebook by its cells alone and would show the old number."""
    assert "the number is 1" in good.html("notebooks/good")
    before = good.caches()
    good.set_number(2)
    done = good.build()
    assert done.returncode == 0, done.told[-3000:]
    assert "the number is 2" in good.html("notebooks/good")
    assert good.caches() - before, "the cache's path follows the sources"


def test_a_failing_notebook_fails_every_build(new_book):
    """The trap: rc 0 at once without -W, and rc 0 on the second call with it."""
    book = new_book()
    book.write("failing", "raise RuntimeError('broken on purpose')")
    for _ in range(2):
        done = book.build()
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        assert "The chapter failing" in last and "RuntimeError: broken on purpose" in last, last
    assert not (book.folder / "_build/html/notebooks/failing.html").exists()


def test_what_does_not_hold_fails_every_build(new_book):
    book = new_book()
    book.write("deviating", claim("off", 1.5))
    book.write("unfinished", claim("lost", 1.0), end=())
    for _ in range(2):
        done = book.build()
        assert done.returncode != 0
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        assert "deviating/off deviates: predicted 1, measured 1.5, tolerance 0.01" in last, last
        assert "notebooks/unfinished: it never called chapter.finish()" in last, last
    assert not (book.folder / "_build/html/scorecard.html").exists()


def test_a_missing_alt_text_and_a_python_warning_fail_every_strict_build(new_book):
    """The trap: an output's alt text is a file name by default, and -W forgets the pages it has read."""
    book = new_book()
    book.write("wordless", figure(), 'import warnings; warnings.warn("beware", stacklevel=1)')
    for _ in range(2):
        done = book.build("-W", "--keep-going")
        assert done.returncode != 0
        assert "has no written alt text" in done.told and "UserWarning: beware" in done.told


def test_old_caches_are_pruned(good):
    assert len(good.caches()) <= 2


def notebooks(root):
    return sorted((root / "notebooks").glob("*.ipynb"))


def test_notebooks_are_committed_without_outputs(root):
    found = notebooks(root)
    assert found, "the book has no notebook"
    for path in found:
        raw = json.loads(path.read_text("utf8"))
        nbformat.validate(raw)
        assert raw["metadata"]["kernelspec"]["name"] == "python3", path.name
        assert {"display_name", "language"} <= set(raw["metadata"]["kernelspec"]), path.name
        ids = [cell["id"] for cell in raw["cells"]]
        assert len(set(ids)) == len(ids), path.name
        for cell in raw["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"] and cell["execution_count"] is None, f"{path.name}: {cell['id']}"
            assert cell["metadata"].get("tags") != [], f"{path.name}: papermill left empty tags"
            assert "injected-parameters" not in cell["metadata"].get("tags", []), path.name


def test_cells_that_draw_carry_a_written_alternative(root):
    for path in notebooks(root):
        for cell in json.loads(path.read_text("utf8"))["cells"]:
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
            if alt is not None:
                assert len(alt.split()) >= 4, f"{path.name}, {cell['id']}: “{alt}” describes nothing"
            if "figure" in cell["metadata"].get("mystnb", {}):
                assert alt, f"{path.name}, {cell['id']}: a figure without mystnb.image.alt"
