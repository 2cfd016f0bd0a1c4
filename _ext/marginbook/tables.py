"""Tables as HTML by hand: each cell carries its column's name, so that a narrow screen can show a row as a card (see
_static/book.css), and explicit roles, because a table shown as cards is no table for a screen reader otherwise."""

from __future__ import annotations

from html import escape


def table(title: str, heads, rows, kind: str = "facts") -> str:
    """A table from cells that are HTML already; the first cell of each row names it."""
    head = "".join(f'<th role="columnheader" scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(f'<tr role="row">{_cells(heads, row)}</tr>' for row in rows)
    return (
        f'<table class="stacking {kind} table" role="table" aria-label="{escape(title)}">'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )


def _cells(heads, row) -> str:
    tags = [("th", "rowheader")] + [("td", "cell")] * (len(row) - 1)
    return "".join(
        f'<{tag} role="{role}" data-label="{escape(head)}"><div>{cell}</div></{tag}>'
        for (tag, role), head, cell in zip(tags, heads, row, strict=True)
    )
