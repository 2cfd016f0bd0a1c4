"""The book's machinery: parameters, claims and runs of the chapters.

A chapter needs two names of this package:

* :func:`open_chapter` checks the parameters of the running notebook and returns its :class:`Chapter`;
* the chapter's methods make claims and tables and close the page.

The numerics of ``qhlib`` never import this package, and importing it loads none of its parts: the names
below are looked up when they are first used, so that ``qhlib list`` answers at once.
"""

from importlib import import_module

_HOME = {
    "BookError": "errors",
    "Chapter": "chapter",
    "ChapterError": "errors",
    "Claim": "claims",
    "ParameterError": "errors",
    "ParameterSpec": "parameters",
    "RunFailed": "errors",
    "judge": "claims",
    "open_chapter": "chapter",
    "read_declaration": "parameters",
    "read_record": "records",
    "run": "running",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
