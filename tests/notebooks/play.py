"""Execute a notebook's code in this process, changed where a test wants it changed: no kernel, no
pages.

A mutation is a pair (old, new): `old` must occur exactly once in the notebook's code, so that a
mutation that misses is noticed.
"""

import contextlib
import io
from functools import cache
from pathlib import Path

import matplotlib

from qhlib.book.course import needed
from qhlib.book.declaration import validate
from qhlib.book.judge import Claim
from qhlib.book.notebook import Notebook, read_notebook

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@cache
def notebook(name: str) -> Notebook:
    """The committed notebook called `name`."""
    return read_notebook(NOTEBOOKS / f"{name}.ipynb")


def play(name: str, replace=(), **parameters) -> dict[str, Claim]:
    """Claims of the notebook `name` by their name, with these parameters, after the mutations
    `replace`. Only the cells run that claims need: no other pictures, no exercises.

    Raises what the notebook's code raises, and AssertionError for a mutation that does not occur
    exactly once.
    """
    return namespace(name, replace, "chapter.claim", **parameters)["chapter"].claims


def namespace(name: str, replace=(), wanted: str = "", **parameters) -> dict:
    """All names that the notebook's code leaves, after the mutations `replace`; with `wanted`,
    only the cells run that this name needs."""
    return _execute(name, replace, parameters, wanted)[0]


def tell(name: str, replace=(), **parameters) -> tuple:
    """The chapter, and all that the notebook printed: its glued numbers and its claims among
    it."""
    names, text = _execute(name, replace, parameters)
    return names["chapter"], text


def _execute(name: str, replace, parameters: dict, wanted: str = "") -> tuple[dict, str]:
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    book = notebook(name)
    code = [cell for cell in book.cells if cell["cell_type"] == "code"]
    sources = [cell["source"] for cell in code]
    for old, new in replace:
        hits = [number for number, source in enumerate(sources) if old in source]
        times = sum(source.count(old) for source in sources)
        assert times == 1, f"{name}: {old!r} occurs {times} times in its code"
        sources[hits[0]] = sources[hits[0]].replace(old, new)
    keep = needed(sources, {wanted}, f"{wanted}(") if wanted else [True] * len(code)
    values = validate(book.declaration, parameters)
    given = {key: values[key] for key in parameters}
    names: dict = {"__name__": "__main__", "In": [""]}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for number, (cell, source) in enumerate(zip(code, sources, strict=True)):
            names["In"].append(source)
            tags = cell["metadata"].get("tags", [])
            if keep[number] or "parameters" in tags:
                exec(compile(source, f"<{name}, code cell {number + 1}>", "exec"), names)
            if "parameters" in tags:
                names.update(given)
            plt.close("all")
    return names, printed.getvalue()


def verdicts(name: str, replace=(), **parameters) -> dict[str, str]:
    """The verdicts alone."""
    return {key: claim.verdict for key, claim in play(name, replace, **parameters).items()}


def declared(name: str) -> set[str]:
    """Names of the claims that the notebook declares."""
    return set(notebook(name).claims)
