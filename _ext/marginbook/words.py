"""Claims, parameters, scorecard and status as MyST text, from what executed notebooks tell.

Pure functions: text in, text out. Sphinx parses the result like any other page, so mathematics,
references and citations in a claim's statement work wherever it is shown.
"""

from __future__ import annotations

import re
from collections import Counter

import yaml

from qhlib.book.claims import BASES, BLOCK, VERDICTS, numbers
from qhlib.book.declaration import Declaration

MEANING = {
    "reproduced": "the measurement agrees with the prediction within the tolerance",
    "deviates": "it does not; a deviation stands here only when it is declared, with its reason",
    "outside": "the assumptions do not hold for these parameters, so nothing is asserted",
}
PLACE = re.compile(
    r"^(`{3,})\{(scorecard|bookstatus|parameters|verdicts|chapter-figure)\} *(.*)\n"
    r"([\s\S]*?)^\1 *$",
    re.MULTILINE,
)


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def claim_box(row: dict) -> str:
    """A claim as an admonition: statement, numbers, verdict, and where statement and tolerance
    come from."""
    verdict, basis = row["verdict"], BASES[row["basis"]]
    source = row["source"] if row["source"].startswith(basis) else f"{basis}: {row['source']}"
    reason = row["outside"] or row["expected_deviation"]
    reason = reason and f" {sentence(reason)}"
    return (
        f"::::::{{admonition}} {VERDICTS[verdict]} {verdict}\n:class: claim claim-{verdict}\n"
        f":name: {row['anchor']}\n{row['statement']}\n\n{sentence(numbers(row))}{reason}\n\n"
        f"{sentence(source)} Tolerance: {row['tolerance_from'].rstrip('.')}.\n::::::"
    )


def with_claims(text: str, rows: dict[str, dict]) -> str:
    """A markdown cell with each of its ``{claim}`` directives as a box; `rows` by the claims'
    names."""

    def box(found: re.Match) -> str:
        name = re.search(r"^:name: *(\S+)", found["text"] or "", re.MULTILINE)
        return (
            claim_box(rows[name[1]]) if found["fence"] and name and name[1] in rows else found[0]
        )

    return BLOCK.sub(box, text)


def parameters(declaration: Declaration, hosted: str = "") -> str:
    """The box under *Rerun this page*: the command, the parameters in two tables of three columns,
    and the notebook to take along; `hosted` is the address of the repository, if it has one."""
    name = declaration.chapter
    parts = [f"```bash\nqhlib run {name} --html   # this page again; changes: -p NAME=VALUE\n```"]
    how = ("seed", "effort", "dataset", "data_folder", "checkpoint_folder", "device")
    for title, run in (("The experiment", False), ("How it is run", True)):
        rows = [[title, "default, range", "meaning"]]
        for spec in declaration.specs:
            default = f"`{spec.default}`" if spec.default != "" else "empty"
            allowed = spec.allowed or spec.type.replace("str", "")
            if (spec.name in how) == run:
                rows.append([f"`{spec.name}`", f"{default} {allowed}".strip(), spec.help])
        lines = ["* - " + "\n  - ".join(row) for row in rows]
        head = "```{list-table}\n:header-rows: 1\n:widths: 34 30 36\n:class: parameters\n"
        parts += ["\n".join([head, *lines, "```"])] * (len(rows) > 1)
    rules = "; ".join(f"`{' '.join(relation)}`" for relation in declaration.relations)
    parts += [f"Together: {rules}."] * bool(rules)
    parts += [f"To take along: {{download}}`{name}.ipynb <{name}.ipynb>`, without outputs."]
    if hosted:
        get = f'%pip install "qhlib[book] @ git+{hosted}"'
        parts += [f"In Colab, run this first:\n\n```python\n{get}\n```"]
    return "\n\n".join(parts)


def counted(rows: list[dict]) -> str:
    """How many claims have which verdict, in words."""
    few = Counter(row["verdict"] for row in rows)
    return ", ".join(f"{VERDICTS[word]} {few[word]} {word}" for word in VERDICTS if few[word])


def verdicts(names: str, chapters: dict) -> str:
    """What became of the claims of some notebooks, `names` with blanks between them."""
    wanted = [f"notebooks/{name}" for name in names.split()]
    rows = [row for page, told in chapters.items() if page in wanted for row in told.claims]
    return counted(rows)


def badge(row: dict) -> str:
    return f"{{ref}}`{VERDICTS[row['verdict']]} {row['verdict']} <{row['anchor']}>`"


def scorecard(papers: str, chapters: dict, titles: dict) -> str:
    """The papers' own statements, then every claim by notebook, folded.

    `papers` is YAML: for each paper, by its key in the bibliography, its statements with the
    claims that try each, or the reason why nothing does. `chapters` are records by page, `titles`
    their titles. A claim that no notebook makes is an unresolved reference, which a strict build
    refuses.
    """
    rows = {row["id"]: row for told in chapters.values() for row in told.claims}
    parts = []
    for key, statements in (yaml.safe_load(papers) or {}).items():
        parts += [f"{{cite:t}}`{key}`\n"]
        for each in statements:
            tried = [
                badge(rows[i]) if i in rows else f"{{ref}}`{i}`" for i in each.get("claims", ())
            ]
            said = ", ".join(tried) or f"– not tried here: {each['untried']}"
            note = f" ({each['note']})" if "note" in each else ""
            parts += [f": {each['says']} {said}{note}\n"]
    counts = Counter(row["verdict"] for row in rows.values())
    parts += [f"## All {counts.total()} claims\n"]
    parts += [f"* {counts[word]} {VERDICTS[word]} **{word}**: {MEANING[word]}" for word in MEANING]
    for page, told in chapters.items():
        lines = [
            f"* {badge(row)} `{row['id']}`: {' '.join(row['statement'].split())}"
            f"<br>{sentence(numbers(row))}"
            for row in told.claims
        ]
        parts += [
            f"\n:::::::{{dropdown}} {titles[page]}: {counted(told.claims)}",
            *lines,
            ":::::::",
        ]
    return "\n".join(parts)


def status(chapters: dict, titles: dict) -> str:
    """What was executed, when, for how long, and with what."""
    lines, versions, machine = [], {}, {}
    code: dict[str, set] = {"commit": set(), "lock": set(), "threads": set()}
    for page, told in chapters.items():
        ran = told.finished or {}
        stamp = {**ran, "lock": ran.get("lock", {}).get("fingerprint")}
        for key, seen in code.items():
            seen |= {str(stamp[key])} if stamp.get(key) else set()
        versions |= ran.get("versions", {})
        machine |= ran.get("machine", {})
        date, seconds = ran.get("date", "–")[:16].replace("T", " "), ran.get("seconds", 0.0)
        lines.append(
            f"* [{titles[page]}]({page}.ipynb): {len(told.claims)} claims, {seconds:.1f} s, {date}"
        )
    stamps = {key: ", ".join(sorted(seen)) for key, seen in code.items() if seen}
    for title, facts in (("Versions", versions), ("Machine", machine), ("Code", stamps)):
        lines += [f"\n## {title}\n", *(f"* {name}: {value}" for name, value in facts.items())]
    return "\n".join(lines)
