"""The built book as a reader meets it: in a browser, light and dark, on a wide and on a narrow
screen."""

import gzip
from functools import cache
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
    if (!alt && !img.matches(".pane:not(:first-child) img")) say("image without alt", img);
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


# Code, signatures and formulas are most of a page's elements, and each kind of them looks alike:
# axe needs minutes for all of them, and finds in the first few what it finds in the others.
THIN = """
() => {
  document.head.insertAdjacentHTML("beforeend", "<style>* {transition: none !important}</style>");
  const seen = new Map();
  const more = (kind, few) => seen.set(kind, (seen.get(kind) ?? 0) + 1).get(kind) > few;
  for (const el of document.querySelectorAll(".highlight pre span[class], .sig span[class]"))
    if (more(el.className, 3)) el.replaceWith(...el.childNodes);
  for (const el of document.querySelectorAll("mjx-container"))
    if (more("formula", 20)) el.replaceWith("x");
}
"""
LARGE = 15_000  # elements; a browser is slow on more


# Colours differ in the dark, and not on a narrow screen; they are most of what axe costs.
COLOURS = ["color-contrast", "link-in-text-block"]
RULES = {
    1280: {"light": {}, "dark": {"runOnly": COLOURS}},
    375: {"light": {"rules": {name: {"enabled": False} for name in COLOURS}}},
}


def violations(axe, page, **options) -> list[str]:
    """Whatever axe finds. Preloading serves one rule on style sheets, which a page from disk may
    not read."""
    options = {"preload": False, "resultTypes": ["violations"], **options}
    return [
        f"axe {v['id']} ({len(v['nodes'])}×): "
        + "; ".join(node["html"][:120] for node in v["nodes"][:3])
        for v in axe.run(page, options=options).response["violations"]
    ]


LEADS = tuple("foundations asymmetric_margin leaky_relu_rank_two nonhomogeneous_gd".split())
LEADS += tuple("lexicographic_margin square_loss_bn_wd five_biases".split())


def limits(name: str) -> tuple[int, int] | None:
    """What a reader can hold: the height of a page at 1280 and at 375 px; None for no limit."""
    if name == "scorecard":
        return 6_000, 9_000
    if not name.startswith("notebooks/"):
        return None
    return (24_000, 32_000) if name.endswith(LEADS) else (17_000, 24_000)


SIZE = "[document.documentElement.scrollHeight, document.querySelectorAll('*').length]"


@pytest.mark.browser
@pytest.mark.parametrize("width, part", [(1280, 0), (1280, 1), (375, 0), (375, 1)])
def test_every_page_is_whole_quiet_accessible_and_can_be_held(site, open_page, width, part):
    from axe_playwright_python.sync_playwright import Axe

    faults = []
    with open_page(width) as (page, heard):
        for path in html_pages(site)[part::2]:  # the halves run side by side
            heard.clear()
            page.goto(path.as_uri())
            found = page.evaluate(LOOK)
            name = path.relative_to(site).with_suffix("").as_posix()
            height, elements = page.evaluate(SIZE)
            if (most := limits(name)) and (height > most[width == 375] or elements > LARGE):
                found.append(f"{height} px and {elements} elements are too much to hold")
            if width == 1280:  # a tablet, too
                page.set_viewport_size({"width": 768, "height": 1024})
                wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                found += [f"{wide} px wider than a tablet"] if wide > 0 else []
                page.set_viewport_size({"width": width, "height": 900})
            page.evaluate(THIN)
            for scheme, rules in RULES[width].items():
                page.evaluate(f"document.documentElement.dataset.theme = '{scheme}'")
                found += [f"{scheme}: {text}" for text in violations(Axe(), page, **rules)]
            faults += [f"{name}: {text}" for text in [*found, *heard]]
    assert not faults, "\n".join(faults)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system(site, open_page, scheme):
    with open_page(scheme=scheme) as (page, heard):
        page.goto((site / "intro.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == scheme and not heard


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


@pytest.fixture(scope="module")
def soups(site):
    from bs4 import BeautifulSoup

    return {
        p.resolve(): BeautifulSoup(p.read_text("utf8"), "html.parser") for p in html_pages(site)
    }


def test_no_page_weighs_more_than_three_megabytes(site, soups):
    """A page with the pictures, styles and scripts that it asks for, as a server sends them: what
    is text is compressed. The fonts of formulas are not counted."""

    @cache
    def sent(file: Path) -> int:
        content = file.read_bytes()
        return len(content if file.suffix == ".png" else gzip.compress(content, 6))

    for path, soup in soups.items():
        named = [tag.get("src") for tag in soup.find_all(["img", "script"])]
        named += [tag.get("href") for tag in soup.find_all("link", rel="stylesheet")]
        places = {unquote(urlsplit(n).path) for n in named if n and not n.startswith("data:")}
        files = {(path.parent / place).resolve() for place in places} | {path}
        weight = sum(sent(file) for file in files if file.is_file())
        assert weight <= 3_000_000, f"{path.relative_to(site.resolve())}: {weight:,} bytes"


def test_internal_links_and_anchors_resolve(soups):
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


def test_nothing_is_left_unresolved(soups):
    """Placeholders that neither MyST nor glue replaced."""
    for path, soup in soups.items():
        texts = soup.article.find_all(string=True) if soup.article else ()
        text = "".join(each for each in texts if not each.find_parent(["pre", "code"]))
        for sign in ("{glue", "{cite", "{ref}`", "{eq}`", "{doc}`", "```{", "[?]"):
            assert sign not in text, f"{path.name}: {sign}"


def test_every_module_of_the_numerics_and_the_machinery_is_in_the_reference(root):
    for page, folder in (("api.md", "qhlib"), ("api_book.md", "qhlib/book")):
        text = (root / page).read_text("utf8")
        names = {p.stem for p in (root / folder).glob("*.py")} - {"__init__"}
        missing = {
            n for n in names if f"automodule:: {folder.replace('/', '.')}.{n}\n" not in text
        }
        assert not missing, f"{page} lacks {missing}"
