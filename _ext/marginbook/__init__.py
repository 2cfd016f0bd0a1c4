"""What the book needs of Sphinx and cannot say in _config.yml.

One module per subject, each with its own ``setup``:

* ``execution``: executes the notebooks before Sphinx reads anything, and hands it the executed text
* ``claims``: the ``{claim}`` and ``{parameters}`` directives
* ``checks``: fails the build where a claim, a notebook or a page does not hold, each time it is built
* ``pages``: the scorecard and the status page
* ``figures``: a chapter's figure shown on another page
* ``cures``: the stock faults (outside requests, console errors, singlehtml)
* ``fingerprint``: what names an execution and a finished book; ``pdf``: the book as one file; both are scripts too

They live in an extension rather than in the Makefile, so that a plain ``jupyter-book build .`` has them as well.
"""

from . import checks, claims, cures, execution, figures, pages


def setup(app):
    for part in (cures, execution, claims, checks, pages, figures):
        part.setup(app)
    return {"version": "2", "env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
