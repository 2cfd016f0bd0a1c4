"""The look of the book's figures: one colour and one line style for each object, throughout.

Conventions: seaborn's colour-blind-safe palette; every colour goes with a line style of its own, so that a figure
can be read in grey; predictions are lines, measurements are points, seeds are bands.
"""

import base64
import html
import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

_PALETTE = sns.color_palette("colorblind").as_hex()
COLOR = {
    "homogeneous": _PALETTE[0],
    "quasi": _PALETTE[3],
    "prediction": "#222222",
    "measurement": _PALETTE[1],
    "control": _PALETTE[2],
    "other": _PALETTE[4],
    "positive": _PALETTE[0],
    "negative": _PALETTE[1],
}
"""Colour of each object of the book, as a hex string."""
LINE = {
    "homogeneous": "-",
    "quasi": "--",
    "prediction": "-",
    "measurement": ":",
    "control": "-.",
    "other": (0, (3, 1, 1, 1)),
}
"""Line style of each object of the book."""
SERIES = [
    {"color": c, "linestyle": s, "marker": m}
    for c, s, m in zip(
        _PALETTE, ["-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (5, 1))], "osD^vP", strict=False
    )
]
"""Colour, line style and marker for curves of the same kind, in order."""


def use_style() -> None:
    """Set the book's figure style: white background, colour-blind palette, figures of 7 by 4 inches at 110 dpi.

    >>> use_style()
    >>> plt.rcParams["axes.grid"]
    True
    """
    from IPython import get_ipython

    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update(
        {
            "figure.figsize": (7, 4),
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


def show() -> None:
    """Show the open figures, each laid out once: a chapter's figure cell ends with this instead of ``plt.show()``.

    matplotlib would lay a figure out and draw it twice, and would make and measure the minor ticks of logarithmic
    axes, which this style does not show. Where an axis spans little more than a decade they stay, for their labels.

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


def _png(figure: Figure) -> str:
    """The figure as PNG in base64."""
    _finish(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def scrubber(figures: Sequence[Figure], labels: Sequence[str], *, name: str, alt: str, unit: str = ""):
    """A slider through pictures of training time that works in a static page, offline, by keyboard and touch.

    Args:
        figures: one matplotlib figure per instant; they are rendered as PNG and closed.
        labels: what the slider says at each instant.
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
            f"give as many labels as figures, at least one: {len(figures)} figures, {len(labels)} labels"
        )
    frames = [_png(figure) for figure in figures]
    for figure in figures:
        plt.close(figure)
    images = "".join(
        f'<img id="{name}-{i}" src="data:image/png;base64,{frame}" alt="{html.escape(f"{alt} At {label}.", quote=True)}"'
        f' style="max-width:100%;{"" if i == len(frames) - 1 else "display:none"}">'
        for i, (frame, label) in enumerate(zip(frames, labels, strict=True))
    )
    texts = html.escape(str([str(label) for label in labels]).replace("'", '"'), quote=True)
    last = len(frames) - 1
    move = (
        "const f=this.closest('figure');f.querySelectorAll('img').forEach((e,i)=>"
        "{e.style.display=i==this.value?'':'none'});const t=JSON.parse(f.dataset.labels)[this.value];"
        "f.querySelector('output').textContent=t;this.setAttribute('aria-valuetext',t)"
    )
    return HTML(
        f'<figure class="scrubber" data-labels="{texts}">{images}<div><label for="{name}-range">{html.escape(unit)} </label>'
        f'<input id="{name}-range" type="range" min="0" max="{last}" value="{last}" step="1" style="width:60%"'
        f' aria-valuetext="{html.escape(str(labels[-1]), quote=True)}" oninput="{move}">'
        f' <output for="{name}-range">{html.escape(str(labels[-1]))}</output></div></figure>'
    )
