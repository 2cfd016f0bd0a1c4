"""Cures of stock faults of Jupyter Book 1.x, each with the fault it cures."""

from __future__ import annotations

import re
import shutil
from importlib import metadata, util
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.builders.singlehtml import SingleFileHTMLBuilder
from sphinx.errors import ConfigError

PLAIN = re.compile(r'<span class="(?:n|nn|p|w)">([^<]*)</span>')
EXPONENT = re.compile(r"(?<=\d)e([+-])0*(\d+)")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PAGE_BEGINS = re.compile(r'(?=<span id="document-)')
PLACE = re.compile(r' (id="|for="|href="#(?!document-))([^"]+)"')
# What a page can ask for of MathJax: the TeX component, its fonts, and the TeX extensions loaded
# on demand.
MATHJAX_PARTS = ("tex-mml-chtml.js", "output/chtml/fonts", "input/tex/extensions")


def copy_mathjax(app, config):
    """MathJax is the only outside request of stock pages: serve it from the installed package."""
    spec = util.find_spec("mathjax")
    home = Path(spec.submodule_search_locations[0]) / "static" / "mathjax" if spec else None
    if home is None or not (home / "es5" / MATHJAX_PARTS[0]).exists():
        raise ConfigError(
            "MathJax is missing: install django-static-mathjax (pip install -e '.[book]')"
        )
    version = metadata.version("django-static-mathjax")
    assets = Path(app.outdir).parent / "assets"
    target, stamp = assets / "mathjax", assets / "mathjax" / "VERSION"
    if not stamp.exists() or stamp.read_text() != version:
        shutil.rmtree(target, ignore_errors=True)
        for part in MATHJAX_PARTS:
            source, copy = home / "es5" / part, target / part
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
        shutil.copy(home / "LICENSE", target / "LICENSE")
        stamp.write_text(version)
    config.html_extra_path = [*config.html_extra_path, str(assets)]
    config.mathjax_path = "../mathjax/tex-mml-chtml.js"  # Sphinx takes it relative to _static


def no_buttons_to_nowhere(app, config):
    """The theme fails on buttons for Binder and Colab in a book without a repository's address."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)


def drop_thebe(app, pagename, templatename, context, doctree):
    """sphinx-thebe declares THEBE_JS_URL twice, an error on every console; its cells need a server
    anyway."""
    scripts = context.get("script_files")
    if scripts is not None:
        scripts[:] = [s for s in scripts if not _is_thebe(s)]


def powers(app, doctree):
    """Python's formats write 7e+10 for 7·10¹⁰: no way to write a number in a sentence."""
    for text in list(doctree.findall(nodes.Text)):
        if "pasted-text" in text.parent.get("classes", ()):
            raised = EXPONENT.sub(
                lambda e: "·10" + (e[1] + e[2]).lstrip("+").translate(RAISED), text
            )
            text.parent.replace(text, nodes.Text(raised))


def plain_code(app, pagename, templatename, context, doctree):
    """Half of a page's elements are spans around names and commas that no style tells from plain
    text."""
    if "body" in context:
        context["body"] = PLAIN.sub(r"\1", context["body"])


def _is_thebe(script) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "THEBE_JS_URL" in body or "thebe" in str(getattr(script, "filename", None) or script)


def share_html_handlers(app):
    """singlehtml crashes on sphinx-proof: a node registered for it alone hides the handlers of
    html."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


class OnePage(SingleFileHTMLBuilder):
    """singlehtml forgets on which page a place is, though half of the names are on several. And
    Sphinx links a picture or a download to its file, which a PDF made of the page has not."""

    def init(self):
        super().init()
        self.config.html_scaled_image_link = False

    def fix_refuris(self, tree):
        for reference in tree.findall(nodes.reference):
            page, place, name = reference.get("refuri", "").rpartition("#")
            if page.startswith("#document-"):
                reference["refuri"] = f"{page}.{name}" if name else page
        for file in list(tree.findall(addnodes.download_reference)):
            file.replace_self(file.children)


def tell_apart(app, pagename, templatename, context, doctree):
    """The other half of it: in the one page each name has the name of its page in front."""
    if app.builder.name == "singlehtml" and "body" in context:
        pages = PAGE_BEGINS.split(f'<span id="document-{pagename}"></span>{context["body"]}')
        context["body"] = "".join(
            mark + PLACE.sub(rf' \1{mark[10:-2]}.\2"', page[len(mark) :])
            for page in pages
            if (mark := page[: page.find(">") + 1])
        )


def setup(app):
    app.add_builder(OnePage, override=True)
    app.connect("html-page-context", tell_apart, priority=900)
    app.connect("config-inited", copy_mathjax, priority=10)
    app.connect("config-inited", no_buttons_to_nowhere, priority=10)
    app.connect("builder-inited", share_html_handlers)
    app.connect("doctree-read", powers)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", plain_code, priority=900)
