"""The running chapter: its checked parameters, its claims, its numbers for the text, and its end.

A chapter's notebook says, after its parameters cell::

    from qhlib.book import open_chapter
    chapter = open_chapter("asymmetric_margin", globals())

and its last cell is ``chapter.finish()``.

Conventions: what a method shows carries plain text for a terminal or JupyterLab, and data for the book, in one output.
Outside IPython the plain text is printed. The declaration is taken from the parameters cell that was run, so that a
notebook is always checked against its own.
"""

import ast
import base64
import gc
import io
import sys
import time
from collections.abc import MutableMapping

from .claims import BASES, line
from .declaration import Declaration, find_declaration, validate
from .errors import ParameterError
from .judge import Claim
from .provenance import provenance
from .records import CLAIM_MIME, FINISHED_MIME, GLUE_MIME, STATUS_MIME


def open_chapter(name: str, namespace: MutableMapping[str, object]) -> "Chapter":
    """Check the parameters found in `namespace`, a notebook's ``globals()``, and open the chapter called `name`.

    Values that were given as ints for floats become floats in `namespace`.
    Raises :class:`ParameterError` with one message on all faulty or unknown parameters, when a CUDA device is
    asked for that is not there, and when images cannot be had; :class:`ChapterError` when no parameters cell was run.

    >>> cell = 'seed: int = 0  # first seed [0, 9]'
    >>> open_chapter("a_chapter", {"In": ["", cell], "seed": 3}).parameters
    {'seed': 3}
    """
    history = list(namespace.get("In", ()))
    declaration = find_declaration(name, history)
    found = {spec.name: namespace[spec.name] for spec in declaration.specs if spec.name in namespace}
    # Papermill only warns of a name it does not know, and then runs with the defaults.
    unknown = {key: None for key in injected_names(history) if key not in found}
    values = validate(declaration, {**unknown, **found})
    check_resources(values)
    namespace.update(values)
    gc.freeze()  # what the imports made lives to the end: the collector need not look through it again and again
    return Chapter(declaration, values)


def injected_names(history) -> list[str]:
    """Names assigned by papermill's cell of injected parameters, found in IPython's `history` of inputs.

    >>> injected_names(["seed = 0", "# Parameters\\nseed = 7\\nn_sed = 3"])
    ['seed', 'n_sed']
    """
    for source in history:
        if source.startswith("# Parameters\n"):
            try:
                nodes = ast.parse(source).body
            except SyntaxError:
                continue
            targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def check_resources(values: dict) -> None:
    """Raise :class:`ParameterError` when the ``device`` or the images of ``dataset`` cannot be had here.

    Images are read from the folder in ``data_folder``, or found or downloaded as ``qhlib.images`` says.

    >>> check_resources({"device": "cpu", "dataset": "digits", "data_folder": ""})
    """
    if str(values.get("device", "cpu")).startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ParameterError(
                "a parameter cannot be used:\n  device: 'cuda' is not available here, since torch finds no "
                "CUDA device; use device = 'cpu'"
            )
    if "dataset" in values:
        from qhlib.images import ImagesError, require

        try:
            require(values["dataset"], values.get("data_folder", ""))
        except ImagesError as error:
            raise ParameterError(f"a parameter cannot be used:\n  dataset: {error}") from None


class Chapter:
    """A chapter that is running; made by :func:`open_chapter`.

    `name` is the notebook's, `parameters` the checked values, `claims` the claims made so far by their name.
    """

    def __init__(self, declaration: Declaration, parameters: dict):
        self.name = declaration.chapter
        self.parameters = dict(parameters)
        self.claims: dict[str, Claim] = {}
        self._start = time.perf_counter()
        self._status = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"Chapter {self.name}: {values}"

    def claim(
        self,
        name: str,
        statement: str = "",
        *,
        predicted,
        measured,
        tolerance: float,
        relation: str = "=",
        relative: bool = False,
        outside: str = "",
        expected_deviation: str = "",
        **words: str,
    ) -> Claim:
        """Give the claim `name`, whose words stand in its ``{claim}`` directive, its numbers; show and return it.

        `predicted` and `measured` are scalars or arrays of one shape; `relation` is ``=``, ``<=`` or ``>=``;
        `relative` divides the gap by the prediction; `outside` is the reason why these parameters leave the
        assumptions. Raises :class:`ValueError` as :func:`~qhlib.book.judge.judge` does. A cell that is run again
        replaces its claim.

        >>> chapter = Chapter(Declaration("a_chapter", ()), {})
        >>> claim = chapter.claim("sum", predicted=2, measured=1 + 1, tolerance=0)
        ✓ reproduced sum: predicted 2, measured 2, tolerance 0
        """
        claim = Claim(
            name, predicted, measured, tolerance, relation, relative, outside, expected_deviation
        )
        row = claim.row()
        if statement:  # the old form, in which a call carries the words of its claim
            if set(words) != {"source", "basis", "tolerance_from"} or words["basis"] not in BASES:
                raise ValueError(f"claim {name}: give source, tolerance_from and a basis of {', '.join(BASES)}")
            row |= {"statement": statement, **words}
        elif words:
            raise ValueError(f"claim {name}: {', '.join(words)} belong in the {{claim}} directive")
        self.claims[name] = claim
        _show(line(row), {CLAIM_MIME: row})
        return claim

    def glue(self, name: str, value) -> None:
        """Store `value` under `name` for the page's text, which shows it with ``{glue:text}`` or ``{glue:figure}``.

        A matplotlib figure is rendered and closed; an object with HTML, such as a slider, is shown by ``{glue}``. The
        same as ``myst_nb.glue(name, value, display=False)``, whose import loads Sphinx and takes longer than some of
        the computations do.

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
        if _shell() is None:
            print(f"{name} = {data.get('text/plain', 'a picture')}")
            return
        from IPython.display import display

        metadata = {"scrapbook": {"name": name, "mime_prefix": GLUE_MIME}}
        display({GLUE_MIME + mime: part for mime, part in data.items()}, raw=True, metadata=metadata)

    def progress(self, text: str) -> None:
        """Say how far a long cell is, such as "flow 3 of 8"; shown by the command line, not on the page.

        >>> Chapter(Declaration("a_chapter", ()), {}).progress("flow 3 of 8")
        """
        shell = _shell()
        if shell is None:
            return
        from IPython.display import display

        bundle = {"text/plain": text, STATUS_MIME: text}
        if self._status is None or self._status[0] != shell.execution_count:
            self._status = shell.execution_count, display(bundle, raw=True, display_id=True)
        else:
            self._status[1].update(bundle, raw=True)

    def finish(self) -> None:
        """Show how long it took, and leave where the numbers come from and that the run reached its end."""
        seconds = time.perf_counter() - self._start
        data = provenance(self.name, self.parameters, seconds)
        _show(f"{self.name} ran to its end in {seconds:.1f} s", {FINISHED_MIME: data})


def _png(figure) -> str:
    """A matplotlib figure as PNG in base64; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def _shell():
    """The running IPython shell, without importing IPython where nobody else has."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module else None


def _show(text: str, data: dict) -> None:
    if _shell() is None:
        print(text)
        return
    from IPython.display import display

    display({"text/plain": text, **data}, raw=True)
