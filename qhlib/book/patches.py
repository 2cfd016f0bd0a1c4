"""The one change to other people's modules that no public hook replaces; each says why, and a test
says when it can go.

* ``import_papermill``: papermill imports nbformat, nbformat imports jsonschema, and that builds a
  grammar of international addresses (``rfc3987_syntax``), which takes two and a half seconds and
  checks a format that no notebook's schema uses. jsonschema does without the package where it is
  not installed, and that is what it is told here.
"""

import sys
import threading

_lock = threading.Lock()


def import_papermill():
    """Import papermill without that grammar, and return it.

    >>> import_papermill().__name__
    'papermill'
    """
    name = "rfc3987_syntax"
    with _lock:
        if name in sys.modules:
            import papermill

            return papermill
        sys.modules[name] = None
        try:
            import papermill
        finally:
            del sys.modules[name]
        return papermill
