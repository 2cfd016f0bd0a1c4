"""The running chapter: its checked parameters, its claims, its tables and its end.

A chapter's notebook begins, after the parameters cell, with::

    import qhlib.book
    chapter = qhlib.book.open_chapter("asymmetric_margin", globals())

and its last cell is ``chapter.finish()``.

Conventions: what a method shows carries HTML for a page, plain text for a terminal, and data for the
scorecard and the tests, in one output. Outside IPython the plain text is printed.
"""

import ast
import gc
import sys
import time
from collections.abc import MutableMapping

from .claims import Claim
from .errors import ChapterError, ParameterError
from .notebooks import claim_prefix, find_chapter, read_notebook
from .parameters import Declaration, read_declaration
from .provenance import footer_html, provenance
from .records import CLAIM_MIME, CLAIMS_MIME, FINISHED_MIME, GLUE_MIME
from .tables import card_html, claims_html, claims_text, parameters_html
from .validation import check_declaration, validate


def open_chapter(name: str, namespace: MutableMapping[str, object]) -> "Chapter":
    """Check the parameters found in `namespace`, a notebook's ``globals()``, and open chapter `name`.

    Values that were given as ints for floats become floats in `namespace`.
    Raises :class:`ParameterError` with one message on all faulty or unknown parameters, when a CUDA device is
    asked for that is not there, and when images cannot be had; :class:`ChapterError` when the chapter is not
    found or badly declared.

    >>> open_chapter("no_such_chapter_at_all", {})
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: ...
    """
    notebook = read_notebook(find_chapter(name))
    declaration = read_declaration(name.removesuffix(".ipynb"), notebook)
    check_declaration(declaration)
    found = {spec.name: namespace[spec.name] for spec in declaration.specs if spec.name in namespace}
    # Papermill only warns of a name it does not know, and then runs with the defaults.
    unknown = {key: None for key in injected_names(namespace.get("In", ())) if key not in found}
    values = validate(declaration, {**unknown, **found})
    check_device(values)
    check_images(values)
    namespace.update(values)
    gc.freeze()  # what the imports made lives to the end: the collector need not look through it again and again
    return Chapter(declaration, values, claim_prefix(declaration.chapter, notebook))


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
            return [
                target.id
                for node in nodes
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            ]
    return []


def check_device(values: dict) -> None:
    """Raise :class:`ParameterError` when the parameter ``device`` names a CUDA device that is not available.

    >>> check_device({"device": "cpu"})
    """
    if str(values.get("device", "cpu")).startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ParameterError(
                "a parameter cannot be used:\n  device: 'cuda' is not available here, since torch finds no "
                "CUDA device; use device = 'cpu'"
            )


def check_images(values: dict) -> None:
    """Raise :class:`ParameterError` when the images that the parameter ``dataset`` names cannot be had.

    They are read from the folder in ``data_folder``, or found or downloaded as :mod:`qhlib.images` says.

    >>> check_images({"dataset": "digits", "data_folder": ""})
    """
    if "dataset" in values:
        from qhlib.images import ImagesError, require

        try:
            require(values["dataset"], values.get("data_folder", ""))
        except ImagesError as error:
            raise ParameterError(f"a parameter cannot be used:\n  dataset: {error}") from None


class Chapter:
    """A chapter that is running; made by :func:`open_chapter`.

    `name` is the notebook's, `parameters` the checked values, `claims` the claims made so far by their id,
    and `at_book_parameters` tells whether every value is the book's.
    """

    def __init__(self, declaration: Declaration, parameters: dict, prefix: str):
        self.name = declaration.chapter
        self.parameters = dict(parameters)
        self.at_book_parameters = parameters == declaration.defaults
        self.claims: dict[str, Claim] = {}
        self._declaration = declaration
        self._prefix = prefix
        self._cells: dict[str, tuple[str, int]] = {}  # claim id -> the cell that made it, and its run
        self._tabled: list[str] | None = None
        self._start = time.perf_counter()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"Chapter {self.name}: {values}"

    def claim(
        self,
        name: str,
        statement: str,
        *,
        source: str,
        basis: str,
        predicted,
        measured,
        tolerance: float,
        tolerance_from: str,
        relation: str = "=",
        relative: bool = False,
        outside: str = "",
        expected_deviation: str = "",
    ) -> Claim:
        """Make the claim ``prefix/name``, show its card, and return it; the arguments are :class:`Claim`'s.

        A cell that is run again replaces its claims. Raises :class:`ValueError` as :class:`Claim`, and for a
        name that was used before.

        >>> chapter = Chapter(Declaration("a_chapter", (), {}), {}, "a")
        >>> claim = chapter.claim("sum", "$1+1=2$", source="arithmetic", basis="derived", predicted=2,
        ...                       measured=1 + 1, tolerance=0, tolerance_from="exact")
        ✓ reproduced a/sum: predicted 2, measured 2, tolerance 0
        """
        claim = Claim(
            f"{self._prefix}/{name}",
            statement,
            source,
            basis,
            predicted=predicted,
            measured=measured,
            tolerance=tolerance,
            tolerance_from=tolerance_from,
            relation=relation,
            relative=relative,
            outside=outside,
            expected_deviation=expected_deviation,
        )
        cell = _current_cell()
        before = self._cells.get(claim.id)
        if before and not (cell[0] == before[0] and cell[1] != before[1]):
            raise ValueError(
                f"claim {claim.id} was made before; give this one another name, or run the cell with "
                "open_chapter again to start afresh"
            )
        self.claims[claim.id] = claim
        self._cells[claim.id] = cell
        row = claim.row()
        _show(card_html(row), claims_text([row]), CLAIM_MIME, row)
        return claim

    def glue(self, name: str, value) -> None:
        """Store `value` under `name` for the page's text, which shows it with ``{glue:text}``.

        The same as ``myst_nb.glue(name, value, display=False)``, whose import loads Sphinx and takes longer
        than some of the computations do.

        >>> Chapter(Declaration("a_chapter", (), {}), {}, "a").glue("robustness", 0.63)
        robustness = 0.63
        """
        if hasattr(value, "item"):
            value = value.item()  # a NumPy or torch scalar would be stored with the name of its type
        if _shell() is None:
            print(f"{name} = {value!r}")
            return
        from IPython.display import display

        metadata = {"scrapbook": {"name": name, "mime_prefix": GLUE_MIME}}
        display({GLUE_MIME + "text/plain": repr(value)}, raw=True, metadata=metadata)

    def claims_table(self) -> None:
        """Show the table of the claims made so far, with the data that the scorecard reads.

        >>> Chapter(Declaration("a_chapter", (), {}), {}, "a").claims_table()
        no claims
        """
        rows = [claim.row() for claim in self.claims.values()]
        self._tabled = list(self.claims)
        data = {"chapter": self.name, "at_book_parameters": self.at_book_parameters, "claims": rows}
        _show(claims_html(self.name, rows), claims_text(rows), CLAIMS_MIME, data)

    def parameter_table(self) -> None:
        """Show the declared parameters with their types, ranges and meanings, and the presets.

        >>> Chapter(Declaration("a_chapter", (), {}), {}, "a").parameter_table()
        Parameters of a_chapter: none
        """
        names = ", ".join(self.parameters) or "none"
        _show(parameters_html(self._declaration), f"Parameters of {self.name}: {names}")

    def finish(self) -> None:
        """Show where the numbers come from, and leave the sentinel that the run reached its end.

        Raises :class:`ChapterError` when claims were made after the last table: the scorecard would miss
        them.
        """
        if self._tabled is not None:
            missing = [name for name in self.claims if name not in self._tabled]
        else:
            missing = list(self.claims)
        if missing:
            raise ChapterError(f"claims_table() must come after these claims: {', '.join(missing)}")
        seconds = time.perf_counter() - self._start
        data = provenance(self.name, self.parameters, self.at_book_parameters, seconds)
        text = f"{self.name} ran to its end in {seconds:.1f} s"
        _show(footer_html(data), text, FINISHED_MIME, data)


def _shell():
    """The running IPython shell, without importing IPython where nobody else has."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module else None


def _current_cell() -> tuple[str, int]:
    """Identify the running cell (Jupyter's id if the client sends one, else its source) and its run."""
    shell = _shell()
    if shell is None:
        return "", 0
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    known = parent.get("metadata", {}).get("cellId") if parent else None
    return known or shell.user_ns.get("In", [""])[-1], shell.execution_count


def _show(html: str, text: str, mime: str = "", data: object = None) -> None:
    if _shell() is None:
        print(text)
        return
    from IPython.display import display

    bundle = {"text/html": html, "text/plain": text}
    display({**bundle, mime: data} if mime else bundle, raw=True)
