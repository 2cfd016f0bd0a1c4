"""Docstrings become reStructuredText that cannot be misread, whatever punctuation they hold."""

import sys

import pytest
from docutils.core import publish_doctree

NASTY = """\
The norm |θ| of w_ and *rate* times a*b, with `code_`, ``x|y`` and `Tensor`s::

    q_i = y_i f(x_i; θ)   # (n,)
  odd indentation

1. not a list
.. not a comment
:not: a field

Raises:
    ValueError: if |x| > 1 and
        so on.
    KeyError: never_

Conventions
-----------
* first *item*
  goes on
* second

>>> 1 + 1
2
"""


@pytest.fixture(scope="module")
def safe_rst(root):
    sys.path.insert(0, str(root / "_ext"))
    try:
        from marginbook.apidoc import safe_rst
    finally:
        sys.path.remove(str(root / "_ext"))
    return safe_rst


def test_any_docstring_parses_without_a_warning(safe_rst):
    tree = publish_doctree("\n".join(safe_rst(NASTY.splitlines())), settings_overrides={"report_level": 5})
    assert not list(tree.findall(lambda n: n.tagname in ("system_message", "problematic"))), tree.pformat()


def test_text_survives(safe_rst):
    text = publish_doctree("\n".join(safe_rst(NASTY.splitlines()))).astext()
    for piece in (
        "|θ| of w_ and rate times a*b",
        "code_",
        "x|y",
        "q_i = y_i f(x_i; θ)",
        "1. not a list",
        "never_",
    ):
        assert piece in text, text
