"""What a page gives its readers: its command and parameters, its terms, pictures for a phone."""

import re

import nbformat
import pytest

V4 = nbformat.v4
TEXT = """\
# Good

A *support vector* is one, and so is another support vector; `support vector` is code.

```{parameters}
```
"""
NOTATION = """\
# Notation

```{glossary}
support vector
  An example that [counts](intro.md). First in *Good*.
```
"""
PANELS = """\
import matplotlib.pyplot as plt
from qhlib import plots

fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
chapter.glue("panels", fig)
frames = [plt.subplots(1, 2, figsize=(8, 3), layout="constrained")[0] for _ in range(2)]
chapter.glue("slider", plots.scrubber(frames, ["a", "b"], name="good", alt="Two empty panels"))
"""
SHOWN = """\
```{glue:figure} panels
:alt: Two empty panels beside each other
Two panels.
```

```{glue} slider
```
"""
INTRO = "A book\n\n```{verdicts} good\n```\n\n```{chapter-figure} slider\nMove it.\n```"
URL = "https://github.com/somebody/margins"


@pytest.fixture(scope="module")
def book(new_book):
    """A strictly built book with a glossary, a wide picture and a slider."""
    book = new_book()
    book.set_intro(INTRO)
    book.write("good", V4.new_markdown_cell(TEXT), PANELS, V4.new_markdown_cell(SHOWN))
    (book.folder / "notation.md").write_text(NOTATION, "utf8")
    with (book.folder / "_toc.yml").open("a", encoding="utf8") as toc:
        toc.write("- file: notation\n")
    done = book.build("-W", "-n", "--keep-going")
    assert done.returncode == 0, done.told[-3000:]
    return book


def soup(book, page: str):
    from bs4 import BeautifulSoup

    return BeautifulSoup(book.html(page), "html.parser").find("main")


def test_a_page_can_be_rerun(book):
    page = soup(book, "notebooks/good")
    assert any("qhlib run good --html" in code.get_text() for code in page.find_all("pre"))
    table = page.find("table", class_="parameters")
    rows = [
        [c.get_text(" ", strip=True) for c in row.find_all(["th", "td"])] for row in table("tr")
    ]
    assert rows == [
        ["How it is run", "default, range", "meaning"],
        ["seed", "0 [0, 100]", "first random seed"],
        ["effort", "book {smoke, book, paper}", "how much is computed"],
    ]
    taken = page.find("a", class_="download")
    place = book.folder / "_build" / "html" / "notebooks" / taken["href"]
    assert place.read_bytes() == book.path("good").read_bytes(), "as it is committed"


def test_parameters_are_folded_and_the_fold_says_so(book):
    summary = soup(book, "notebooks/good").find("summary")
    assert "Show the parameters" in summary.get_text()


def test_the_first_use_of_a_term_leads_to_the_glossary_and_says_what_it_means(book):
    (term,) = soup(book, "notebooks/good").find_all("span", class_="std-term")
    assert term.parent["title"] == "An example that counts."
    assert term.parent["href"] == "../notation.html#term-support-vector"
    assert term.find_parent("p").get_text().startswith("A support vector is one")


def test_verdicts_and_a_slider_stand_on_the_front_page(book):
    page = soup(book, "intro")
    slider = page.find("figure", class_="scrubber")
    assert slider and slider.find("input")["id"] == slider.find("label")["for"]
    assert "Move it." in page.get_text()


def test_a_wide_picture_is_shown_in_panes(book):
    """The first of them has the words; a screen reader hears them once."""
    page = soup(book, "notebooks/good")
    still, moving = page.find_all("span", class_="panes")
    for panes, words in ((still, "Two empty panels beside each other"), (moving, "Two empty")):
        first, second = panes.find_all("img")
        assert first["src"] == second["src"] and first["alt"].startswith(words)
        assert second["alt"] == ""
    assert not page.find("figure", class_="scrubber").find("img", style=True)


@pytest.mark.browser
@pytest.mark.parametrize("width, stacked", [(1280, False), (375, True)])
def test_panes_stand_in_a_row_or_in_a_column_and_move_together(book, open_page, width, stacked):
    with open_page(width) as (page, heard):
        page.goto((book.folder / "_build/html/notebooks/good.html").as_uri())
        for panes in page.query_selector_all(".panes"):
            left, right = (pane.bounding_box() for pane in panes.query_selector_all(".pane"))
            below = right["y"] >= left["y"] + left["height"]
            assert below == stacked and (stacked or right["x"] >= left["x"] + left["width"] - 1)
            assert right["x"] + right["width"] <= width
        page.fill("input[type=range]", "0")
        sources = page.eval_on_selector_all(".scrubber img", "all => all.map(e => e.src)")
        first = page.eval_on_selector(".scrubber", "e => JSON.parse(e.dataset.frames)[0][1]")
        assert sources == [first, first] and not heard


def test_buttons_lead_to_the_repository_if_it_has_an_address(book):
    """One setting: with it Binder and Colab open this very notebook, without it there are none."""
    hosts = ("mybinder.org", "colab.research.google.com")
    assert not any(host in book.html("notebooks/good") for host in hosts)
    config = book.folder / "_config.yml"
    config.write_text(config.read_text("utf8").replace('url: ""', f'url: "{URL}"', 1), "utf8")
    done = book.build("-W", "-n", "--keep-going", "--all")
    assert done.returncode == 0, done.told[-3000:]
    page = book.html("notebooks/good")
    targets = re.findall(rf'href="(https://(?:{"|".join(hosts)})/[^"]*)"', page)
    assert len({target.split("/")[2] for target in targets}) == 2
    for target in targets:
        assert "somebody/margins" in target
        name = re.search(r"notebooks/\w+\.ipynb$", target)
        assert name and (book.folder / name[0]).exists()
    assert f"git+{URL}" in soup(book, "notebooks/good").get_text()
