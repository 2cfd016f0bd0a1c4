"""An executed notebook as one page that opens anywhere, rendered by the book's own builder.

Conventions: the page has the look and the numbers of the book, because it is a page of the book: a copy of the book's
settings in which all other pages are only titles is built, and styles, scripts, fonts and pictures are put into the one
file. Links to pages that are not there become plain words.
"""

import base64
import importlib.util
import json
import mimetypes
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .errors import BookError
from .notebook import Notebook, read_notebook, write_whole

PARTS = ("_config.yml", "_toc.yml", "references.bib", "_ext", "_static")
_URL = re.compile(r"url\(\s*[\"']?(?!data:|#)([^\"')]+)[\"']?\s*\)")
_IMPORT = re.compile(r"@import\s+(?:url\()?[\"']([^\"']+)[\"']\)?\s*;")


def home() -> Path:
    """Where the book's settings are: in the installed package, or in the checkout it was imported from.

    >>> (home() / "_config.yml").is_file()
    True
    """
    package = Path(__file__).resolve().parents[1]
    return next((place for place in (package / "_book", package.parent) if (place / "_toc.yml").is_file()), package)


def check_builder() -> None:
    """Raise :class:`BookError` when the book's builder or its settings are not installed.

    >>> check_builder()
    """
    missing = [name for name in ("jupyter_book", "mathjax", "sphinx_proof") if not importlib.util.find_spec(name)]
    if missing or not all((home() / part).exists() for part in PARTS):
        raise BookError("--html needs the book's builder; install it with: pip install 'qhlib[book]'")


def write_page(executed: Notebook, source: Notebook, target: Path) -> None:
    """Write the notebook `executed`, a run of `source`, as the self-contained page `target`.

    Raises :class:`BookError` when the page does not build, with the builder's own words.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in PARTS:
            copy = shutil.copytree if (home() / part).is_dir() else shutil.copy
            copy(home() / part, root / part)
        place = _lay_out(root, executed, source)
        command = "from jupyter_book.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", command, "build", "-q", str(root)],
            cwd=root,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        page = root / "_build" / "html" / f"{place}.html"
        if not page.is_file():
            raise BookError("the page does not build: " + done.stderr.strip()[-1000:])
        write_whole(target, _in_one(page))


def _lay_out(root: Path, executed: Notebook, source: Notebook) -> str:
    """Write the documents: the notebook, and a title for every other page; returns the notebook's document name."""
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    entries = [entry for part in toc.get("parts", [toc]) for entry in part.get("chapters", [])]
    entries += [section for entry in entries for section in entry.get("sections", [])]
    files = [toc["root"], *(entry["file"] for entry in entries)]
    place = next((file for file in files if Path(file).name == source.name), None)
    if place is None:  # a notebook of the reader's own
        place = f"notebooks/{re.sub(r'[^A-Za-z0-9_-]', '_', source.name)}"
        (toc["parts"][-1] if "parts" in toc else toc)["chapters"].append({"file": place})
        (root / "_toc.yml").write_text(yaml.safe_dump(toc), "utf8")
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        if file != place:
            (root / f"{file}.md").write_text(f"# {_title(file)}\n", "utf8")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / f"{place}.ipynb").write_text(json.dumps(executed.content), "utf8")
    return place


def _title(file: str) -> str:
    """Title of one of the book's pages, as far as it is there to be read."""
    chapter, text = home() / f"{file}.ipynb", home() / f"{file}.md"
    if chapter.is_file():
        return read_notebook(chapter).title
    heading = re.search(r"^# (.+)$", text.read_text("utf8"), re.MULTILINE) if text.is_file() else None
    return heading[1] if heading else Path(file).name.capitalize()


def _in_one(page: Path) -> str:
    """The page at a path with all that it loads put inside."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.read_text("utf8"), "html.parser")
    for tag in soup.find_all("link"):
        file = _local(page, tag.get("href", ""))
        if "stylesheet" in tag.get("rel", []) and file:
            style = soup.new_tag("style")
            style.string = _style(file)
            tag.replace_with(style)
        elif "icon" in " ".join(tag.get("rel", [])) and file:
            tag["href"] = _data(file)
        else:
            tag.decompose()
    for tag in soup.find_all("script", src=True):
        file = _local(page, tag["src"])
        if file and file.name == "tex-mml-chtml.js":
            file = _mathjax()  # the component that draws without fonts
        if file is None or file.name in ("searchtools.js", "language_data.js", "searchindex.js"):
            tag.decompose()
            continue
        tag.string = file.read_text("utf8").replace("</script", "<\\/script")
        if tag.has_attr("defer"):  # a script inside the page runs at once, where a deferred file waits for the page
            soup.body.append(tag.extract())
        for name in ("src", "defer", "async"):
            del tag[name]
    for tag in soup.find_all("img", src=True):
        if file := _local(page, tag["src"]):
            tag["src"] = _data(file)
    for tag in soup.find_all("a", href=True):
        if not tag["href"].startswith(("#", "http:", "https:", "mailto:", "data:")):
            del tag["href"]
    return str(soup)


def _local(page: Path, reference: str) -> Path | None:
    if not reference or re.match(r"[a-z]+:|//|#", reference):
        return None
    file = (page.parent / reference.split("?")[0].split("#")[0]).resolve()
    return file if file.is_file() else None


def _data(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _style(file: Path) -> str:
    """A style sheet with what it loads inside."""

    def embed(found: re.Match) -> str:
        target = _local(file, found[1])
        return f"url({_data(target)})" if target else "url()"

    def include(found: re.Match) -> str:
        target = _local(file, found[1])
        return _style(target) if target else ""

    return _URL.sub(embed, _IMPORT.sub(include, file.read_text("utf8")))


def _mathjax() -> Path:
    place = importlib.util.find_spec("mathjax").submodule_search_locations[0]
    return Path(place) / "static" / "mathjax" / "es5" / "tex-svg-full.js"
