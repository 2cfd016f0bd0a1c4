"""Write an executed chapter as one HTML file that opens anywhere without a network.

Conventions: MathJax is copied into the file from the package ``django-static-mathjax``; images are data;
there is no script, style or font from elsewhere. Without that package the formulas stay readable as LaTeX.
"""

import importlib.util
import json
import os
from html import escape
from pathlib import Path

from .errors import BookError
from .myst import readable
from .notebooks import joined, title
from .records import GLUE_MIME

_MATHJAX = {
    "tex": {
        "inlineMath": [["$", "$"], ["\\(", "\\)"]],
        "displayMath": [["$$", "$$"], ["\\[", "\\]"]],
        "processEscapes": True,
        "tags": "none",
    },
    "svg": {"fontCache": "global"},
    "options": {"enableMenu": False, "skipHtmlTags": ["script", "style", "textarea", "pre", "code"]},
}
# Code in a cell tagged hide-input is folded, as on the book's pages.
_TEMPLATE = """{% extends 'basic/index.html.j2' %}
{% block input %}
{%- set tags = cell.metadata.get('tags', []) -%}
{%- if 'hide-input' in tags or 'hide-cell' in tags -%}
<details class="code"><summary>Code</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{% endblock input %}"""
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
.highlight, .output_area > pre { overflow-x: auto; }
.highlight { color: #24292f; background: #f6f8fa; padding: .2rem .8rem; font-size: .9rem; }
.box { border-left: .25rem solid #0173b2; padding: .1rem 1rem; margin: 1rem 0; }
img, svg { max-width: 100%; height: auto; }
img { background: white; }
mjx-container[display="true"] { overflow-x: auto; overflow-y: hidden; }
mjx-container svg { max-width: none; }
.output_error pre, .output_stream pre { overflow-x: auto; white-space: pre-wrap; }
.anchor-link { display: none; }
"""


def check_export() -> None:
    """Raise :class:`BookError` when nbconvert, which writes the page, is not installed.

    >>> check_export()
    """
    if importlib.util.find_spec("nbconvert") is None:
        raise BookError("--html needs nbconvert; install it with: pip install nbconvert")


def export_html(source: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Write the executed notebook `source` as the self-contained page `target`, and return its path.

    Raises :class:`BookError` when nbconvert is missing or `target` cannot be written.
    """
    check_export()
    import nbformat
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    notebook = nbformat.read(source, as_version=4)
    name = title(notebook) or Path(source).stem
    prepare(notebook)
    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_cell_tags = ["remove-cell"]
    config.TagRemovePreprocessor.remove_input_tags = ["remove-input"]
    config.TagRemovePreprocessor.remove_all_outputs_tags = ["remove-output"]
    exporter = HTMLExporter(config=config, exclude_input_prompt=True, exclude_output_prompt=True)
    # Embedding images would parse each piece of HTML alone, and so close every box and fold at once.
    exporter.embed_images = False
    exporter.raw_template = _TEMPLATE
    body, _ = exporter.from_notebook_node(notebook)
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(name)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}{code_style()}</style>\n{mathjax()}</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )
    path = Path(target)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BookError(f"{path} cannot be written: {error.strerror}") from None
    return path


def prepare(notebook) -> None:
    """Make the cells plain: MyST to markdown, captions below their figures, no hidden data in the outputs.

    >>> import nbformat
    >>> notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("{math}`x`")])
    >>> prepare(notebook)
    >>> notebook.cells[0].source
    '$x$'
    """
    import nbformat

    glued = glued_values(notebook)
    labels: dict[str, str] = {}
    cells = []
    figures = 0
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        settings = cell.metadata.get("mystnb", {})
        figure = settings.get("figure", {})
        for output in cell.outputs:
            if "metadata" in output and settings.get("image", {}).get("alt"):
                output.metadata["alt"] = settings["image"]["alt"]
        cell.outputs = [output for output in cell.outputs if not _only_data(output)]
        if figure.get("caption"):
            figures += 1
            label = figure.get("name", f"figure-{figures}")
            labels[label] = f"Figure {figures}"
            text = f'<a id="{label}"></a>\n\n**Figure {figures}.** {figure["caption"]}'
            cells.append(nbformat.v4.new_markdown_cell(text))
    notebook.cells = cells
    texts = [cell for cell in cells if cell.cell_type == "markdown"]
    for cell in texts:  # a first pass collects the labels that earlier cells may refer to
        readable(cell.source, glued, labels)
    for cell in texts:
        cell.source = readable(cell.source, glued, labels)


def glued_values(notebook) -> dict[str, str]:
    """Text of the values that cells stored with myst-nb's ``glue``: name -> representation.

    >>> glued_values({"cells": []})
    {}
    """
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            data = output.get("data", {})
            text = data.get(GLUE_MIME + "text/plain", data.get("text/plain"))
            if name and text is not None:
                found[name] = joined(text)
    return found


def mathjax() -> str:
    """Scripts that typeset the formulas, from the installed package; empty when it is missing.

    The full component is used because the smaller ones load extensions from beside the script.

    >>> "src=" in mathjax()[:200]
    False
    """
    package = importlib.util.find_spec("mathjax")
    if package is None or not package.submodule_search_locations:
        return ""
    script = Path(package.submodule_search_locations[0]) / "static" / "mathjax" / "es5" / "tex-svg-full.js"
    if not script.is_file():
        return ""
    code = script.read_text(encoding="utf-8")
    return f"<script>window.MathJax = {json.dumps(_MATHJAX)};</script>\n<script>{code}</script>\n"


def code_style() -> str:
    """Colours of highlighted code.

    >>> ".highlight" in code_style()
    True
    """
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(style="default", nobackground=True).get_style_defs(".highlight")


def _only_data(output) -> bool:
    """Whether an output carries data for programs and nothing to see."""
    return "data" in output and all(mime.startswith("application/") for mime in output["data"])
