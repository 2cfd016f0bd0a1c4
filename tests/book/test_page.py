"""A run's page: the book's look and numbers, every piece beside it, nothing from elsewhere."""

import re

import nbformat
import pytest

from qhlib.book.notebook import read_notebook
from qhlib.book.pages import write_page

from .conftest import notebook, opened

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAA"
    "AABJRU5ErkJggg=="
)


def executed():
    """The tiny chapter as a kernel leaves it: a glued number, a claim's numbers, a figure, the
    end."""
    made = notebook('chapter.claim("one", predicted=1)', "plot()")
    made.cells[
        0
    ].source += (
        "\n\n{numref}`fig-a` and {ref}`the next <other>`. [Elsewhere](leaky_relu_rank_two.ipynb)"
    )
    made.cells[0].source = made.cells[0].source.replace(" and {ref}`the next <other>`", "")
    glue = "application/papermill.record/"
    data = {
        "1": (
            {glue + "text/plain": "0.63012"},
            {"scrapbook": {"name": "value", "mime_prefix": glue}},
        ),
        "4": ({"application/vnd.qhlib.claim+json": row(), "text/plain": "shown elsewhere"}, {}),
        "5": ({"image/png": PIXEL, "text/plain": "a figure"}, {}),
    }
    for number, cell in enumerate(made.cells):
        if cell.cell_type == "code":
            cell.execution_count = number
            if str(number) in data:
                bundle, metadata = data[str(number)]
                cell.outputs = [nbformat.v4.new_output("display_data", bundle, metadata=metadata)]
    figure = {"name": "fig-a", "caption": "A line $y$."}
    made.cells[5].metadata["mystnb"] = {
        "figure": figure,
        "image": {"alt": "A line that rises slowly"},
    }
    done = {"finished": True, "parameters": {}, "seconds": 1.0}
    made.cells[-1].outputs = [
        nbformat.v4.new_output("display_data", {"application/vnd.qhlib.finished+json": done})
    ]
    return made


def row():
    from qhlib.book.judge import judge

    return judge("one", 1.0, 1.2, 1e-6).row()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    nbformat.write(executed(), folder / "run.ipynb")
    write_page(read_notebook(folder / "run.ipynb"), "tiny_chapter", folder / "run.html")
    return folder / "run.html"


def test_the_page_is_a_page_of_the_book(page):
    html = page.read_text("utf8")
    assert "✗ deviates" in html and "Predicted 1, measured 1.2, tolerance 1e-06." in html
    assert "stated in the paper: Theorem 1" in html or "Stated in the paper: Theorem 1" in html
    assert (
        "The value is <span" in html
        and "0.630" in html
        and "{glue" not in html
        and "{prf:" not in html
    )
    assert (
        'alt="A line that rises slowly"' in html
        and "Theorem" in html
        and "shown elsewhere" not in html
    )
    assert sorted(p.name for p in page.parent.iterdir()) == ["run.html", "run.ipynb", "run_files"]
    places = re.findall(r'(?:src|href)="([^"#]+)"', html)
    outside = [p for p in places if not p.startswith(("run_files/", "http", "mailto:", "data:"))]
    assert places and not outside, outside
    for place in places:
        if place.startswith("run_files/"):
            assert (page.parent / place.split("?")[0].split("#")[0]).is_file(), place


def test_a_chapter_of_the_book_keeps_its_number(tmp_path):
    """The second chapter of the table of contents is the second on its own page, too."""
    import yaml

    from qhlib.book.pages import home

    toc = yaml.safe_load((home() / "_toc.yml").read_text("utf8"))
    first = toc["parts"][0]["chapters"][0]["file"].split("/")[1]
    nbformat.write(executed(), tmp_path / f"{first}.ipynb")
    write_page(read_notebook(tmp_path / f"{first}.ipynb"), first, tmp_path / "out.html")
    assert "Fig. 1.1" in (tmp_path / "out.html").read_text("utf8") or "Fig. 1" in (
        tmp_path / "out.html"
    ).read_text("utf8")


@pytest.mark.browser
def test_the_page_typesets_its_formulas_offline(page):
    with opened(page, 375) as tab:
        tab.wait_for_function("document.querySelectorAll('mjx-container').length >= 4")
        assert tab.locator("mjx-merror").count() == 0
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
