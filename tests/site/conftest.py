"""Scratch books with the repository's own settings and extension, the built book, and one browser."""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
V4 = nbformat.v4
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PARAMETERS = """\
seed: int = 0          # first random seed [0, 100]
device: str = "cpu"    # torch device {cpu, cuda}
"""
OPEN = 'import qhlib.book\nchapter = qhlib.book.open_chapter("{name}", globals())'
CLOSE = ("chapter.claims_table()", "chapter.finish()")


def chapter_cells(name: str, *cells: str) -> list:
    text = f"# The chapter {name}\n\nFor every $x$ we have $x^2 \\ge 0$."
    parameters = V4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    presets = V4.new_code_cell('PRESETS = {"smoke": {}}', metadata={"tags": ["presets"]})
    code = (V4.new_code_cell(c) if isinstance(c, str) else c for c in (OPEN.format(name=name), *cells))
    return [V4.new_markdown_cell(text), parameters, presets, *code]


@dataclass
class ScratchBook:
    """A tiny book in `folder`: the repository's settings, extension and generated pages; its own chapters.

    Its `qhlib/` holds one number that chapters read, in place of the sources of the package.
    """

    folder: Path

    def __post_init__(self):
        for name in ("_config.yml", "references.bib", "scorecard.md", "status.md"):
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("_ext", "_static"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.set_intro("A scratch book")
        (self.folder / "qhlib").mkdir()
        (self.folder / "notebooks").mkdir()
        self.set_number(1)

    def set_intro(self, text: str) -> None:
        (self.folder / "intro.md").write_text(f"# {text}\n", "utf8")

    def set_number(self, value: int) -> None:
        (self.folder / "qhlib" / "number.txt").write_text(str(value), "utf8")

    def write(self, name: str, *cells, end: tuple = CLOSE) -> None:
        notebook = V4.new_notebook(cells=chapter_cells(name, *cells, *end))
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / "notebooks" / f"{name}.ipynb")
        pages = [
            p.relative_to(self.folder).with_suffix("") for p in (self.folder / "notebooks").glob("*.ipynb")
        ]
        files = "".join(
            f"\n- file: {page.as_posix()}" for page in [*sorted(pages), Path("scorecard"), Path("status")]
        )
        (self.folder / "_toc.yml").write_text(f"format: jb-book\nroot: intro\nchapters:{files}\n", "utf8")

    def build(self, *flags: str) -> subprocess.CompletedProcess:
        """A plain `jupyter-book build`, as a reader types it, with `flags`."""
        command = [
            sys.executable,
            "-c",
            "from jupyter_book.cli.main import main; main()",
            "build",
            *flags,
            ".",
        ]
        env = {**os.environ, "QHLIB_NOTEBOOKS": str(self.folder / "notebooks"), "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300)
        done.told = done.stdout + done.stderr
        return done

    def html(self, page: str) -> str:
        return (self.folder / "_build" / "html" / f"{page}.html").read_text("utf8")

    def caches(self) -> set[str]:
        return {p.name for p in (self.folder / "_build" / ".jupyter_cache").iterdir()}


@pytest.fixture(scope="module")
def new_book(tmp_path_factory):
    return lambda: ScratchBook(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="session")
def site() -> Path:
    """The pages of the book itself; built now if what lies there is missing or older than its sources."""
    command = ["make", "--no-print-directory", "pages", f"VENV={sys.prefix}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        told = [line for line in done.stderr.splitlines() if "WARNING:" in line or "ERROR:" in line]
        pytest.fail("the book does not build:\n" + "\n".join([*told, done.stderr[-500:]]), pytrace=False)
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, started once."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        lacking = "no Chromium is installed (apt-get install chromium): no page was looked at"
        if os.environ.get("QHLIB_REQUIRE_CHROMIUM") == "1":
            pytest.fail(lacking)
        pytest.skip(lacking)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_page(chromium):
    """``with open_page(width, scheme) as (page, heard)``: `heard` holds errors and outside requests."""

    @contextlib.contextmanager
    def opened(width: int = 1280, scheme: str = "light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page, heard = context.new_page(), []
        page.on(
            "console",
            lambda m: m.type in ("error", "warning") and heard.append(f"console {m.type}: {m.text}"),
        )
        page.on("pageerror", lambda e: heard.append(f"uncaught: {e}"))
        page.on("requestfailed", lambda r: heard.append(f"failed: {r.url}"))
        page.on(
            "request",
            lambda r: (
                r.url.startswith(("file:", "data:", "blob:")) or heard.append(f"outside request: {r.url}")
            ),
        )
        yield page, heard
        context.close()

    return opened
