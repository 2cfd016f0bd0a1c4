"""The book's machinery: what a notebook declares, its claims, and running it.

A notebook needs one name of this package: :func:`open_chapter` checks its parameters and returns
its :class:`Chapter`, whose methods give claims their numbers and close the page. Scripts use
:func:`run` and :func:`read_record`.

The numerics of ``qhlib`` never import this package, and importing it loads none of its parts: the
names below are looked up when they are first used, so that ``qhlib list`` answers at once.
"""

from importlib import import_module

_HOME = {
    "BookError": "errors",
    "Chapter": "chapter",
    "ChapterError": "errors",
    "Claim": "judge",
    "ParameterError": "errors",
    "RunFailed": "errors",
    "judge": "judge",
    "open_chapter": "chapter",
    "read_notebook": "notebook",
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
