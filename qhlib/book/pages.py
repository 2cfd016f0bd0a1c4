"""An executed notebook as a page that opens anywhere, rendered by the book's own builder.

Conventions: the page has the look and the numbers of the book, because it is a page of the book: a
copy of the book's settings, in which all other pages are only titles, is built. Beside
``NAME.html`` lies the folder ``NAME_files`` with styles, scripts, fonts and pictures; links to
other pages become plain words.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .errors import BookError
from .notebook import Notebook, read_notebook, write_whole

PARTS = ("_config.yml", "_toc.yml", "references.bib", "_ext", "_static")
ASSETS = ("_static", "_images", "_sphinx_design_static", "mathjax")


def home() -> Path:
    """Where the book's settings are: in the installed package, or in the checkout it was imported
    from.

    >>> (home() / "_config.yml").is_file()
    True
    """
    inside = Path(__file__).resolve().parents[1] / "_book"
    return inside if inside.is_dir() else inside.parents[1]


def check_builder() -> None:
    """Raise :class:`BookError` when the book's builder or its settings are not installed.

    >>> check_builder()
    """
    names = ("jupyter_book", "mathjax", "sphinx_proof", "sphinx_revealjs")
    if not all(map(importlib.util.find_spec, names)) or not all(
        (home() / part).exists() for part in PARTS
    ):
        raise BookError(
            "a page (--html, or without --no-report) needs the book's builder; install it with: "
            "pip install 'qhlib[book]'"
        )


def write_page(executed: Notebook, name: str, target: Path) -> None:
    """Write `executed`, a run of the notebook called `name`, as the page `target` and its folder.

    Raises :class:`BookError` when the page does not build, with the builder's own words.
    """
    import yaml

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".page-") as folder:
        root = Path(folder)
        for part in PARTS:
            copy = shutil.copytree if (home() / part).is_dir() else shutil.copy
            copy(home() / part, root / part)
        toc = (root / "_toc.yml").read_text("utf8")
        pages = re.findall(r"(?:file|root): *(\S+)", toc)
        if f"notebooks/{name}" in pages:
            toc = toc.replace(f"notebooks/{name}\n", "this_run\n")
        else:  # a notebook of the reader's own
            parts = yaml.safe_load(toc)
            parts.get("parts", [parts])[0]["chapters"].append({"file": "this_run"})
            toc = yaml.safe_dump(parts)
        (root / "_toc.yml").write_text(toc, "utf8")
        for page in pages:
            (root / page).parent.mkdir(exist_ok=True)
            (root / f"{page}.md").write_text(f"# {_title(page)}\n", "utf8")
        (root / "this_run.ipynb").write_text(json.dumps(executed.content), "utf8")
        build = "from jupyter_book.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", build, "build", "."], cwd=root, capture_output=True
        )
        built = root / "_build" / "html"
        if not (built / "this_run.html").is_file():
            raise BookError(
                f"the page does not build: {done.stderr.decode(errors='replace')[-1000:]}"
            )
        files = target.with_name(f"{target.stem}_files")
        for part in ASSETS:
            if (built / part).is_dir():
                shutil.copytree(built / part, root / "files" / part)
        shutil.rmtree(files, ignore_errors=True)
        os.replace(root / "files", files)
        html = (built / "this_run.html").read_text("utf8")
    html = re.sub(rf'(src|href)="({"|".join(ASSETS)})/', rf'\1="{files.name}/\2/', html)
    html = re.sub(r'<script[^>]*src="searchindex.js"[^>]*></script>', "", html)
    elsewhere = r' href="(?!#|https?:|mailto:|' + re.escape(files.name) + r')[^"]*"'
    write_whole(target, re.sub(elsewhere, "", html))


def _title(page: str) -> str:
    """Title of one of the book's pages, as far as it is there to be read."""
    if (chapter := home() / f"{page}.ipynb").is_file():
        return read_notebook(chapter).title
    text = home() / f"{page}.md"
    heading = re.match(r"# (.+)", text.read_text("utf8")) if text.is_file() else None
    return heading[1] if heading else page.capitalize()
