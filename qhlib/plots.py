"""The look of the book's figures: one colour and one line style for each object, throughout.

Conventions: seaborn's colour-blind-safe palette; every colour goes with a line style of its own,
so that a figure can be read in grey; predictions are lines, measurements are points, seeds are
bands.
"""

import base64
import html
import io
import json
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

_PALETTE = sns.color_palette("colorblind").as_hex()
_OBJECTS = {  # colour, line style, marker
    "homogeneous": (_PALETTE[0], "-", "o"),
    "quasi": (_PALETTE[3], "--", "s"),
    "prediction": ("#222222", "-", "x"),
    "measurement": (_PALETTE[1], ":", "o"),
    "control": (_PALETTE[2], "-.", "D"),
    "other": (_PALETTE[4], (0, (3, 1, 1, 1)), "^"),
    "positive": (_PALETTE[0], "-", "+"),
    "negative": (_PALETTE[1], "--", "_"),
}
COLOR, LINE, MARKER = ({name: row[k] for name, row in _OBJECTS.items()} for k in range(3))
"""Colour (a hex string), line style and marker of each object of the book."""
_STYLES = zip(_PALETTE, ["-", "--", "-.", ":", LINE["other"], (0, (5, 1))], "osD^vP", strict=False)
SERIES = [{"color": c, "linestyle": s, "marker": m} for c, s, m in _STYLES]
"""Colour, line style and marker for curves of the same kind, in order."""


def use_style() -> None:
    """Set the book's figure style: white background, colour-blind palette, figures of 5.5 by 3.6
    inches at 110 dpi.

    It starts from matplotlib's own defaults, so that a reader's matplotlibrc changes no figure.

    >>> plt.rcParams["text.usetex"] = True
    >>> use_style()
    >>> plt.rcParams["axes.grid"], plt.rcParams["text.usetex"]
    (True, False)
    """
    from IPython import get_ipython

    matplotlib.rcdefaults()
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update(
        {
            "figure.figsize": (5.5, 3.6),
            "figure.dpi": 110,
            "savefig.facecolor": "white",
            "figure.autolayout": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "grid.linewidth": 0.5,
            "legend.frameon": False,
        }
    )
    shell = get_ipython()
    if shell is not None and "InlineBackend" in {type(c).__name__ for c in shell.configurables}:
        # the layout is constrained already: cropping would draw every figure a second time
        shell.run_line_magic("config", "InlineBackend.print_figure_kwargs = {'bbox_inches': None}")


def prediction(ax: Axes, x, y, *, label: str | None = None, kind: str = "prediction", **style):
    """Draw a line in the style of an object of the book.

    Args:
        ax: where to draw.
        x: positions, an array.
        y: values, an array of the same length.
        label: text for the legend.
        kind: the object, a key of :data:`COLOR`.
        style: anything else that matplotlib's ``plot`` knows; it overrides the object's style.

    Returns:
        The line.

    >>> prediction(plt.figure().add_subplot(), [1, 2], [3, 4], ls=":").get_color()
    '#222222'
    """
    own = {"color": COLOR[kind], "linestyle": LINE[kind], "label": label}
    return ax.plot(x, y, **own | normalize_kwargs(style, Line2D))[0]


def measurement(ax: Axes, x, y, *, label: str | None = None, kind: str = "measurement", **style):
    """Draw points in the style of an object of the book; arguments as in :func:`prediction`.

    >>> measurement(plt.figure().add_subplot(), [1, 2], [3, 4]).get_linestyle()
    'None'
    """
    own = {"linestyle": "none", "marker": MARKER[kind], "markersize": 5}
    return prediction(ax, x, y, label=label, kind=kind, **own | normalize_kwargs(style, Line2D))


def slope(ax: Axes, exponent: float, x, y0: float, *, label: str | None = None, **style):
    """Draw the guide ``y0 (x / x_0)^exponent`` through ``(x_0, y0)``: a straight line on
    logarithmic axes.

    Other arguments as in :func:`prediction`.

    >>> slope(plt.figure().add_subplot(), -1, [1, 10], 2.0).get_ydata().tolist()
    [2.0, 0.2]
    """
    x = np.asarray(x, float)
    own = {"color": "0.45", "linestyle": (0, (1, 1))} | normalize_kwargs(style, Line2D)
    label = f"slope {exponent:g}" if label is None else label
    return prediction(ax, x, y0 * (x / x[0]) ** exponent, label=label, **own)


def show() -> None:
    """Show the open figures, each laid out once: a chapter's figure cell ends with this instead of
    ``plt.show()``.

    matplotlib would lay a figure out and draw it twice, and would make and measure the minor ticks
    of logarithmic axes, which this style does not show. Where an axis spans little more than a
    decade they stay, for their labels.

    >>> use_style()
    >>> fig, ax = plt.subplots()
    >>> lines = ax.loglog([1, 1e6], [1, 10])
    >>> show()
    >>> len(ax.xaxis.get_minorticklocs()), len(ax.yaxis.get_minorticklocs()) > 0
    (0, True)
    """
    for number in plt.get_fignums():
        _finish(plt.figure(number))
    plt.show()


def _finish(figure: Figure) -> None:
    """Drop ticks that no one sees, lay the figure out, and keep matplotlib from doing it again."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            if axis.get_scale() == "log" and high > 30 * low:
                axis.set_minor_locator(NullLocator())
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def scrubber(
    figures: Sequence[Figure], labels: Sequence[str], *, name: str, alt: str, unit: str = ""
):
    """A slider through pictures that works in a static page, offline, by keyboard and touch.

    The figures are rendered as PNG into the page itself, and closed. The last one is shown first.

    Args:
        figures: one matplotlib figure per position of the slider.
        labels: what the slider says at each position.
        name: identifier of this scrubber on its page (letters, digits, hyphens).
        alt: alternative text of the picture; the current label is added to it.
        unit: name of the slider's quantity, e.g. "log(1/L)".

    Returns:
        An object for IPython's display.

    Raises:
        ValueError: if there is no figure, or as many labels as figures are not given.

    >>> shown = scrubber([plt.figure()], ["start"], name="demo", alt="empty")
    >>> 'type="range"' in shown.data
    True
    """
    from IPython.display import HTML

    if not figures or len(figures) != len(labels):
        raise ValueError(
            f"give as many labels as figures, at least one: {len(figures)} and {len(labels)}"
        )
    frames = []
    for figure, label in zip(figures, labels, strict=True):
        _finish(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        data = base64.b64encode(buffer.getvalue()).decode()
        frames.append([str(label), f"data:image/png;base64,{data}"])

    def quoted(text: str) -> str:
        return html.escape(text, quote=True)

    # one picture whose source changes: a page stays small in elements, whatever the number of
    # frames. A page may show it in panes, of which the first has the words
    move = (
        "const f=this.closest('figure'),i=f.querySelectorAll('img'),"
        "[t,u]=(this.frames??=JSON.parse(f.dataset.frames))[this.value];"
        "i.forEach(e=>e.src=u);i[0].alt=f.dataset.alt+' At '+t+'.';"
        "f.querySelector('output').textContent=t;"
        "this.setAttribute('aria-valuetext',t)"
    )
    (label, picture), last, data = frames[-1], len(frames) - 1, quoted(json.dumps(frames))
    return HTML(
        f'<figure class="scrubber" data-alt="{quoted(alt)}" data-frames="{data}">'
        f'<img src="{picture}" alt="{quoted(f"{alt} At {label}.")}" style="max-width:100%">'
        f'<div><label for="{name}-range">{quoted(unit)} </label>'
        f'<input id="{name}-range" type="range" min="0" max="{last}" value="{last}" step="1"'
        f' style="width:60%" aria-valuetext="{quoted(label)}" oninput="{quoted(move)}">'
        f' <output for="{name}-range">{quoted(label)}</output></div></figure>'
    )
