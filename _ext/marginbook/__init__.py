"""What the book needs of Sphinx and cannot say in _config.yml.

One module per subject, each with its own ``setup`` where Sphinx calls it:

* ``execution``: executes the notebooks before Sphinx reads anything, and hands it the executed
  text
* ``words``: claims, parameters, scorecard and status as MyST text
* ``checks``: fails the build where the book does not hold, each time it is built
* ``cures``: the stock faults (outside requests, console errors, singlehtml)
* ``panes``: pictures that a phone can show
* ``terms``: the first use of a term leads to the glossary
* ``slides``: a deck for each notebook that marks cells for one
* ``dist``: one zip of all that is built; the Makefile calls it
* ``fingerprint``: what names an execution and a finished book; the Makefile calls it, too

They live in an extension rather than in the Makefile, so that ``jupyter-book build .`` has them as
well.
"""

from . import checks, cures, execution, panes, slides, terms


def setup(app):
    for part in (cures, execution, checks, panes, slides, terms):
        part.setup(app)
    # env_version: what another version of this extension has read is read anew
    safe = {"parallel_read_safe": True, "parallel_write_safe": True}
    return {"version": "2", "env_version": 3, **safe}
