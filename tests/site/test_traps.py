"""Each trap of Jupyter Book 1.x that the house closes, on tiny books with the repository's own
settings."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time

import nbformat
import pytest

from .conftest import claim

V4 = nbformat.v4
NUMBER = 'print("the number is", NUMBER)'
FIGURE = "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1));\nplt.plot([1, 2]);"
GLUED = (
    "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(2, 1))\n"
    'chapter.glue("good-picture", fig)\nchapter.glue("good-value", 0.125)\n'
    'chapter.glue("good-small", 7.1e-12)'
)
TOP = """\
```{glue:figure} good-picture
:name: fig-top
:alt: An empty pair of axes
It is {glue:text}`good-value:.2f`, and not {glue:text}`good-small:.0e`.
```

```{parameters}
```
"""
STRICT = ("-W", "-n", "--keep-going")
PAPERS = """\
kunin2023asymmetric:
- says: The ratio is 1.
  claims: [good/one, good/two]
- says: A ResNet-18 constrains its last layer only.
  untried: every linear head does
"""


def figure(**metadata) -> dict:
    return V4.new_code_cell(FIGURE, metadata={"mystnb": metadata} if metadata else {})


@pytest.fixture(scope="module")
def good(new_book):
    """A book without a fault, built strictly."""
    book = new_book()
    book.set_intro(
        "A book\n\n```{chapter-figure} good-picture\n:alt: The axes again\nThe *same*.\n```"
    )
    book.set_scorecard(PAPERS)
    book.write(
        "good",
        V4.new_markdown_cell(TOP),
        NUMBER,
        claim("one", 1.001),
        claim("two", 1.2, expected_deviation="finite $n$"),
        claim("three", 7.0, outside="the data are not separable"),
        'import sys; print("half" + "way", file=sys.stderr)',
        GLUED,
        figure(image={"alt": "A rising line"}, figure={"name": "fig-line", "caption": "A line."}),
    )
    book.done = book.build(*STRICT)
    return book


def text_of(book, page: str) -> str:
    from bs4 import BeautifulSoup

    return " ".join(BeautifulSoup(book.html(page), "html.parser").find("main").get_text().split())


def test_a_sound_book_builds_strictly_and_says_what_it_does(good):
    assert good.done.returncode == 0, good.done.told[-3000:]
    assert "good: starting the kernel" in good.done.told and "executed good in" in good.done.told
    assert "halfway" not in good.html("notebooks/good"), (
        "progress on stderr is no part of the page"
    )


def test_a_claim_is_one_box_with_statement_numbers_and_verdict(good):
    text = text_of(good, "notebooks/good")
    assert (
        "✓ reproduced The ratio" in text and "Predicted 1, measured 1.001, tolerance 0.01." in text
    )
    assert "Stated in the paper: Theorem 1. Tolerance: the last step." in text
    assert "reproduced one:" not in text, "the output of the call is not shown a second time"
    assert 'id="claim-good-one"' in good.html("notebooks/good")


def test_the_first_screen_shows_what_a_later_cell_made(good):
    text = text_of(good, "notebooks/good")
    assert "It is 0.12, and not 7·10⁻¹²." in text
    assert 'alt="An empty pair of axes"' in good.html("notebooks/good")


def test_the_scorecard_opens_with_the_papers_and_lists_every_claim(good):
    page, text = good.html("scorecard"), text_of(good, "scorecard")
    assert text.index("The ratio is 1. ✓ reproduced, ✗ deviates") < text.index("All 3 claims#")
    assert "not tried here: every linear head does" in text
    for name in ("one", "two", "three"):
        assert f'href="notebooks/good.html#claim-good-{name}"' in page and f"good/{name}" in text
    assert 'class="math' in page and "tex-mml-chtml.js" in page, (
        "formulas in statements are typeset"
    )
    assert "<details" in page, "the claims are folded"
    rows = json.loads((good.folder / "_build/html/scorecard.json").read_text("utf8"))["claims"]
    assert [r["verdict"] for r in rows] == ["reproduced", "deviates", "outside"]
    with (good.folder / "_build/html/scorecard.csv").open(newline="", encoding="utf8") as file:
        assert [r["id"] for r in csv.DictReader(file)] == [r["id"] for r in rows]


def test_a_chapters_figure_is_shown_on_the_front_page(good):
    from bs4 import BeautifulSoup

    shown = BeautifulSoup(good.html("intro"), "html.parser").find("figure")
    image = shown.find("img")
    assert (
        image["alt"] == "The axes again" and (good.folder / "_build/html" / image["src"]).exists()
    )
    assert "The same." in shown.find("figcaption").get_text()


def test_status_tells_versions_and_durations(good):
    text = text_of(good, "status")
    assert "The chapter good: 3 claims" in text and "torch" in text and "processor" in text


def test_an_edit_of_prose_executes_nothing(good):
    """The trap: myst-nb leaves a notebook without outputs when it found it in its cache."""
    before = good.executions("good")
    notebook = nbformat.read(good.path("good"), 4)
    notebook.cells[0].source += "\n\nA new sentence."
    notebook.cells[5].source = notebook.cells[5].source.replace("the last step", "a new reason")
    nbformat.write(notebook, good.path("good"))
    done = good.build(*STRICT)
    assert done.returncode == 0, done.told[-3000:]
    assert "starting the kernel" not in done.told and good.executions("good") == before
    text = text_of(good, "notebooks/good")
    assert "A new sentence." in text and "the number is 1" in text and "a new reason" in text


def test_marked_cells_become_slides_and_marks_execute_nothing(good):
    from bs4 import BeautifulSoup

    before = good.executions("good")
    notebook = nbformat.read(good.path("good"), 4)
    for number in (0, 3, 5, -2):  # title, the glued picture, the first claim, a figure
        notebook.cells[number].metadata["slideshow"] = {"slide_type": "slide"}
    nbformat.write(notebook, good.path("good"))
    done = good.build(*STRICT, "--builder", "custom", "--custom-builder", "slides")
    assert done.returncode == 0, done.told[-3000:]
    assert "starting the kernel" not in done.told and good.executions("good") == before
    folder = good.folder / "_build" / "slides"
    assert [path.name for path in (folder / "notebooks").iterdir()] == ["good.html"]
    assert '<a href="notebooks/good.html">The chapter good</a>' in (
        (folder / "index.html").read_text("utf8")
    )
    soup = BeautifulSoup((folder / "notebooks" / "good.html").read_text("utf8"), "html.parser")
    slides = [" ".join(each.get_text().split()) for each in soup.select("section > section")]
    assert len(slides) == 3 and all("The chapter good" in text for text in slides), slides
    assert "we have \\(x^2" in slides[0] and "The whole page" in slides[0]
    assert "It is 0.12" in slides[1] and "✓ reproduced" in slides[1]
    assert "measured 1.001" in slides[1] and "A line." in slides[2]
    told = " ".join(slides)
    assert "a new reason" not in told and "measured 1.2" not in told and "the number" not in told
    (link,) = {a["href"] for a in soup.select("section a") if "html/" in a["href"]}
    assert (
        folder / "notebooks" / link
    ).resolve() == good.folder / "_build/html/notebooks/good.html"


def test_nothing_on_a_page_comes_from_outside(good):
    from bs4 import BeautifulSoup

    for path in (good.folder / "_build" / "html").rglob("*.html"):
        soup = BeautifulSoup(path.read_text("utf8"), "html.parser")
        loaded = [t.get("src") for t in soup.find_all(["script", "img", "iframe"])]
        loaded += [
            t.get("href") for t in soup.find_all("link") if "canonical" not in t.get("rel", [])
        ]
        outside = [u for u in loaded if u and u.startswith(("http:", "https:", "//"))]
        assert not outside, f"{path.name}: {outside}"
        assert "THEBE_JS_URL" not in path.read_text("utf8"), path.name


def test_mathjax_comes_from_the_package_and_is_not_committed(good, root):
    assert (good.folder / "_build/html/mathjax/tex-mml-chtml.js").stat().st_size > 1e6
    if not (root / ".git").exists() or not shutil.which("git"):
        pytest.skip("what is committed, git tells, and this is no checkout of it")
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    assert not [name for name in listed.stdout.lower().splitlines() if "mathjax" in name]


def test_an_edit_in_qhlib_executes_again_what_depends_on_it_and_nothing_else(good):
    """The trap: the stock cache knows a notebook by its cells alone and would show the old
    number."""
    before = good.executions("good")
    other = good.folder / "qhlib" / "spectra.py"
    other.write_text(other.read_text("utf8") + "\n# an edit\n", "utf8")
    assert good.build().returncode == 0 and good.executions("good") == before
    good.set_number(2)
    done = good.build()
    assert done.returncode == 0, done.told[-3000:]
    assert "the number is 2" in good.html("notebooks/good")
    assert good.executions("good").keys() > before.keys()
    lock = good.folder / "pyproject.toml"
    lock.write_text(lock.read_text("utf8") + "\n# an edit\n", "utf8")
    assert "executed good" in good.build().told
    assert len(good.executions("good")) == 2, "older executions are pruned"


def test_a_failing_notebook_fails_every_build_and_stops_no_other(new_book):
    """The trap: rc 0 at once without -W, and rc 0 on the second call with it."""
    book = new_book()
    book.write("failing", "raise RuntimeError('broken on purpose')")
    book.write("sound", claim("fine", 1.0))
    for _ in range(2):
        done = book.build()
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        assert "failing" in last and "RuntimeError: broken on purpose" in last, last
    assert not (book.folder / "_build/html/notebooks/failing.html").exists()
    assert not book.executions("failing") and len(book.executions("sound")) == 1


def test_what_does_not_hold_fails_every_build(new_book):
    book = new_book()
    book.write("deviating", claim("off", 1.5))
    for _ in range(2):
        done = book.build()
        assert done.returncode != 0
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        assert "✗ deviates deviating/off: predicted 1, measured 1.5, tolerance 0.01" in last, last
    assert not (book.folder / "_build/html/scorecard.html").exists()
    book.write("unfinished", claim("lost", 1.0), end=())
    done = book.build()
    assert done.returncode != 0 and "it never called chapter.finish()" in done.stderr


def test_words_without_numbers_and_other_modes_are_refused(new_book):
    book = new_book()
    book.write("wordy", claim("said", 1.0)[:1])
    done = book.build()
    assert (
        done.returncode != 0
        and "wordy, cell 4, line 1: the claim said is never measured" in done.stderr
    )
    book.write("wordy", claim("said", 1.0))
    config = book.folder / "_config.yml"
    for mode in ("auto", "force", "cache", "inline"):
        text = config.read_text("utf8").replace(
            'execute_notebooks: "off"', f"execute_notebooks: {mode}"
        )
        config.write_text(text, "utf8")
        done = book.build()
        assert done.returncode != 0 and f'execute_notebooks is "{mode}"' in done.told, mode
        config.write_text(text.replace(f": {mode}", ': "off"'), "utf8")


def test_a_missing_alt_text_and_a_python_warning_fail_every_strict_build(new_book):
    """The trap: an output's alt text is a file name by default, and -W forgets the pages it has
    read."""
    book = new_book()
    book.write("wordless", figure(), 'import warnings; warnings.warn("beware", stacklevel=1)')
    for flags in (("-W", "--keep-going"), (), ("-W", "--keep-going")):
        done = book.build(*flags)
        assert (done.returncode != 0) == bool(flags)
        assert "has no written alt text" in done.told and "UserWarning: beware" in done.told


def test_a_reference_to_what_is_gone_fails_a_strict_build_that_reads_one_page(new_book):
    """The trap: pages that did not change are not written, and their references not resolved."""
    book = new_book()
    book.write("target", V4.new_markdown_cell("(a-place)=\n## A place"))
    book.set_intro("A book\n\nSee {ref}`a-place`.")
    assert book.build(*STRICT).returncode == 0
    notebook = nbformat.read(book.path("target"), 4)
    notebook.cells[3].source = "## A place"
    nbformat.write(notebook, book.path("target"))
    done = book.build(*STRICT)
    assert done.returncode != 0 and "a-place" in done.told


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX systems")
def test_a_killed_build_leaves_nothing_half_executed(new_book):
    book = new_book()
    book.write(
        "slow", "from pathlib import Path\nPath('begun').touch()", "import time; time.sleep(20)"
    )
    process = subprocess.Popen(
        **book.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not (book.folder / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not book.executions("slow")
    book.write("slow", claim("done", 1.0))
    done = book.build(*STRICT)
    assert done.returncode == 0, done.told[-3000:]


def test_two_builds_at_once_do_not_harm_each_other(new_book):
    book = new_book()
    book.write("shared", "import time; time.sleep(3)", claim("fine", 1.0))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    both = [subprocess.Popen(**book.command(), **quiet) for _ in range(2)]
    for process in both:
        process.wait()
    assert len(book.executions("shared")) == 1
    done = book.build(*STRICT)
    assert done.returncode == 0 and "starting the kernel" not in done.told, done.told[-3000:]
    assert "✓ reproduced" in book.html("notebooks/shared")


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
                assert not cell["outputs"] and cell["execution_count"] is None, (
                    f"{path.name}: {cell['id']}"
                )
            assert cell["metadata"].get("tags") != [], f"{path.name}: papermill left empty tags"
            assert "injected-parameters" not in cell["metadata"].get("tags", []), path.name


def test_cells_that_draw_carry_a_written_alternative(root):
    for path in notebooks(root):
        for cell in json.loads(path.read_text("utf8"))["cells"]:
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
            if alt is not None:
                assert len(alt.split()) >= 4, (
                    f"{path.name}, {cell['id']}: “{alt}” describes nothing"
                )
            if "figure" in cell["metadata"].get("mystnb", {}):
                assert alt, f"{path.name}, {cell['id']}: a figure without mystnb.image.alt"
