"""The running chapter: its checked parameters, its claims, its numbers for the text, and its end.

A chapter's notebook says, after its parameters cell::

    from qhlib.book import open_chapter
    chapter = open_chapter("asymmetric_margin", globals())

and its last cell is ``chapter.finish()``.

Conventions: what a method shows carries plain text for a terminal or JupyterLab, and data for the
book, in one output. Outside IPython the plain text is printed. The declaration is taken from the
parameters cell that was run, so that a notebook is always checked against its own.
"""

import base64
import gc
import io
import re
import sys
import time
from collections.abc import MutableMapping
from importlib import import_module

from .claims import NAME, line
from .declaration import Declaration, find_declaration, validate
from .errors import ParameterError
from .judge import Claim, judge
from .provenance import provenance
from .records import CLAIM_MIME, FINISHED_MIME, GLUE_MIME, STATUS_MIME

INJECTED = {"PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}
"""What papermill's ``--inject-paths`` puts among the parameters."""


def open_chapter(name: str, namespace: MutableMapping[str, object]) -> "Chapter":
    """Check the parameters in `namespace`, a notebook's ``globals()``, and open the chapter
    `name`.

    Values that were given as ints for floats become floats in `namespace`.
    Raises :class:`ParameterError` with one message on all faulty or unknown parameters, when a
    CUDA device is asked for that is not there, and when images cannot be had;
    :class:`ChapterError` when no parameters cell was run.

    >>> cell = 'seed: int = 0  # first seed [0, 9]'
    >>> open_chapter("a_chapter", {"In": ["", cell], "seed": 3}).parameters
    {'seed': 3}
    """
    history = list(namespace.get("In", ()))
    declaration = find_declaration(name, history)
    found = {
        spec.name: namespace[spec.name] for spec in declaration.specs if spec.name in namespace
    }
    # Papermill only warns of a name it does not know, and then runs with the defaults.
    injected = next((source for source in history if source.startswith("# Parameters\n")), "")
    names = set(re.findall(r"^([A-Za-z_]\w*) = ", injected, re.MULTILINE)) - INJECTED
    values = validate(declaration, {**{key: None for key in names if key not in found}, **found})
    check_resources(values)
    namespace.update(values)
    gc.freeze()  # what the imports made lives to the end: the collector need not look at it again
    return Chapter(declaration, values)


def check_resources(values: dict) -> None:
    """Raise :class:`ParameterError` when the ``device`` or the images of ``dataset`` cannot be had
    here.

    Images are read from the folder in ``data_folder``, or found or downloaded as ``qhlib.images``
    says.

    >>> check_resources({"device": "cpu", "dataset": "digits", "data_folder": ""})
    """
    # imported by name: only a notebook that uses images depends on the module that reads them
    if str(values.get("device", "cpu")).startswith("cuda"):
        if not import_module("torch").cuda.is_available():
            raise ParameterError(
                "a parameter cannot be used:\n  device: 'cuda' is not available here, since torch "
                "finds no CUDA device; use device = 'cpu'"
            )
    if "dataset" in values:
        images = import_module("qhlib.images")
        try:
            images.require(values["dataset"], values.get("data_folder", ""))
        except images.ImagesError as error:
            raise ParameterError(f"a parameter cannot be used:\n  dataset: {error}") from None


class Chapter:
    """A chapter that is running; made by :func:`open_chapter`.

    `name` is the notebook's, `parameters` the checked values, `claims` the claims made so far by
    name.
    """

    def __init__(self, declaration: Declaration, parameters: dict):
        self.name = declaration.chapter
        self.parameters = dict(parameters)
        self.claims: dict[str, Claim] = {}
        self._start = time.perf_counter()
        self._status = (None, None)

    def claim(self, name: str, **numbers) -> Claim:
        """Give the claim `name`, whose words stand in its ``{claim}`` directive, its numbers.

        The other arguments are those of :func:`~qhlib.book.judge.judge`: ``predicted``,
        ``measured``, ``tolerance``, and where needed ``relation``, ``relative``, ``outside``,
        ``expected_deviation``. The claim is shown and returned; a cell that is run again replaces
        its claim.
        Raises :class:`ValueError` as ``judge`` does, and for a name that is none.

        >>> chapter = Chapter(Declaration("a_chapter", ()), {})
        >>> claim = chapter.claim("sum", predicted=2, measured=1 + 1, tolerance=0)
        ✓ reproduced sum: predicted 2, measured 2, tolerance 0
        """
        if not NAME.fullmatch(name):
            raise ValueError(
                f"the claim's name {name!r} is not made of small letters, digits and hyphens"
            )
        self.claims[name] = judge(name, **numbers)
        row = self.claims[name].row()
        _show(line(row), {CLAIM_MIME: row})
        return self.claims[name]

    def glue(self, name: str, value) -> None:
        """Store `value` under `name` for the page's text (``{glue:text}``, ``{glue:figure}``,
        ``{glue}``).

        A matplotlib figure is rendered and closed; an object with HTML, such as a slider, is kept
        as that. The same as ``myst_nb.glue(name, value, display=False)``, whose import loads
        Sphinx and takes longer than some of the computations do.

        >>> Chapter(Declaration("a_chapter", ()), {}).glue("robustness", 0.63)
        robustness = 0.63
        """
        if hasattr(value, "savefig"):
            data = {"image/png": _png(value)}
        elif hasattr(value, "_repr_html_"):
            data = {"text/html": value._repr_html_()}
        else:
            # a NumPy or torch scalar would be stored with the name of its type
            data = {"text/plain": repr(value.item() if hasattr(value, "item") else value)}
        metadata = {"scrapbook": {"name": name, "mime_prefix": GLUE_MIME}}
        text = f"{name} = {data.get('text/plain', 'a picture')}"
        _show(text, {GLUE_MIME + mime: part for mime, part in data.items()}, metadata)

    def progress(self, text: str) -> None:
        """Say how far a long cell is, such as "flow 3 of 8"; for the command line, not for the
        page.

        >>> Chapter(Declaration("a_chapter", ()), {}).progress("flow 3 of 8")
        """
        shell = _shell()
        if shell is not None:
            from IPython.display import display

            bundle = {"text/plain": text, STATUS_MIME: text}
            if self._status[0] == shell.execution_count:
                self._status[1].update(bundle, raw=True)
            else:
                self._status = shell.execution_count, display(bundle, raw=True, display_id=True)

    def finish(self) -> None:
        """Show how long it took, and leave where the numbers come from and that the run reached
        its end."""
        seconds = time.perf_counter() - self._start
        data = provenance(self.name, self.parameters, seconds)
        _show(f"{self.name} ran to its end in {seconds:.1f} s", {FINISHED_MIME: data})


def _png(figure) -> str:
    """A matplotlib figure as PNG in base64; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    import_module("matplotlib.pyplot").close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def _shell():
    """The running IPython shell, without importing IPython where nobody else has."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module else None


def _show(text: str, data: dict, metadata: dict | None = None) -> None:
    if _shell() is None:
        print(text)
        return
    from IPython.display import display

    plain = (
        {} if metadata else {"text/plain": text}
    )  # a glued value is not shown where it is stored
    display({**plain, **data}, raw=True, metadata=metadata)
