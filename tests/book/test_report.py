"""A sweep's report: figures and a slider on a page that opens anywhere, and joins the book."""

import re
import shutil

import nbformat
import pytest

from qhlib.book.cli import main
from qhlib.book.errors import BookError
from qhlib.book.notebook import read_notebook
from qhlib.book.records import record_of
from qhlib.book.sweep import report, tables
from tests.site.conftest import ScratchBook

from .conftest import notebook, opened

pytest.importorskip("distributed")
SPREAD = """\
chapter.claim("one", predicted=rate, measured=rate * (1 + seed / 10), tolerance=0.15,
              outside="rate too large" if rate > 2 else "")
if seed == 2 and rate == 2:
    raise ValueError("no luck")"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a sweep over seed and rate, one run of which fails."""
    place = tmp_path_factory.mktemp("report")
    nbformat.write(notebook(SPREAD, 'chapter.glue("value", rate)'), place / "tiny_chapter.ipynb")
    grids = ["--grid", "seed=0:3:1", "--grid", "rate=0.5,1,2,3"]
    assert (
        main(["sweep", str(place / "tiny_chapter.ipynb"), *grids, "-o", str(place / "out")]) == 1
    )
    return place / "out"


def test_the_report_is_whole_and_says_what_the_table_says(made):
    names = {".lock", "failed", "runs", "table.csv", "table.parquet"}
    names |= {"report.ipynb", "report.html", "report_files"}
    assert {path.name for path in made.iterdir()} == names
    executed = read_notebook(made / "report.ipynb")
    record = record_of(executed)
    assert record.stopped == "" and record.finished["parameters"] == {"table": "table.parquet"}
    html = (made / "report.html").read_text("utf8")
    text = " ".join(re.sub("<[^>]+>", "", html).split())
    assert "12 runs of tiny_chapter, 11 of them finished, over rate, seed" in text
    table = tables.read(made)
    for verdict in ("reproduced", "deviates", "outside"):
        assert f"{(table.verdict == verdict).sum()} times" in text
    assert html.count("<figcaption") == 3 and 'class="scrubber"' in html
    places = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert all(p.startswith(("report_files/", "http", "mailto:", "data:")) for p in places)
    assert str(made) not in html


def test_figures_hold_the_numbers_of_the_table(made):
    table = tables.read(made)
    assert report.axis(table) == "rate" and set(report.parameters(table)) >= {"seed", "radii"}
    figure = report.measured(table)
    points, line = figure.axes[0].lines
    assert sorted(points.get_ydata()) == sorted(table.measured.dropna())
    assert list(line.get_xdata()) == list(line.get_ydata()) == [0.5, 1.0, 2.0, 3.0]
    mesh = report.verdicts(table).axes[0].collections[0].get_array()
    shares = mesh.reshape(2, -1).filled(-1)
    assert shares[1].tolist() == [1, 1, pytest.approx(2 / 3), 1]
    assert shares[0].tolist() == [1, pytest.approx(2 / 3), pytest.approx(1 / 3), -1]
    slider = report.explorer(table, "rate", "demo")
    assert slider.data.count("data:image/png") >= 4 and 'id="demo-range"' in slider.data
    with pytest.raises(BookError, match="this table holds no claims"):
        report.explorer(table[table.claim.isna()], "rate", "demo")


CHANGES = {
    "a word": lambda t: t.assign(device=[f"device {k % 5}" for k in range(len(t))]),
    "a truth": lambda t: t.assign(noisy=[bool(k % 2) for k in range(len(t))], rate=1.0, seed=1),
    "one set": lambda t: t.assign(rate=1.0, seed=1),
    "nothing asserted": lambda t: t.assign(verdict="outside"),
    "no number": lambda t: t.assign(measured=float("nan"), deviation=float("nan")),
    "infinite": lambda t: t.assign(measured=float("inf"), deviation=float("inf")),
    "wide": lambda t: t.assign(rate=[10.0 ** (k % 7) for k in range(len(t))]),
    "all failed but one": lambda t: t[t.seed.eq(0) & t.rate.eq(1) | t.claim.isna()],
}


@pytest.mark.parametrize("kind", CHANGES)
def test_odd_tables_have_figures_too(kind, made):
    import matplotlib.pyplot as plt

    table = CHANGES[kind](tables.read(made))
    for draw in (report.measured, report.verdicts, report.durations):
        draw(table).canvas.draw()
    plt.close("all")
    assert report.explorer(table, report.axis(table), "demo").data


def test_a_slider_over_many_values_has_few_frames(made):
    table = tables.read(made).dropna(subset="claim")
    many = table.iloc[[k % len(table) for k in range(100)]].assign(rate=range(100))
    shown = report.explorer(many, "rate", "demo").data
    last = int(re.search(r'max="(\d+)"', shown)[1])
    assert last == report.MOST - 1 and "[&quot;0&quot;" in shown and "[&quot;99&quot;" in shown


@pytest.mark.browser
def test_the_page_opens_offline_and_its_slider_moves(made):
    with opened(made / "report.html") as tab:
        before = tab.locator("figure.scrubber img").get_attribute("src")
        tab.locator("figure.scrubber input").press("Home")
        assert tab.locator("figure.scrubber output").inner_text() == "0.5"
        assert tab.locator("figure.scrubber img").get_attribute("src") != before
        broken = "[...document.images].filter(i => !i.naturalWidth).length"
        assert tab.evaluate(broken) == 0


@pytest.mark.site
def test_the_report_joins_the_book_and_is_not_executed_again(made, tmp_path):
    book = ScratchBook(tmp_path)
    shutil.copy(made / "report.ipynb", book.path("my_sweep"))
    book.write("good")
    done = book.build("-W", "-n", "--keep-going")
    assert done.returncode == 0, done.told[-3000:]
    assert "executed good" in done.told and "executed my_sweep" not in done.told
    html = book.html("notebooks/my_sweep")
    assert "Sweep: A tiny chapter" in html and 'class="scrubber"' in html
