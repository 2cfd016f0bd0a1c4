"""Turn MyST markdown into markdown that Jupyter's exporter can render.

Conventions
-----------
* Text in, text out; blocks of code are left as they are.
* Directives become boxes, folded details, fenced code or display mathematics; roles become text and links.
* Labelled equations are numbered in order of appearance, as Sphinx does; figures from 1 in order of their
  cells.
* What is not known loses its markup and keeps its text: nothing a reader could read is dropped.
"""

import re
from collections.abc import Mapping
from html import escape

_OPEN = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:.+-]+)\}[ \t]*(?P<title>.*)$")
_PLAIN_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_OPTION = re.compile(r"^\s*:(?P<key>[\w-]+):[ \t]*(?P<value>.*)$")
_ROLE = re.compile(r"\{(?P<kind>[\w:.+-]+)\}(?P<ticks>`+)(?P<text>.+?)(?P=ticks)")
_TARGET = re.compile(r"^\((?P<label>[\w:.-]+)\)=\s*$")
_EQUATION = re.compile(r"^\$\$(?P<body>(?:(?!\$\$).)+?)\$\$[ \t]*\((?P<label>[\w:.-]+)\)[ \t]*$", re.M | re.S)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|inf|nan)", re.I)
_FOLDED = ("dropdown", "solution", "toggle", "solution-start")
_CODE = ("code", "code-block", "code-cell", "sourcecode")
_DROPPED = ("bibliography", "contents", "tableofcontents", "solution-end", "exercise-end", "footbibliography")


def readable(source: str, glued: Mapping[str, str], labels: dict[str, str]) -> str:
    """`source` without MyST's own syntax; `glued` holds the notebook's values, `labels` the names of targets.

    `labels` (label -> text) is filled as labels are met: call it once for all cells to collect them, and once
    more to use them.

    >>> readable("It is {glue:text}`robustness:.2f`, see {cite:t}`kunin2023asymmetric`.",
    ...          {"robustness": "np.float64(0.6301)"}, {})
    'It is 0.63, see (kunin2023asymmetric).'
    """
    return _roles("\n".join(_blocks(_equations(source, labels).split("\n"), labels)), glued, labels)


def glued_value(text: str, spec: str) -> str:
    """A glued value, stored as its representation, in the format `spec`.

    >>> glued_value("0.6301", ".2f"), glued_value("'seven'", ""), glued_value("np.float64(2.5)", "")
    ('0.63', 'seven', '2.5')
    """
    text = re.sub(r"^(?:np|numpy|torch)\.\w+\((.*)\)$|^tensor\((.*?)[,)].*$", r"\1\2", text.strip())
    if spec and _NUMBER.fullmatch(text):
        value = float(text)
        try:
            return format(int(value) if spec[-1] in "dx" and value == int(value) else value, spec)
        except ValueError:
            return text  # a format that does not fit the number
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def equation(body: str, label: str, labels: dict[str, str]) -> str:
    """Display mathematics, numbered when it has a label.

    >>> equation("x = 1", "eq-x", {})
    '\\n<a id="eq-x"></a>\\n\\n$$\\nx = 1\\n\\\\tag{1}\\n$$\\n'
    """
    body = body.strip()
    if "\\\\" in body and "\\begin" not in body:
        body = f"\\begin{{split}}\n{body}\n\\end{{split}}"
    if not label:
        return f"\n$$\n{body}\n$$\n"
    if label not in labels:
        count = sum(text.startswith("(") and text[1:-1].isdigit() for text in labels.values())
        labels[label] = f"({count + 1})"
    # amsmath's own environments cannot carry a tag from outside
    tag = (
        ""
        if re.match(r"\\begin\{(align|gather|equation|multline)", body)
        else f"\\tag{{{labels[label][1:-1]}}}\n"
    )
    return f'\n<a id="{label}"></a>\n\n$$\n{body}\n{tag}$$\n'


def _equations(source: str, labels: dict[str, str]) -> str:
    return _EQUATION.sub(lambda found: equation(found["body"], found["label"], labels), source)


def _blocks(lines: list[str], labels: dict[str, str]) -> list[str]:
    """Directives, targets and comments of a list of lines, recursively."""
    result: list[str] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        opening, fence, target = _OPEN.match(line), _PLAIN_FENCE.match(line), _TARGET.match(line)
        if opening:
            body, position = _until_closed(lines, position, opening["fence"])
            options, body = _options(body)
            result += _directive(opening["kind"], opening["title"].strip(), options, body, labels)
        elif fence:
            body, position = _until_closed(lines, position, fence[1])
            result += [line, *body, fence[1]]
        elif target:
            labels.setdefault(target["label"], "")
            result += [f'<a id="{target["label"]}"></a>', ""]
        elif line.startswith("#") and result and result[-2:-1] and result[-2].startswith("<a id="):
            label = result[-2].split('"')[1]
            labels[label] = labels.get(label) or line.lstrip("#").strip()
            result.append(line)
        elif not line.startswith("% ") and line.strip() not in ("%", "+++"):
            result.append(line)
    return result


def _until_closed(lines: list[str], position: int, fence: str) -> tuple[list[str], int]:
    """Lines up to the fence's end, which a directive inside may also use, and the position after it."""
    depth, body = 1, []
    while position < len(lines):
        line = lines[position].strip()
        position += 1
        inner = _OPEN.match(line)
        if inner and inner["fence"][0] == fence[0] and len(inner["fence"]) >= len(fence):
            depth += 1
        elif line and set(line) == {fence[0]} and len(line) >= len(fence):
            depth -= 1
            if depth == 0:
                break
        body.append(lines[position - 1])
    return body, position


def _options(body: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split a directive's options, ``:key: value`` or between ``---``, from its text."""
    options: dict[str, str] = {}
    if body and body[0].strip() == "---":
        end = next((i for i, line in enumerate(body[1:], 1) if line.strip() == "---"), 0)
        for line in body[1:end]:
            key, _, value = line.partition(":")
            options[key.strip()] = value.strip()
        return options, body[end + 1 :]
    while body and (found := _OPTION.match(body[0])):
        options[found["key"]] = found["value"].strip()
        body = body[1:]
    return options, body


def _directive(kind: str, title: str, options: dict, body: list[str], labels: dict[str, str]) -> list[str]:
    """One directive in plain markdown."""
    label = options.get("label") or options.get("name") or ""
    name = kind.split(":")[-1]
    if kind == "math":
        return equation("\n".join([title, *body]), label, labels).split("\n")
    if kind in _CODE:
        return [f"```{title}", *body, "```"]
    if kind in _DROPPED:
        return []
    anchor = [f'<a id="{label}"></a>', ""] if label else []
    if kind in ("figure", "image"):
        text = options.get("alt", "")
        return [*anchor, f"![{text}]({title})", "", *_blocks(body, labels), ""]
    if kind.startswith("glue"):
        return [f"{{glue:}}`{title}`", "", *body]
    if name in ("admonition", "dropdown"):
        heading = title or name.capitalize()
    elif name == "solution":
        heading = "Solution"  # its argument is the label of the exercise
    else:
        heading = name.replace("-start", "").capitalize() + (f" ({title})" if title else "")
    if label:
        labels[label] = heading
    inner = _blocks(body, labels)
    if name in _FOLDED or "dropdown" in options.get("class", ""):
        return [
            *anchor,
            "<details>",
            f"<summary>{escape(heading)}</summary>",
            "",
            *inner,
            "",
            "</details>",
            "",
        ]
    return [*anchor, '<div class="box">', "", f"**{heading}.**", "", *inner, "", "</div>", ""]


def _roles(text: str, glued: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """Inline roles outside of fenced code."""
    lines, fence = [], ""
    for line in text.split("\n"):
        marker = _PLAIN_FENCE.match(line)
        if marker:
            fence = "" if fence and marker[1].startswith(fence) else fence or marker[1]
        lines.append(line if fence or marker else _ROLE.sub(lambda r: _role(r, glued, labels), line))
    return "\n".join(lines)


def _role(found: re.Match, glued: Mapping[str, str], labels: Mapping[str, str]) -> str:
    kind, text = found["kind"], found["text"]
    if kind.startswith("glue"):
        name, _, spec = text.partition(":")
        return glued_value(glued[name], spec) if name in glued else f"[{name}: not computed]"
    if kind.startswith("cite"):
        return f"({text.replace(',', ', ')})"
    if kind == "math":
        return f"${text}$"
    shown = re.fullmatch(r"(?P<shown>.+?)\s*<(?P<target>[^>]+)>", text)
    target = shown["target"] if shown else text
    if kind in ("ref", "numref", "eq", "prf:ref", "doc", "term", "download"):
        name = shown["shown"] if shown else labels.get(target) or target
        if shown and "{number}" in name or "%s" in name:
            name = labels.get(target, name)
        return f"[{name}](#{target})" if target in labels else name
    if kind in ("code", "py:func", "func", "class", "mod", "meth", "py:class", "py:mod", "kbd", "file"):
        return f"`{target.lstrip('~')}`"
    return shown["shown"] if shown else text
