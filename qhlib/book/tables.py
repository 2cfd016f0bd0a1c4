"""HTML of the claims and of the parameters, for the book's pages, Jupyter and exported files.

Conventions
-----------
* Everything but mathematics is escaped; a verdict is a symbol and a word, never a colour alone.
* Colours are the surrounding text's, so that light and dark pages both stay readable.
* Mathematics: Sphinx with MyST lets MathJax process marked elements only, and only with LaTeX's own
  delimiters; Jupyter accepts these as well. So ``$..$`` becomes ``\\(..\\)`` inside a span that carries
  MyST's mark.
* Wide tables scroll inside a region that can be focused with the keyboard.
"""

import re
from collections.abc import Iterable
from html import escape

from .claims import BASES, RELATIONS, VERDICTS
from .parameters import BOOK, PAPER, Declaration

_MATH = re.compile(r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)
MATH_CLASSES = "math notranslate nohighlight tex2jax_process mathjax_process"
_CELL = "text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid currentColor"


def math_html(text: str) -> str:
    """`text` as HTML: its mathematics marked for MathJax, the rest escaped; ``\\$`` is a dollar sign.

    >>> print(math_html("a < b: $x<y$"))
    a &lt; b: <span class="math notranslate nohighlight tex2jax_process mathjax_process">\\(x&lt;y\\)</span>
    """
    parts, end = [], 0
    for found in _MATH.finditer(text):
        parts.append(escape(text[end : found.start()].replace("\\$", "$")))
        display, inline = found.groups()
        formula = rf"\[{display}\]" if display else rf"\({inline}\)"
        parts.append(f'<span class="{MATH_CLASSES}">{escape(formula)}</span>')
        end = found.end()
    return "".join(parts) + escape(text[end:].replace("\\$", "$"))


def number(value: float | str) -> str:
    """A number with at most six significant digits.

    >>> number(0.63), number(1e-12), number("nan")
    ('0.63', '1e-12', 'nan')
    """
    return value if isinstance(value, str) else f"{value:.6g}"


def prediction(row: dict) -> str:
    """The predicted value with its relation, where that is no equality.

    >>> prediction({"predicted": 0.5, "relation": "<="})
    '≤ 0.5'
    """
    sign = RELATIONS[row["relation"]]
    return number(row["predicted"]) if sign == "=" else f"{sign} {number(row['predicted'])}"


def tolerance(row: dict) -> str:
    """The tolerance, marked when it is relative.

    >>> tolerance({"tolerance": 0.001, "relative": True})
    '0.001 (relative)'
    """
    return number(row["tolerance"]) + (" (relative)" if row["relative"] else "")


def measurement(row: dict) -> str:
    """The measured value; for an array it says that the worst of its entries is shown.

    >>> measurement({"measured": 0.5, "entries": 12})
    '0.5 (worst of 12)'
    """
    return number(row["measured"]) + (f" (worst of {row['entries']})" if row["entries"] > 1 else "")


def verdict_html(row: dict) -> str:
    """Symbol, word, and the reason where the claim carries one.

    >>> verdict_html({"verdict": "deviates", "outside": "", "expected_deviation": ""})
    '<span aria-hidden="true">✗</span> <strong>deviates</strong>'
    """
    word = row["verdict"]
    html = f'<span aria-hidden="true">{VERDICTS[word]}</span> <strong>{word}</strong>'
    if row["outside"]:
        return f"{html}: {math_html(row['outside'])}"
    if row["expected_deviation"]:
        lead = "as expected" if word == "deviates" else "a deviation was expected"
        return f"{html}, {lead}: {math_html(row['expected_deviation'])}"
    return html


def verdict_text(row: dict) -> str:
    """The same in plain text.

    >>> verdict_text({"verdict": "outside", "outside": "d < n", "expected_deviation": ""})
    '○ outside: d < n'
    """
    reason = row["outside"] or row["expected_deviation"]
    return f"{VERDICTS[row['verdict']]} {row['verdict']}" + (f": {reason}" if reason else "")


def card_html(row: dict) -> str:
    """The card shown where a claim is made; its id is the row's anchor."""
    facts = (
        f"predicted {prediction(row)}, measured {measurement(row)}, tolerance {tolerance(row)} "
        f"({math_html(row['tolerance_from'])})"
    )
    return (
        f'<div class="qhlib-claim" id="{escape(row["anchor"])}" '
        'style="border-left:.25em solid currentColor;padding:.2em .8em;margin:.5em 0">'
        f"<p>{verdict_html(row)} · <code>{escape(row['id'])}</code> · {BASES[row['basis']]}: "
        f"{math_html(row['source'])}</p><p>{math_html(row['statement'])}</p><p>{facts}</p></div>"
    )


def table_html(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]], kind: str) -> str:
    """An accessible table from cells that are HTML already; the first cell of each row is its header.

    >>> "<caption" in table_html("Parameters", ["name"], [["seed"]], "parameters")
    True
    """
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(column)}</th>' for column in columns)
    body = ""
    for first, *rest in rows:
        cells = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in rest)
        body += f'<tr><th scope="row" style="{_CELL}">{first}</th>{cells}</tr>'
    return (
        f'<div class="qhlib-table" role="region" tabindex="0" aria-label="{escape(caption)}" '
        f'style="overflow-x:auto"><table class="qhlib-{kind}" style="border-collapse:collapse">'
        f'<caption style="text-align:left">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def claims_html(chapter: str, rows: list[dict]) -> str:
    """The claims of a chapter, each linked to the place where it is made."""
    columns = ("claim", "verdict", "predicted", "measured", "tolerance")
    cells = [
        (
            f'<a href="#{escape(row["anchor"])}"><code>{escape(row["id"])}</code></a><br>'
            f'<span style="font-weight:normal">{math_html(row["statement"])} '
            f"<em>{BASES[row['basis']]}: {math_html(row['source'])}.</em> "
            f"Tolerance: {math_html(row['tolerance_from'])}.</span>",
            verdict_html(row),
            escape(prediction(row)),
            escape(measurement(row)),
            escape(tolerance(row)),
        )
        for row in rows
    ]
    return table_html(f"Claims of {chapter}", columns, cells, "claims")


def claims_text(rows: list[dict]) -> str:
    """The claims as plain text, a line each.

    >>> claims_text([])
    'no claims'
    """
    lines = [
        f"{VERDICTS[row['verdict']]} {row['verdict']:10} {row['id']}: predicted {prediction(row)}, "
        f"measured {measurement(row)}, tolerance {tolerance(row)}"
        for row in rows
    ]
    return "\n".join(lines) or "no claims"


def parameters_html(declaration: Declaration) -> str:
    """The declared parameters, and a line with the presets."""
    rows = []
    for spec in declaration.specs:
        row = spec.row()
        cells = (row["name"], row["type"], repr(row["default"]), row["range"])
        rows.append(
            [*(f"<code>{escape(cell)}</code>" if cell else "" for cell in cells), math_html(spec.help)]
        )
    presets = [f"<code>{BOOK}</code>: the default values"]
    for name, values in declaration.presets.items():
        changed = ", ".join(f"{key} = {value!r}" for key, value in values.items()) or "the default values"
        presets.append(f"<code>{escape(name)}</code>: {escape(changed)}")
    if PAPER not in declaration.presets:
        presets.append(f"<code>{PAPER}</code>: the same as <code>{BOOK}</code>")
    table = table_html(
        f"Parameters of {declaration.chapter}",
        ("parameter", "type", "default", "range", "meaning"),
        rows,
        "parameters",
    )
    together = "; ".join(f"<code>{escape(' '.join(relation))}</code>" for relation in declaration.relations)
    together = f"<p>Together: {together}.</p>" if together else ""
    return f"{table}{together}<p>Presets: {'; '.join(presets)}.</p>"
