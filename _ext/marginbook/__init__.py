"""What the book needs of Sphinx and cannot say in _config.yml.

One module per subject, each with its own ``setup``:

* ``cures``: the stock faults (outside requests, stale caches, console errors, singlehtml)
* ``progress``: says on the terminal what is being executed, and last of all why it failed
* ``chapters``: reads claims and provenance out of each executed notebook, and fails the build where one
  does not hold
* ``pages``: the scorecard and the status page, rendered from what ``chapters`` read
* ``figures``: a chapter's figure shown on another page
* ``apidoc``: the API reference, from the docstrings of every module that is there
* ``fingerprint``: what names a cache and a finished book; ``pdf``: the book as one file; both are scripts too

They live in an extension rather than in the Makefile, so that a plain ``jupyter-book build .`` has them as
well.
"""

from . import apidoc, chapters, cures, figures, pages, progress


def setup(app):
    for part in (cures, progress, chapters, pages, figures, apidoc):
        part.setup(app)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
