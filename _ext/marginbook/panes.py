"""Pictures that a phone can show: side by side on a wide screen, one below the other on a narrow
one.

A picture of several panels is cut into *panes* where its columns of pixels are white from top to
bottom. The page shows the same file once for each pane, through a window as wide as the pane; the
style sheet puts the windows in a row or in a column. Nothing is drawn twice.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

WIDE = 5.6  # inches: what a phone shows with text of 11 points at more than nine pixels
IMG = re.compile(r'<img (?=[^>]*\bsrc="(?P<src>[^"]+)")[^>]*>')
SLIDER = re.compile(r'data-frames="(?P<frames>[^"]*)">\s*(?P<img><img [^>]*>)')


def inked(picture: bytes) -> tuple[np.ndarray, float]:
    """Which columns of a PNG's pixels are not white, shape ``(width,)``, and pixels per inch."""
    image = Image.open(io.BytesIO(picture))
    return (np.asarray(image.convert("L")) < 250).any(axis=0), image.info.get("dpi", (110,))[0]


def cuts(ink: np.ndarray, dpi: float) -> list[int]:
    """The edges of the panes of a picture: the fewest cuts that leave none wider than `WIDE`, each
    in the widest gap near to where an equal pane would end; none if there is no such gap.

    >>> ink = np.ones(1000, bool)
    >>> ink[480:500] = False
    >>> cuts(ink, 100), cuts(ink[:400], 100), cuts(ink[500:], 100)
    ([0, 490, 1000], [0, 400], [0, 500])
    """
    width = len(ink)
    edges = np.flatnonzero(np.diff(np.r_[True, ink, True].astype(int))).reshape(-1, 2)
    gaps = [(int(a + b) // 2, b - a) for a, b in edges if 0 < a and b < width and b - a > 5]
    for panes in range(1, 7):
        inner = [width * k / panes for k in range(1, panes)]
        near = [[g for g in gaps if abs(g[0] - place) < width / panes / 4] for place in inner]
        if all(near):
            found = [0, *(max(each, key=lambda g: g[1])[0] for each in near), width]
            if max(np.diff(found)) <= WIDE * dpi:
                return found
    return [0, width]


def paned(img: str, edges: list[int]) -> str:
    """The tag of a picture, once for each pane. Only the first has the words: they are those of
    the whole."""
    if len(edges) == 2:
        return img
    img = re.sub(r' style="[^"]*"', "", img)
    shown, silent = [], re.sub(r'\balt="[^"]*"', 'alt=""', img)
    for left, right in pairwise(edges):
        wide = right - left
        size = f"--of:{edges[-1] / wide:.4f};--left:{-left / wide:.4f};--wide:{wide}px"
        share = f"--share:{100 * wide / edges[-1]:.2f}%"
        shown.append(f'<span class="pane" style="{size};{share}">{silent if left else img}</span>')
    return f'<span class="panes">{"".join(shown)}</span>'


def cut(app, pagename, templatename, context, doctree):
    """html-page-context: the pictures of a page and the frames of its sliders, in panes; a slide
    is never narrow."""
    if "body" not in context or app.builder.name == "slides":
        return
    homes = {name: source for source, name in app.builder.images.items()}

    def slider(found: re.Match) -> str:
        frames = json.loads(html.unescape(found["frames"]))
        pictures = [inked(base64.b64decode(data.partition(",")[2])) for _, data in frames]
        ink, dpi = [each for each, _ in pictures], pictures[0][1]
        same = len({len(each) for each in ink}) == 1
        edges = cuts(np.any(ink, axis=0), dpi) if same else [0, 1]
        return found[0].replace(found["img"], paned(found["img"], edges))

    def still(found: re.Match) -> str:
        home = Path(app.srcdir, homes.get(found["src"].rpartition("/")[2], ""))
        if home.suffix != ".png":
            return found[0]
        return paned(found[0], cuts(*inked(home.read_bytes())))

    context["body"] = SLIDER.sub(slider, IMG.sub(still, context["body"]))


def setup(app):
    app.connect("html-page-context", cut, priority=950)
