"""A new notebook, ready to fill: parameters with presets, a claim, a figure, a test, its place in
the book.

Conventions: what is written builds strictly and passes its test as it stands. It goes into the
checkout in the current folder, or else into the one that the package was imported from; nothing is
overwritten, and either all of it is written or nothing.
"""

import json
import re
from pathlib import Path

from .errors import BookError
from .notebook import chapter_paths, write_whole
from .pages import home

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ENTRY = re.compile(r"^( *)- file: notebooks/(\w+)\n", re.MULTILINE)

CELLS = [
    (
        "first-screen",
        "markdown",
        {},
        """\
# @TITLE@

**The result in one sentence: an exponential loss of one example keeps its weight
growing like the logarithm of the time.**

Here {glue:text}`@SHORT@-steps` steps end at a weight of {glue:text}`@SHORT@-weight:.3f`.

:::{admonition} What you will learn
:class: tip
* write here what a reader will know in the end.
:::
""",
    ),
    (
        "imports",
        "code",
        {"tags": ["hide-input"]},
        """\
import matplotlib.pyplot as plt
import numpy as np

from qhlib import plots
from qhlib.book import open_chapter
""",
    ),
    (
        "parameters",
        "code",
        {"tags": ["parameters"]},
        """\
seed: int = 0  # random seed; every random object of the page follows from it [0, 2147483647]
effort: str = "book"  # how much is computed {smoke, book, paper}
rate: float = 0.1  # step of gradient descent (0, 1]
""",
    ),
    (
        "open",
        "code",
        {"tags": ["hide-input"]},
        """\
chapter = open_chapter("@NAME@", globals())
plots.use_style()
steps = {"smoke": 100, "book": 1000, "paper": 100000}[effort]
""",
    ),
    (
        "setting",
        "markdown",
        {},
        """\
## Setting

One weight $w$, the loss $L=e^{-w}$, and gradient flow $\\dot w=e^{-w}$ from $w_0\\ge0$. Its
solution is

$$
w(t)=\\log\\bigl(e^{w_0}+t\\bigr) .
$$ (eq-@SHORT@-solution)
""",
    ),
    (
        "experiment",
        "code",
        {},
        """\
def descend(weight: float) -> np.ndarray:  # (steps + 1,)
    \"\"\"Gradient descent from `weight`, every step of it.\"\"\"
    path = [weight]
    for _ in range(steps):
        path.append(path[-1] + rate * np.exp(-path[-1]))
    return np.array(path)


start = abs(np.random.default_rng(seed).normal())
times = rate * np.arange(steps + 1)
weights = descend(start)
solution = np.log(np.exp(start) + times)
chapter.glue("@SHORT@-steps", steps)
chapter.glue("@SHORT@-weight", weights[-1])
""",
    ),
    (
        "figure",
        "code",
        {
            "tags": ["hide-input"],
            "mystnb": {
                "figure": {
                    "name": "fig-@SHORT@",
                    "caption": "The weight over the time: gradient descent as points, "
                    "{eq}`eq-@SHORT@-solution` as a line.",
                },
                "image": {"alt": "Points that rise ever more slowly, along a line."},
            },
        },
        """\
figure, ax = plt.subplots()
some = np.unique(np.geomspace(1, steps, 30).astype(int))
plots.prediction(ax, times[1:], solution[1:], label="flow")
plots.measurement(ax, times[some], weights[some], label="descent")
ax.set(xscale="log", xlabel="time (log10)", ylabel="weight")
ax.legend()
plt.show()
""",
    ),
    (
        "claims",
        "markdown",
        {},
        """\
::::{claim} Gradient descent follows the flow {eq}`eq-@SHORT@-solution`:
:name: follows
:source: derived here
:tolerance: one step: what all steps together overshoot is less than that
the largest distance of the whole path is 0.
::::
""",
    ),
    (
        "follows",
        "code",
        {},
        """\
gap = abs(weights - solution).max()
chapter.claim("follows", predicted=0.0, measured=gap, tolerance=rate);
""",
    ),
    (
        "take-aways",
        "markdown",
        {},
        """\
## Rerun this page

```bash
qhlib run @NAME@ -p rate=0.01
```

```{parameters}
```

## Take-aways

* Write here what is to be remembered.
""",
    ),
    ("finish", "code", {"tags": ["remove-input"]}, "chapter.finish()\n"),
]
TEST = '''\
"""The notebook `@NAME@`: its claims on other seeds, and what turns them."""

import pytest

from tests.notebooks.play import declared, verdicts

NAME = "@NAME@"


@pytest.mark.parametrize("seed", [0, 42, 2147483647])
def test_every_claim_is_reproduced(seed):
    found = verdicts(NAME, effort="smoke", seed=seed)
    assert set(found) == declared(NAME) and set(found.values()) == {"reproduced"}


def test_a_wrong_law_turns_the_claim():
    """A solution that starts at zero whatever the start is."""
    wrong = ("np.log(np.exp(start) + times)", "np.log(1 + times)")
    assert verdicts(NAME, [wrong], effort="smoke")["follows"] == "deviates"
'''


def new(name: str, title: str = "", after: str | None = None) -> list[Path]:
    """Write the notebook `name` with its test, and enter it into the table of contents behind the
    notebook `after`, or else behind the last one; returns the files.

    Raises :class:`BookError` for a name that is none or is taken, a title of several lines, an
    unknown `after`, and where there is no checkout or it cannot be written.

    >>> new("9 lives")
    Traceback (most recent call last):
    qhlib.book.errors.BookError: '9 lives' is no name for a notebook: write small letters, ...
    """
    if not NAME.fullmatch(name) or len(name) > 50:
        told = "write small letters, digits and single underscores, a letter first, at most 50"
        raise BookError(f"{name!r} is no name for a notebook: {told}")
    title = title or name.replace("_", " ").capitalize()
    if not title.isprintable() or not title.strip():
        raise BookError(f"the title {title!r} is no line of text")
    root = next((p for p in (Path.cwd(), home()) if _is_checkout(p)), None)
    if root is None:
        raise BookError("this is no checkout of the book, which is where notebooks are written")
    toc = root / "_toc.yml"
    text = toc.read_text("utf8")
    entries = list(ENTRY.finditer(text))
    place = next((e for e in entries if e[2] == after), None) if after else entries[-1]
    if place is None:
        raise BookError(f"--after {after}: _toc.yml has no such notebook")
    files = root / "notebooks" / f"{name}.ipynb", root / "tests" / "notebooks" / f"test_{name}.py"
    taken = [str(path) for path in files if path.exists()]
    if taken or name in chapter_paths():
        raise BookError(f"{' and '.join(taken) or name} exists; choose another name")
    line = f"{place[1]}- file: notebooks/{name}\n"
    contents = [notebook(name, title), TEST.replace("@NAME@", name)]
    contents.append(text[: place.end()] + line + text[place.end() :])
    written: list[Path] = []
    try:
        for path, content in zip((*files, toc), contents, strict=True):
            write_whole(path, content)
            written.append(path)
    except OSError as error:
        for path in written:
            path.unlink()
        raise BookError(f"{root} cannot be written: {error.strerror}") from None
    return written


def _is_checkout(folder: Path) -> bool:
    parts = ("_toc.yml", "_config.yml", "notebooks", "tests/notebooks")
    return all((folder / part).exists() for part in parts)


def notebook(name: str, title: str) -> str:
    """The new notebook's file.

    >>> json.loads(notebook("my_result", "Mine"))["cells"][0]["source"][0]
    '# Mine\\n'
    """
    # a `{` in a title is a character, and so is a backquote
    quoted = re.sub(r"([\\`{}$*_\[\]<>#])", r"\\\1", title.strip())
    words = {"@NAME@": name, "@SHORT@": name.replace("_", "-"), "@TITLE@": quoted}

    def filled(text: str) -> str:
        return re.sub("@[A-Z]+@", lambda mark: words[mark[0]], text)

    cells = []
    for key, kind, metadata, source in CELLS:
        lines = filled(source).rstrip("\n").splitlines(keepends=True)
        metadata = json.loads(filled(json.dumps(metadata)))
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        cells.append({"cell_type": kind, "id": key, "metadata": metadata, "source": lines, **code})
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": spec, "qhlib": {"prefix": words["@SHORT@"]}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
