"""Scratch books with the repository's own settings and extension, the built book, and one
browser."""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from tests.conftest import find_chromium

ROOT = Path(__file__).resolve().parents[2]
V4 = nbformat.v4
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PARAMETERS = """\
seed: int = 0          # first random seed [0, 100]
effort: str = "book"   # how much is computed {smoke, book, paper}
"""
OPEN = (
    "from qhlib.book import open_chapter\nfrom qhlib.number import NUMBER\n"
    'chapter = open_chapter("{name}", globals())'
)
END = ("chapter.finish()",)
CLAIM = """\
::::{{claim}} The ratio $q/\\|w\\|$ is 1.
:name: {name}
:source: Theorem 1
:tolerance: the last step
:basis: stated
::::"""


def claim(name: str, measured: float, **more: str) -> list:
    """Words and numbers of a claim that predicts 1 within 0.01."""
    rest = "".join(f", {key}={value!r}" for key, value in more.items())
    numbers = f"predicted=1.0, measured={measured!r}, tolerance=0.01{rest}"
    return [
        V4.new_markdown_cell(CLAIM.format(name=name)),
        V4.new_code_cell(f"chapter.claim({name!r}, {numbers});"),
    ]


def chapter_cells(name: str, *cells) -> list:
    text = f"# The chapter {name}\n\nFor every $x$ we have $x^2 \\ge 0$."
    parameters = V4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    code = []
    for cell in (OPEN.format(name=name), *cells):
        code += cell if isinstance(cell, list) else [cell]
    made = [V4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in code]
    return [V4.new_markdown_cell(text), parameters, *made]


@dataclass
class ScratchBook:
    """A tiny book in `folder`: the repository's settings, extension and package; its own chapters.

    Its `qhlib/` is a copy of the package, with one module more, which every chapter imports.
    """

    folder: Path

    def __post_init__(self):
        for name in (
            "_config.yml",
            "references.bib",
            "scorecard.md",
            "status.md",
            "bibliography.md",
            "pyproject.toml",
        ):
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("_ext", "_static", "qhlib"):
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.folder / name, ignore=skip)
        self.set_intro("A scratch book")
        self.set_scorecard("")
        (self.folder / "notebooks").mkdir()
        self.set_number(1)

    def set_intro(self, text: str) -> None:
        (self.folder / "intro.md").write_text(f"# {text}\n", "utf8")

    def set_scorecard(self, papers: str) -> None:
        text = f"# Scorecard\n\n```{{scorecard}}\n{papers}\n```\n"
        (self.folder / "scorecard.md").write_text(text, "utf8")

    def set_number(self, value: int) -> None:
        (self.folder / "qhlib" / "number.py").write_text(f"NUMBER = {value}\n", "utf8")

    def path(self, name: str) -> Path:
        return self.folder / "notebooks" / f"{name}.ipynb"

    def write(self, name: str, *cells, end: tuple = END) -> None:
        notebook = V4.new_notebook(cells=chapter_cells(name, *cells, *end))
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"
        notebook.metadata.kernelspec = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, self.path(name))
        pages = [
            p.relative_to(self.folder).with_suffix("")
            for p in (self.folder / "notebooks").glob("*.ipynb")
        ]
        files = "".join(
            f"\n- file: {page.as_posix()}"
            for page in [*sorted(pages), Path("scorecard"), Path("status"), Path("bibliography")]
        )
        toc = f"format: jb-book\nroot: intro\nchapters:{files}\n"
        (self.folder / "_toc.yml").write_text(toc, "utf8")

    def command(self, *flags: str) -> dict:
        """What a reader's `jupyter-book build` is, as arguments for :mod:`subprocess`."""
        # without the grammar of addresses that jsonschema builds, as the Makefile does it: seconds
        jupyter_book = (
            "import sys; sys.modules['rfc3987_syntax'] = None; "
            "from jupyter_book.cli.main import main; main()"
        )
        env = {**os.environ, "PYTHONPATH": str(self.folder), "NO_COLOR": "1"}
        args = [sys.executable, "-c", jupyter_book, "build", *flags, "."]
        return {"args": args, "cwd": self.folder, "env": env}

    def build(self, *flags: str) -> subprocess.CompletedProcess:
        """A plain `jupyter-book build`, as a reader types it, with `flags`."""
        done = subprocess.run(**self.command(*flags), capture_output=True, text=True, timeout=1200)
        done.told = done.stdout + done.stderr
        return done

    def html(self, page: str) -> str:
        return (self.folder / "_build" / "html" / f"{page}.html").read_text("utf8")

    def executions(self, name: str) -> dict[str, int]:
        """The kept executions of a notebook, by name, and when each was written."""
        kept = (self.folder / "_build" / "executed" / name).glob("*.ipynb")
        return {p.name: p.stat().st_ino for p in kept}


@pytest.fixture(scope="module")
def new_book(tmp_path_factory):
    return lambda: ScratchBook(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="session")
def site() -> Path:
    """The pages of the book itself; built now if what lies there is missing or older than its
    sources."""
    command = ["make", "--no-print-directory", "pages", f"VENV={sys.prefix}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5000)
    if done.returncode != 0:
        told = [
            line for line in done.stderr.splitlines() if "WARNING:" in line or "ERROR:" in line
        ]
        pytest.fail(
            "the book does not build:\n" + "\n".join([*told, done.stderr[-500:]]), pytrace=False
        )
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, started once."""
    path = find_chromium()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_page(chromium):
    """``with open_page(width, scheme) as (page, heard)``: `heard` holds errors and outside
    requests."""

    @contextlib.contextmanager
    def opened(width: int = 1280, scheme: str = "light"):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        context.set_default_timeout(600_000)  # a busy machine is no fault of the page
        page, heard = context.new_page(), []
        page.on(
            "console",
            lambda m: (
                m.type in ("error", "warning") and heard.append(f"console {m.type}: {m.text}")
            ),
        )
        page.on("pageerror", lambda e: heard.append(f"uncaught: {e}"))
        page.on("requestfailed", lambda r: heard.append(f"failed: {r.url}"))
        page.on(
            "request",
            lambda r: (
                r.url.startswith(("file:", "data:", "blob:"))
                or heard.append(f"outside request: {r.url}")
            ),
        )
        yield page, heard
        context.close()

    return opened
