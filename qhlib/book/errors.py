"""Errors a reader may meet: each carries one message that says what is wrong and what to do.

Conventions: the message is complete, so no traceback is needed. IPython asks an exception how it
wants to be shown (``_render_traceback_``); these show their message alone, and the cell fails as
with any exception.
"""

import difflib
from collections.abc import Iterable


class BookError(ValueError):
    """Base of the errors whose message is meant for a reader."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class ParameterError(BookError):
    """Some parameters cannot be used; the message has one line for each of them."""


class ChapterError(BookError):
    """A chapter is not there, or its notebook is not written as the book needs it."""


class RunFailed(BookError):
    """A notebook started, but did not run to its last cell; the message says where it stopped, and
    `stopped` says it alone."""

    def __init__(self, message: str, stopped: str = ""):
        super().__init__(message)
        self.stopped = stopped or message


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the known word that is nearest to `word`; empty when none is near.

    Source: :func:`difflib.get_close_matches` with a ratio of at least 0.6.

    >>> nearest("n_seds", ["seed", "n_seeds"])
    '; did you mean n_seeds?'
    >>> nearest("zzz", ["seed", "n_seeds"])
    ''
    """
    match = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {match[0]}?" if match else ""
