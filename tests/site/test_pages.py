"""The built book as a reader meets it: in a browser, light and dark, on a wide and on a narrow
screen."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LOOK = """
async () => {
  await window.MathJax?.startup?.promise;
  await new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)));
  const faults = [];
  const say = (text, el) => faults.push(text + ": " + (el?.outerHTML ?? "").slice(0, 120));
  for (const img of document.images) {
    if (!img.complete || img.naturalWidth === 0) say("image not loaded", img);
    const alt = (img.alt ?? "").trim();
    if (!alt) say("image without alt", img);
    else if (/^[\\w./-]*\\.(png|svg|jpe?g|gif|webp)$/i.test(alt)) say("alt is a file name", img);
  }
  for (const el of document.querySelectorAll("main .math, main .tex2jax_process"))
    if (el.textContent.trim() && !el.querySelector("mjx-container")) say("math not typeset", el);
  for (const el of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
    say("math with an error", el);
  for (const el of document.querySelectorAll("main p, main li, main td, main figcaption"))
    if ([...el.childNodes].some(n => n.nodeType === 3 && /\\\\\\(|\\\\\\[|\\$\\$/.test(n.data)))
      say("TeX shown as text", el);
  const wide = document.documentElement.scrollWidth - window.innerWidth;
  if (wide > 0) {
    const out = [...document.querySelectorAll("main *")].find(el => {
      if (el.getBoundingClientRect().right <= window.innerWidth + 1) return false;
      for (let a = el.parentElement; a; a = a.parentElement)
        if (getComputedStyle(a).overflowX !== "visible") return false;
      return true;
    });
    say(`the page is ${wide} px wider than the screen`, out);
  }
  return faults;
}
"""


def html_pages(site: Path) -> list[Path]:
    return sorted(
        p
        for p in site.rglob("*.html")
        if "_static" not in p.relative_to(site).parts and p.name != "index.html"
    )


FIRST_MODULE = {"include": ["article section section"]}


def violations(axe, page, context=None, **options) -> list[str]:
    """Whatever axe finds. Preloading serves one rule on style sheets, which a page from disk may
    not read."""
    options = {"preload": False, "resultTypes": ["violations"], **options}
    return [
        f"axe {v['id']} ({len(v['nodes'])}×): "
        + "; ".join(node["html"][:120] for node in v["nodes"][:3])
        for v in axe.run(page, context=context, options=options).response["violations"]
    ]


LARGE = 15_000  # elements; on more, axe takes minutes


def accessible(axe, page, path: Path, width: int, scheme: str) -> list[str]:
    """What axe finds. On a large page each rule runs where it can differ: contrast in both schemes
    on the wide screen, the others on both screens in the light scheme."""
    no_contrast = {"rules": {"color-contrast": {"enabled": False}}}
    if path.stem.startswith("api"):
        # Contrast costs 20 s on these ten thousand elements, whose sections are all generated
        # alike.
        only = violations(axe, page, context=FIRST_MODULE, runOnly=["color-contrast"])
        return only + violations(axe, page, **no_contrast)
    if page.evaluate("document.querySelectorAll('*').length") < LARGE:
        return violations(axe, page)
    found = []
    if width == 1280:
        found += violations(axe, page, runOnly=["color-contrast"])
    if scheme == "light":
        found += violations(axe, page, **no_contrast)
    return found


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_every_page_is_whole_quiet_and_accessible(site, open_page, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    faults = []
    with open_page(width, scheme) as (page, heard):
        for path in html_pages(site):
            heard.clear()
            page.goto(path.as_uri())
            found = page.evaluate(LOOK)
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            found += accessible(axe, page, path, width, scheme)
            faults += [f"{path.relative_to(site)}: {text}" for text in [*found, *heard]]
    assert not faults, "\n".join(faults)


@pytest.mark.browser
def test_search_works_without_a_server(site, open_page):
    with open_page() as (page, heard):
        page.goto((site / "search.html").as_uri() + "?q=scorecard")
        page.wait_for_selector("#search-results li a", timeout=600_000)
        assert not heard, heard


@pytest.mark.browser
def test_front_page_leads_to_the_book(site, open_page):
    with open_page() as (page, heard):
        page.goto((site / "index.html").as_uri())
        page.wait_for_selector("article h1", timeout=600_000)
        assert not heard, heard


def test_internal_links_and_anchors_resolve(site):
    from bs4 import BeautifulSoup

    soups = {
        p.resolve(): BeautifulSoup(p.read_text("utf8"), "html.parser") for p in html_pages(site)
    }
    anchors = {p: {tag["id"] for tag in soup.find_all(id=True)} for p, soup in soups.items()}
    broken = []
    for path, soup in soups.items():
        for link in soup.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc or link["href"] in ("#", ""):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.name} → {link['href']}: no such file")
            elif (
                parts.fragment
                and target in anchors
                and unquote(parts.fragment) not in anchors[target]
            ):
                broken.append(f"{path.name} → {link['href']}: no such place")
    assert not broken, "\n".join(broken)


def test_nothing_is_left_unresolved(site):
    """Placeholders that neither MyST nor glue replaced."""
    from bs4 import BeautifulSoup

    for path in html_pages(site):
        article = BeautifulSoup(path.read_text("utf8"), "html.parser").find("article")
        for block in article.find_all(["pre", "code"]) if article else []:
            block.decompose()
        text = article.get_text() if article else ""
        for sign in ("{glue", "{cite", "{ref}`", "{eq}`", "{doc}`", "```{", "[?]"):
            assert sign not in text, f"{path.name}: {sign}"


LIMITS = {  # what a reader can hold: height at 1280 and at 375 px
    "notebooks/asymmetric_margin": (24_000, 32_000),
    "notebooks/quasi_homogeneity": (16_000, 24_000),
    "notebooks/rising_margin": (16_000, 24_000),
    "notebooks/margin_cascade": (17_000, 24_000),
    "notebooks/neural_collapse": (16_000, 24_000),
    "scorecard": (6_000, 9_000),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", LIMITS)
def test_a_page_can_be_held(site, open_page, name):
    heights = []
    for width in (1280, 375):
        with open_page(width) as (page, _):
            page.goto((site / f"{name}.html").as_uri())
            page.evaluate("async () => { await window.MathJax?.startup?.promise }")
            heights.append(page.evaluate("document.documentElement.scrollHeight"))
            elements = page.evaluate("document.querySelectorAll('*').length")
    assert heights[0] <= LIMITS[name][0] and heights[1] <= LIMITS[name][1], heights
    assert elements <= LARGE, elements


def test_every_module_of_the_numerics_and_the_machinery_is_in_the_reference(root):
    for page, folder in (("api.md", "qhlib"), ("api_book.md", "qhlib/book")):
        text = (root / page).read_text("utf8")
        names = {p.stem for p in (root / folder).glob("*.py")} - {"__init__"}
        missing = {
            n for n in names if f"automodule:: {folder.replace('/', '.')}.{n}\n" not in text
        }
        assert not missing, f"{page} lacks {missing}"
