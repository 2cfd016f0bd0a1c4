"""MyST becomes plain markdown, and the exported page typesets without a network."""

import os
import shutil

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhlib.book.export import export_html, glued_values, prepare
from qhlib.book.myst import glued_value, readable

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def convert(text, glued=None, labels=None):
    """Both passes, as the export makes them."""
    labels = {} if labels is None else labels
    readable(text, glued or {}, labels)
    return readable(text, glued or {}, labels)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("{cite}`a` and {cite:t}`b,c`", "(a) and (b, c)"),
        ("{math}`x < 1`", "$x < 1$"),
        ("{doc}`the notation <notation>`", "the notation"),
        ("{py:func}`~qhlib.flow.follow`", "`qhlib.flow.follow`"),
        ("{glue:text}`missing:.2f`", "[missing: not computed]"),
        ("{ref}`here` \n\n(here)=\n## A place", '[A place](#here) \n\n<a id="here"></a>\n\n## A place'),
        ("% a comment\ntext\n+++\nmore", "text\nmore"),
        ("```python\n{cite}`a`\n% 2\n```", "```python\n{cite}`a`\n% 2\n```"),
        ("```{bibliography}\n:style: plain\n```\nend", "end"),
        ("a $5 bill and `{code}`", "a $5 bill and `{code}`"),
    ],
)
def test_small_pieces(source, result):
    assert convert(source) == result


def test_equations_are_numbered_in_order_and_referred_to():
    text = "$$a$$ (eq-a)\n\n```{math}\n:label: eq-b\nb \\\\ c\n```\n\n$$d$$\n\nby {eq}`eq-b` and {eq}`eq-a`"
    result = convert(text)
    assert "a\n\\tag{1}" in result and "\\end{split}\n\\tag{2}" in result and result.count("\\tag") == 2
    assert result.endswith("by [(2)](#eq-b) and [(1)](#eq-a)")


def test_boxes_and_folds_hold_their_contents():
    text = (
        "````{prf:theorem} Main $x$\n:label: thm\n\nLet\n```{math}\ny\n```\n````\n"
        ":::{exercise}\n:label: ex\nProve {prf:ref}`thm`.\n:::\n"
        ":::{solution} ex\n:class: dropdown\nUse\n```python\nx = 1\n```\n:::\n"
        ":::{note}\n---\nclass: dropdown\n---\ninside\n:::\nafter"
    )
    result = convert(text)
    assert '<a id="thm"></a>' in result and "**Theorem (Main $x$).**" in result and "$$\ny\n$$" in result
    assert "Prove [Theorem (Main $x$)](#thm)." in result and "**Exercise.**" in result
    assert "<summary>Solution</summary>" in result and "```python\nx = 1\n```" in result
    assert "<summary>Note</summary>" in result and result.endswith("after")
    assert result.count("<div") == result.count("</div>") == 2
    assert result.count("<details>") == result.count("</details>") == 2


@pytest.mark.parametrize(
    ("text", "spec", "shown"),
    [
        ("0.63012", ".3f", "0.630"),
        ("np.float64(0.63012)", ".3f", "0.630"),
        ("tensor(2., dtype=torch.float64)", ".1f", "2.0"),
        ("1e-09", ".1e", "1.0e-09"),
        ("7", "d", "7"),
        ("7.0", "d", "7"),
        ("0.25", ".0%", "25%"),
        ("nan", ".2f", "nan"),
        ("0.5", "d", "0.5"),
        ("'words'", "", "words"),
        ("[1, 2]", ".2f", "[1, 2]"),
    ],
)
def test_glued_values_are_formatted(text, spec, shown):
    assert glued_value(text, spec) == shown


@given(st.text(alphabet="ab$`:{}()=%#\\\n <>-", max_size=80))
def test_no_text_breaks_the_conversion(text):
    convert(text)


@given(st.text(alphabet="abc xyz,.\n*_$", max_size=80))
def test_plain_markdown_is_left_alone(text):
    if "$$" not in text:
        assert convert(text) == text


def executed():
    v4 = nbformat.v4
    figure = v4.new_code_cell("plot()", metadata={"tags": ["hide-input"]})
    figure.metadata["mystnb"] = {
        "figure": {"name": "fig", "caption": "A line $y$."},
        "image": {"alt": "A line"},
    }
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    figure.outputs = [v4.new_output("display_data", {"image/png": pixel})]
    glue = v4.new_code_cell("glue()")
    glue.outputs = [
        v4.new_output(
            "display_data",
            {"application/papermill.record/text/plain": "2.5"},
            metadata={"scrapbook": {"name": "v", "mime_prefix": "application/papermill.record/"}},
        )
    ]
    text = v4.new_markdown_cell(
        "# Title\n\n{numref}`fig` shows {glue:text}`v:.2f`, $\\sum_i x_i$.\n\n$$z$$ (eq)"
    )
    box = v4.new_markdown_cell(":::{dropdown} More\n**inside** $w$\n:::")
    return v4.new_notebook(cells=[text, glue, figure, box])


def test_figures_get_their_caption_and_alt_text():
    notebook = executed()
    assert glued_values(notebook) == {"v": "2.5"}
    prepare(notebook)
    sources = [cell.source for cell in notebook.cells]
    assert sources[0].startswith("# Title\n\n[Figure 1](#fig) shows 2.50")
    assert sources[3] == '<a id="fig"></a>\n\n**Figure 1.** A line $y$.'
    assert notebook.cells[1].outputs == [] and notebook.cells[2].outputs[0].metadata.alt == "A line"


@pytest.fixture
def page(tmp_path):
    nbformat.write(executed(), tmp_path / "run.ipynb")
    return export_html(tmp_path / "run.ipynb", tmp_path / "run.html")


def test_the_page_folds_code_and_holds_everything(page):
    html = page.read_text(encoding="utf-8")
    body = html[html.index("<body>") :]
    assert "<title>Title</title>" in html and 'lang="en"' in html
    assert 'alt="A line"' in body and "data:image/png;base64," in body
    assert '<details class="code"><summary>Code</summary>' in body
    details = body[body.index("<summary>More</summary>") :]
    assert details.index("<strong>inside</strong>") < details.index("</details>")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_the_page_typesets_its_formulas_offline(page):
    playwright = pytest.importorskip("playwright.sync_api")
    requests, console = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 375, "height": 800})
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: console.append(message.text))
        tab.goto(page.as_uri())
        tab.wait_for_function("document.querySelectorAll('mjx-container').length >= 4", timeout=20_000)
        assert tab.locator("mjx-merror").count() == 0
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
        browser.close()
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()] and console == []
