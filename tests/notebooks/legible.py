"""How large the words of a picture are on a phone, in pixels, as the pages show it: in panes; and
whether its edge cuts them."""

import io
import sys

from marginbook.panes import cuts, inked
from matplotlib.figure import Figure
from matplotlib.text import Text

from qhlib import plots

SCREEN = 343  # pixels of a picture on a screen of 375
SMALLEST = 9  # pixels


def unreadable(figure: Figure, save=Figure.savefig) -> list[str]:
    """The words of a picture that a phone shows smaller than `SMALLEST` pixels, and the labels and
    titles that its edge cuts."""
    picture = io.BytesIO()
    save(figure, picture, format="png")
    edges = cuts(*inked(picture.getvalue()))
    small = []
    for words in figure.findobj(Text):
        box = words.get_window_extent()
        place = (box.x0 + box.x1) / 2
        if words.get_visible() and words.get_text().strip() and 0 <= place < edges[-1]:
            pane = max(k for k in range(len(edges) - 1) if edges[k] <= place)
            shrunk = min(1, SCREEN / (edges[pane + 1] - edges[pane]))
            size = words.get_fontsize() * figure.dpi / 72 * shrunk
            small += [f"{words.get_text()!r}: {size:.1f} pixels"] if size < SMALLEST else []
    for ax in figure.axes:
        for words in (ax.xaxis.label, ax.yaxis.label, ax.title):
            box = words.get_window_extent()
            if words.get_text() and not (-1 < box.x0 and box.x1 < edges[-1] + 1):
                small.append(f"{words.get_text()!r}: cut by the edge")
    return small


def watch(monkeypatch) -> list[str]:
    """A list that fills with what is unreadable in any picture shown or glued from now on."""
    found, finish, save = [], plots._finish, Figure.savefig

    def finished(figure: Figure) -> None:
        finish(figure)
        found.extend(unreadable(figure))

    def glued(figure: Figure, *args, **options) -> None:
        if sys._getframe(1).f_code.co_name == "_png":  # a slider's have been looked at
            found.extend(unreadable(figure))
        save(figure, *args, **options)

    monkeypatch.setattr(plots, "_finish", finished)
    monkeypatch.setattr(Figure, "savefig", glued)
    return found
