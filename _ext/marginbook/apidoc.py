"""``{qhlib-api} FOLDER``: the reference of every public module in FOLDER that is there when the book is
built.

Docstrings are written to be read in a terminal: plain text, Unicode formulas, indented blocks, doctests.
They are turned here into reStructuredText that cannot be misread (``|θ|`` is no substitution, ``w_`` no
link), so that a strict build depends on what a docstring says and not on its punctuation.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

# From the ground up, as the rooms stand; modules that are not named here follow in alphabetical order.
ORDER = "params data models margins homogeneity collapse flow implicit limits reference plots".split()
PLACE = re.compile(r"^```\{qhlib-api\} +(\S+)\s*\n```\s*$", re.MULTILINE)
SECTION_OF_MODULE = """\
## `{name}`

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :exclude-members: model_config, model_fields, model_computed_fields
```
"""
SECTION = re.compile(
    r"(Args|Arguments|Parameters|Returns|Yields|Raises|Shapes?|Conventions|Notes?|Examples?|Attributes):?"
)
CODE_OR_MARK = re.compile(
    r"(?::\w+:)?``(?P<a>[^`]+)``|(?::\w+:)?`(?P<b>[^`]+)`|\*(?P<em>\w[\w ,-]*)\*|(?P<mark>[\\*`|_])"
)


def public_modules(root: Path, folder: str) -> list[str]:
    """Dotted names of the public modules in `folder` with a docstring, found without importing them."""
    paths = [path for path in (root / folder).glob("*.py") if not path.stem.startswith("_")]
    names = [path.stem for path in paths if _documented(path)]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [f"{folder.replace('/', '.')}.{name}" for name in names]


def _documented(path: Path) -> bool:
    try:
        return bool(ast.get_docstring(ast.parse(path.read_text("utf8"))))
    except SyntaxError:
        return True  # autodoc says where


def insert_reference(app, docname, source):
    """source-read: write one section per module in the directive's place."""

    def sections(place) -> str:
        names = public_modules(Path(app.srcdir), place[1])
        app.env.metadata[docname]["marginbook_api"] = f"{place[1]}: {names}"
        return (
            "\n".join(SECTION_OF_MODULE.format(name=name) for name in names) or "No module is documented yet."
        )

    source[0] = PLACE.sub(sections, source[0])


def reread_when_modules_change(app, env, added, changed, removed):
    """env-get-outdated: autodoc notes an edited module, but not a new one."""
    known = {name: data["marginbook_api"] for name, data in env.metadata.items() if "marginbook_api" in data}
    root = Path(app.srcdir)
    return [page for page, told in known.items()
            if told != f"{(folder := told.partition(':')[0])}: {public_modules(root, folder)}"]  # fmt: skip


def rewrite(app, what, name, obj, options, lines):
    """autodoc-process-docstring."""
    lines[:] = safe_rst(lines)


def safe_rst(lines: list[str]) -> list[str]:
    out: list[str] = []
    for block in re.split(r"\n[ \t]*\n", textwrap.dedent("\n".join(lines)).strip("\n")):
        if block.strip():
            _add_block(out, block.splitlines())
    return out


def _add_block(out: list[str], block: list[str]) -> None:
    heading = SECTION.fullmatch(block[0].strip())
    if heading and (len(block) == 1 or block[1].startswith((" ", "---"))):
        out += [f"**{heading[1]}**", ""]
        rest = textwrap.dedent(
            "\n".join(line for line in block[1:] if not re.fullmatch(r"-+", line))
        ).splitlines()
        entries: list[str] = []
        for line in rest:
            if line.startswith(" ") and entries:
                entries[-1] += " " + line.strip()
            else:
                entries.append(line.strip())
        out += [f"* {paragraph([entry])}" for entry in entries] + [""]
        return
    for kind, run in _runs(block):
        if kind == "doctest":
            out += [*textwrap.dedent("\n".join(run)).splitlines(), ""]
        elif kind == "indented":
            out += ["::", "", *("   " + line for line in textwrap.dedent("\n".join(run)).splitlines()), ""]
        elif kind == "list":
            out += [f"* {paragraph([item])}" for item in run] + [""]
        else:
            out += [paragraph(run), ""]


def _runs(block: list[str]):
    """Cut a block into doctests, indented text, list items (one string each) and paragraphs."""
    runs: list[tuple[str, list[str]]] = []
    for line in block:
        last = runs[-1][0] if runs else ""
        item = re.match(r"\s*[-*•] (.*)", line)
        if line.lstrip().startswith(">>>") or last == "doctest":
            kind = "doctest"
        elif item and last not in ("indented",):
            kind, line = "list", item[1]
        elif last == "list" and line.startswith(" "):
            runs[-1][1][-1] += " " + line.strip()
            continue
        else:
            kind = "indented" if line.startswith(" ") else "paragraph"
        if kind == last:
            runs[-1][1].append(line)
        else:
            runs.append((kind, [line]))
    return runs


def paragraph(lines: list[str]) -> str:
    """One line in which only `code` is marked up. The leading empty escape keeps '1.' or '..' plain text."""

    def piece(match) -> str:
        code = match["a"] or match["b"]
        if code:
            return f"\\ ``{code.strip()}``\\ "
        return f"\\ *{match['em'].strip()}*\\ " if match["em"] else "\\" + match["mark"]

    text = re.sub(r"::$", ":", " ".join(line.strip() for line in lines))
    return "\\ " + CODE_OR_MARK.sub(piece, text)


def setup(app):
    app.connect("source-read", insert_reference)
    app.connect("env-get-outdated", reread_when_modules_change)
    app.connect("autodoc-process-docstring", rewrite)
