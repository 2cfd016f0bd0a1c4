"""What can be taken away, as the one who took it meets it: unpacked somewhere, no network, no
server."""

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.conftest import ROOT, find_chromium

from .test_pages import LEADS

WORDS = re.compile(r"\w+")


def made(*options: str) -> subprocess.CompletedProcess:
    """``make dist`` with this environment; processes of tests make it one after another."""
    try:
        from filelock import FileLock as Lock
    except ImportError:
        Lock = nullcontext
    (ROOT / "_build").mkdir(exist_ok=True)
    command = [
        "make",
        "--no-print-directory",
        "dist",
        f"VENV={sys.prefix}",
        "INSTALLED=",
        *options,
    ]
    with Lock(ROOT / "_build" / ".dist.lock"):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5000)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The folder in the zip, in a place whose name has spaces in it."""
    find_chromium()
    done = made()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    place = tmp_path_factory.mktemp("taken") / "a place with spaces, é"
    place.mkdir()
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf8"), re.M)[1]
    with zipfile.ZipFile(ROOT / "dist" / f"margins-in-motion-{version}.zip") as archive:
        archive.extractall(place)
        names = archive.namelist()
        assert names == sorted(names) and {each.date_time[0] for each in archive.infolist()} == {
            1980
        }
    (folder,) = place.iterdir()
    assert folder.name == f"margins-in-motion-{version}"
    return folder


@pytest.mark.browser
def test_the_same_files_make_the_same_zip(unpacked, tmp_path):
    sys.path.insert(0, str(ROOT / "_ext"))
    try:
        from marginbook import dist
    finally:
        sys.path.pop(0)
    files = {"a-1.0/b": b"1", "a-1.0/c": unpacked / "LICENSE"}
    first = dist.write(files, tmp_path).read_bytes()
    os.utime(unpacked / "LICENSE", (1e9, 1e9))
    assert dist.write(files, tmp_path).read_bytes() == first
    with pytest.raises(FileNotFoundError):
        dist.write({"a-1.0/b": tmp_path / "gone"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a-1.0.zip"], "a draft is left"


def test_without_chromium_it_says_what_to_install_or_to_leave_out():
    done = subprocess.run(
        ["make", "pdf", "INSTALLED=", "CHROMIUM="], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "apt-get install chromium" in done.stdout and "make dist PDF=" in done.stdout


def test_the_claims_are_data_and_every_column_is_explained(unpacked):
    with (unpacked / "claims" / "claims.csv").open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    told = json.loads((unpacked / "claims" / "claims.json").read_text("utf8"))["claims"]
    assert [row["id"] for row in rows] == [row["id"] for row in told] and len(rows) > 100
    for row, other in zip(rows, told, strict=True):
        assert float(row["measured"]) == other["measured"] and row["verdict"] == other["verdict"]
        page, anchor = row["link"].split("#")
        assert f'id="{anchor}"' in (unpacked / "html" / page).read_text("utf8"), row["link"]
    readme = (unpacked / "claims" / "README.md").read_text("utf8")
    explained = {name for line in readme.splitlines() for name in re.findall(r"`(\w+)`", line)}
    assert set(rows[0]) <= explained
    assert "MIT licence" in readme and re.search(r"commit [0-9a-f]{40}|commit not known", readme)


@pytest.mark.browser
def test_the_book_opens_where_it_was_unpacked(unpacked, open_page):
    with open_page() as (page, heard):
        page.goto((unpacked / "html" / "index.html").as_uri())
        page.wait_for_selector("article h1")
        for name in ("notebooks/foundations", "scorecard", "status"):
            page.goto((unpacked / "html" / f"{name}.html").as_uri())
            page.evaluate("() => window.MathJax?.startup?.promise")
        page.goto((unpacked / "slides" / "index.html").as_uri())
        assert page.locator("li a").count() == len(LEADS)
        page.click("li a")
        page.wait_for_selector(".reveal.ready")
        assert not heard, heard


# What sticks out of its slide, or out of the block that it is a part of: covered by the next one.
OUTSIDE = """
() => {
  const slide = Reveal.getCurrentSlide(), frame = slide.getBoundingClientRect(), out = [];
  for (const block of slide.children) {
    const whole = block.getBoundingClientRect();
    for (const el of [block, ...block.querySelectorAll("*")]) {
      const box = el.getBoundingClientRect();
      if (!box.width || !box.height || el.parentElement.closest("mjx-container")) continue;
      const far = Math.max(box.bottom - Math.min(whole.bottom, frame.bottom),
        box.right - frame.right, frame.left - box.left, frame.top - box.top);
      if (far > 1) out.push(`${Math.round(far)} px: ${el.textContent.trim().slice(0, 60)}`);
    }
    const size = parseFloat(getComputedStyle(block).fontSize);
    if (size < 18) out.push(`letters of ${size} px: ${block.textContent.slice(0, 60)}`);
  }
  if (slide.querySelectorAll("h1, h2").length !== 1) out.push("not one heading");
  if (slide.children.length < 2) out.push("nothing but a heading");
  return out.slice(0, 3);
}
"""
SEEN = """
() => {
  const faults = [...document.querySelectorAll("mjx-merror, [data-mjx-error], .problematic")]
    .map(el => "an error: " + el.textContent);
  for (const el of document.querySelectorAll(".math"))
    if (!el.querySelector("mjx-container")) faults.push("not typeset: " + el.outerHTML);
  for (const img of document.images)
    if (!img.naturalWidth || !img.alt.trim()) faults.push("a picture that lacks: " + img.src);
  return faults;
}
"""


@pytest.mark.browser
def test_every_lead_has_slides_that_fit_their_frame(unpacked, open_page):
    decks = {path.stem: path for path in (unpacked / "slides" / "notebooks").glob("*.html")}
    assert set(decks) == set(LEADS)
    faults = []
    with open_page() as (page, heard):
        for name, path in decks.items():
            heard.clear()
            page.goto(path.as_uri())
            page.evaluate("() => window.MathJax.startup.promise")
            found, number = page.evaluate(SEEN), page.evaluate("Reveal.getTotalSlides()")
            if not 8 <= number <= 20:
                found.append(f"{number} slides")
            for which in range(number):
                page.evaluate(f"Reveal.slide({which})")
                found += [f"slide {which + 1}: {text}" for text in page.evaluate(OUTSIDE)]
            faults += [f"{name}: {text}" for text in [*found, *heard]]
    assert not faults, "\n".join(faults)


def test_slides_show_what_the_page_shows(unpacked):
    """Numbers, verdicts and numbers of equations and figures are those of the page."""
    from bs4 import BeautifulSoup

    for name in LEADS:
        texts, ids = [], []
        for part in ("html", "slides"):
            html = (unpacked / part / "notebooks" / f"{name}.html").read_text("utf8")
            soup = BeautifulSoup(html, "html.parser")
            texts.append(soup)
            ids.append({tag["id"] for tag in soup.find_all(id=True)})
        page, slides = texts
        for kind in (
            ".caption-number",
            ".eqno",
            ".admonition.claim p:nth-of-type(3)",
            ".pasted-text",
        ):
            shown = [tag.get_text().strip("#") for tag in slides.select(kind)]
            there = [tag.get_text().strip("#") for tag in page.select(kind)]
            assert set(shown) <= set(there), (name, kind)
        assert slides.select(".claim") and slides.select("img") and slides.select(".math")
        for link in slides.select("section a[href]"):
            place, _, anchor = link["href"].partition("#")
            if not place:
                assert anchor in ids[1], f"{name}: {link['href']}"
            elif not place.startswith("http"):
                target = (unpacked / "slides" / "notebooks" / place).resolve()
                assert target.is_file(), f"{name}: {link['href']}"
                assert not anchor or f'id="{anchor}"' in target.read_text("utf8"), link["href"]


@pytest.mark.browser
def test_the_pdf_is_tagged_whole_and_leads_somewhere(unpacked):
    pypdf = pytest.importorskip("pypdf")
    pdfium = pytest.importorskip("pypdfium2")
    from qhlib.book.notebook import read_notebook

    reader = pypdf.PdfReader(unpacked / "book.pdf")
    root, faults = reader.trailer["/Root"], []
    assert root["/MarkInfo"]["/Marked"] and "/StructTreeRoot" in root and root["/Lang"] == "en"

    titles = []

    def gather(entries):
        for entry in entries:
            if isinstance(entry, list):
                gather(entry)
            else:
                titles.append(" ".join(WORDS.findall(entry.title)))

    gather(reader.outline)
    for title in titles:  # as Chromium tells a heading that it moves to the next page
        if title[: len(title) // 2] == title[-(len(title) // 2) :]:
            faults.append(f"a bookmark that stammers: {title}")
    notebooks = [read_notebook(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    headings = [each.title for each in notebooks] + ["Scorecard", "Notation", "Bibliography"]
    faults += [f"no bookmark: {h}" for h in headings if " ".join(WORDS.findall(h)) not in titles]

    names, links = reader.named_destinations, 0
    for number, page in enumerate(reader.pages, 1):
        for annotation in page.get("/Annots", ()):
            link = annotation.get_object()
            action = link.get("/A", {})
            target = link.get("/Dest", action.get("/D"))
            links += 1
            if isinstance(target, str) and target not in names:
                faults.append(f"page {number}: a link to nowhere, {target}")
            elif target is None and not str(action.get("/URI")).startswith(("https:", "mailto:")):
                faults.append(f"page {number}: a link out of the file, {action.get('/URI')}")
    assert links > 1000

    text = []
    for number, page in enumerate(pdfium.PdfDocument(unpacked / "book.pdf"), 1):
        width, layer = page.get_width(), page.get_textpage()
        text.append(layer.get_text_range())
        # letters only: the bars of formulas are drawn of pieces that are longer than what is seen
        beyond = layer.get_text_bounded(left=width - 35) + layer.get_text_bounded(right=35)
        if WORDS.search(beyond):
            faults.append(f"page {number}: text beyond its edge, {beyond!r}")
    flat = re.sub(r"\s+", "", "".join(text))
    for notebook in notebooks:
        for cell in notebook.cells:
            lines = [line for line in cell["source"].splitlines() if len(line) > 40]
            if "solution" in cell["id"] and cell["cell_type"] == "code" and lines:
                if re.sub(r"\s+", "", lines[0]) not in flat:
                    faults.append(f"{notebook.name}: the solution {cell['id']} is not told")
    if "\\(" in flat:
        faults.append("TeX is shown as text")
    assert not faults, "\n".join(faults)
