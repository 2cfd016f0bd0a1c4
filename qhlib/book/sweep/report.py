"""A sweep's report: figures of its table, in a notebook that is executed and made a page.

Conventions
-----------
* The figures take the table of :func:`qhlib.book.sweep.tables.read`. The horizontal axis is the
  swept parameter with the most values, seeds last; the others are what the points are spread over.
* ``report.ipynb`` is executed beside the table, which it names without a path. With its outputs it
  can stand in the book's table of contents, where nothing is executed again.
"""

import json
import os
from pathlib import Path

from ..errors import BookError
from ..notebook import Notebook, read_notebook
from ..running import execute
from .runs import Sweep
from .tables import CLAIM, RUN, swept

MOST = 16
"""Frames of a slider, and values on an axis that are written out."""


def parameters(table) -> list[str]:
    """Names of the table's columns of parameters."""
    names = list(table.columns)
    return names[len(RUN) : names.index(next(iter(CLAIM)))]


def axis(table) -> str:
    """The column for the horizontal axis."""
    return (swept(table, parameters(table)) or ["run"])[0]


def scale(ax, values) -> None:
    """A logarithmic axis where positive numbers span more than a factor of 100."""
    if getattr(values, "dtype", None) is not None and values.dtype.kind in "iuf":
        if values.min() > 0 and values.max() / values.min() > 100:
            ax.set_xscale("log")


def measured(table):
    """Each claim's measurements, with the mean of its predictions as a line, over the axis."""
    import seaborn as sns

    from qhlib import plots

    x, claims = axis(table), table.dropna(subset="claim")
    count = claims["claim"].nunique()
    grid = sns.FacetGrid(claims, col="claim", col_wrap=min(3, count), sharey=False)
    grid.figure.set_size_inches(9, 2.6 * -(-count // 3))
    for name, ax in grid.axes_dict.items():
        rows = claims[claims["claim"] == name]
        means = rows.groupby(x)["predicted"].mean()
        plots.measurement(ax, rows[x], rows["measured"], label="measured", markersize=4)
        plots.prediction(ax, means.index, means, label="predicted")
        ax.set_title(f"{name.partition('/')[2]} ({rows['relation'].iloc[0]})")
        ax.set_xlabel(x)
        ax.set_ylabel("")
        scale(ax, rows[x])
    grid.axes.flat[0].legend()
    return grid.figure


def verdicts(table):
    """Share of the runs that reproduce each claim, and that ran to their end, over the axis; grey
    where nothing is asserted."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    x = axis(table)
    claims = table[table["verdict"].isin(["reproduced", "deviates"])]
    holds = claims.assign(share=claims["verdict"].eq("reproduced").astype(float))
    found = holds.pivot_table(index="claim", columns=x, values="share", aggfunc="mean")
    runs = table.drop_duplicates("run")
    ended = runs.assign(share=runs["status"].eq("finished").astype(float))
    ended = ended.groupby(x)["share"].mean()
    found = found.reindex(columns=ended.index)
    found.loc["(ran to its end)"] = ended
    figure, ax = plt.subplots(figsize=(9, 1.2 + 0.45 * len(found)))
    ax.set_facecolor("#dddddd")
    told = found.shape[1] <= MOST // 2
    look = {"vmin": 0, "vmax": 1, "cmap": "cividis", "annot": told, "fmt": ".2g"}
    sns.heatmap(found, ax=ax, cbar_kws={"label": "share of runs"}, **look)
    ax.set_ylabel("")
    return figure


def durations(table):
    """Seconds of each run, its kernel's start and end with them, over the axis."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    runs, x = table.drop_duplicates("run"), axis(table)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), sharey=True, width_ratios=[3, 1])
    sns.scatterplot(runs, x=x, y="whole_seconds", style="status", ax=left)
    sns.histplot(runs, y="whole_seconds", ax=right)
    left.set_ylabel("seconds")
    scale(left, runs[x])
    return figure


def explorer(table, over: str, name: str):
    """A slider over the swept parameter `over`: at each of its values the deviation of every
    claim, in units of its tolerance; `name` is the slider's on its page. At most 16 values.

    Raises :class:`BookError` when the table holds no claims.
    """
    import matplotlib.pyplot as plt

    from qhlib import plots

    claims = table.dropna(subset="claim")
    values = sorted(claims[over].unique())
    if not values:
        raise BookError("this table holds no claims: there is nothing to show")
    if len(values) > MOST:  # the ends, and evenly between
        values = [values[k * (len(values) - 1) // (MOST - 1)] for k in range(MOST)]
    names, frames = list(claims["claim"].unique()), []
    for value in values:
        rows = claims[claims[over] == value]
        figure, ax = plt.subplots(figsize=(7, 1 + 0.4 * len(names)))
        ax.axvspan(-1, 1, color="#dddddd")
        gaps = rows["deviation"] / rows["tolerance"].where(rows["tolerance"] > 0, 1e-300)
        places = [names.index(claim) for claim in rows["claim"]]
        plots.measurement(ax, gaps.clip(-99, 99), places, label="a run")
        ax.set(yticks=range(len(names)), yticklabels=[n.partition("/")[2] for n in names])
        ax.set(
            xlabel="deviation / tolerance", ylim=(len(names) - 0.5, -0.5), title=f"{over} {value}"
        )
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(-100, 100)
        frames.append(figure)
    alt = "For every claim the deviation of each run in units of its tolerance; grey is within it."
    return plots.scrubber(frames, [str(v) for v in values], name=name, alt=alt, unit=over)


INTRODUCTION = """\
# Sweep: {title}

{{glue:text}}`runs` runs of `{name}`, {{glue:text}}`finished` of them finished, over {over}; claims
{{glue:text}}`reproduced` times reproduced, {{glue:text}}`deviates` times not, and
{{glue:text}}`outside` times outside of their assumptions.
"""
OPEN = """\
import matplotlib.pyplot as plt
from qhlib.book import open_chapter
from qhlib.book.sweep import report, tables
from qhlib.plots import use_style

chapter = open_chapter("report", globals())
use_style()
rows = tables.read(table)
runs = rows.drop_duplicates("run")
chapter.glue("runs", len(runs))
chapter.glue("finished", int((runs.status == "finished").sum()))
for verdict in ("reproduced", "deviates", "outside"):
    chapter.glue(verdict, int((rows.verdict == verdict).sum()))"""
FIGURES = {
    "measured": (
        "Measured against predicted: each claim's measurements as points, the mean of its "
        "predictions as a line.",
        "For each claim a picture: measurements as points and the prediction as a line.",
    ),
    "verdicts": (
        "Verdicts: the share of runs that reproduce a claim; grey where nothing is asserted.",
        "A map: a row for each claim, a column for each value, coloured by the share reproduced.",
    ),
    "durations": ("Duration of each run.", "Seconds of each run, and their histogram."),
}


def report_notebook(sweep: Sweep) -> Notebook:
    """The report as a notebook that is not executed yet."""
    over = swept_names(sweep)
    title, name = sweep.notebook.title or sweep.notebook.name, sweep.notebook.name
    told = ", ".join(f"`{each}`" for each in over) or "one set of parameters"
    cells = [
        _cell("markdown", INTRODUCTION.format(title=title, name=name, over=told)),
        _cell(
            "code",
            'table: str = "table.parquet"  # the table of the sweep',
            tags=["parameters", "hide-input"],
        ),
        _cell("code", OPEN, tags=["hide-input"]),
    ]
    claims = bool(sweep.notebook.claims)
    for kind, (caption, alt) in FIGURES.items():
        if claims or kind == "durations":
            figure = {
                "figure": {"name": f"sweep-{kind}", "caption": caption},
                "image": {"alt": alt},
            }
            source = f"report.{kind}(rows)\nplt.show()"
            cells.append(_cell("code", source, tags=["hide-input"], mystnb=figure))
    if claims and over:
        cells += [
            _cell("markdown", f"## Move `{over[0]}`"),
            _cell(
                "code",
                f"report.explorer(rows, report.axis(rows), name='sweep-{over[0]}')",
                tags=["hide-input"],
            ),
        ]
    cells.append(_cell("code", "chapter.finish()", tags=["hide-input"]))
    for number, cell in enumerate(cells):
        cell["id"] = f"report-{number}"
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": spec},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return Notebook(Path("report.ipynb"), content)


def swept_names(sweep: Sweep) -> list[str]:
    """Parameters that take more than one value, as :func:`~qhlib.book.sweep.tables.swept` of a
    table."""
    kinds = {
        key: {json.dumps(values[key]) for values in sweep.runs.values()}
        for key in sweep.notebook.declaration.defaults
    }
    found = [key for key, seen in kinds.items() if len(seen) > 1]
    return sorted(found, key=lambda key: (key == "seed", -len(kinds[key])))


def _cell(kind: str, source: str, **metadata) -> dict:
    code = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "source": source, "metadata": metadata, **code}


def write(sweep: Sweep, stream) -> list[Path]:
    """Execute the report beside the table and make its page; returns both.

    Raises :class:`~qhlib.book.errors.BookError` when either cannot be made.
    """
    from ..pages import write_page

    notebook, page = sweep.root / "report.ipynb", sweep.root / "report.html"
    page.unlink(missing_ok=True)
    here = Path.cwd()
    os.chdir(sweep.root)
    try:
        execute(report_notebook(sweep), {}, notebook, stream=stream)
    finally:
        os.chdir(here)
    write_page(read_notebook(notebook), "report", page)
    return [notebook, page]
