"""One zip of what can be taken away: the pages, their slides, a PDF, the claims as data. Standard
library only; ``make dist`` calls it when all of it is built.

Conventions: everything lies in one folder that is named after the version. The same files make the
same zip, to the bit: names are sorted, times fixed. It is renamed into its place when it is whole.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
# what reveal.js brings for other slides than ours, sources a second time, what only Sphinx reads
LEFT_OUT = re.compile(
    r"/revealjs/(plugin|css)/|^slides/_sources/|\.map$|\.esm\.js$|\.buildinfo$|objects\.inv$"
)


def commit(root: Path) -> str:
    """The commit of the sources, and whether they differ from it."""
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "not known"


def contents(root: Path, pdf: Path | None) -> dict[str, bytes | Path]:
    """What the zip holds, by the names inside."""
    version = re.search(r'^version = "(.+)"', (root / "pyproject.toml").read_text("utf8"), re.M)[1]
    facts = {"version": version, "commit": commit(root)}
    files: dict[str, bytes | Path] = {}
    for readme, text in (("README.md", "dist.md"), ("claims/README.md", "claims.md")):
        files[readme] = (HERE / text).read_text("utf8").format(**facts).encode()
    for kind in ("csv", "json"):
        files[f"claims/claims.{kind}"] = root / "_build" / "html" / f"scorecard.{kind}"
    for name in ("LICENSE", "CITATION.cff"):
        files[name] = root / name
    if pdf:
        files["book.pdf"] = pdf
    for part in ("html", "slides"):
        for path in (root / "_build" / part).rglob("*"):
            name = path.relative_to(root / "_build").as_posix()
            if path.is_file() and not LEFT_OUT.search(name):
                files[name] = path
    return {f"margins-in-motion-{version}/{name}": files[name] for name in sorted(files)}


def write(files: dict[str, bytes | Path], folder: Path) -> Path:
    """Write the zip into `folder`; returns where it is."""
    folder.mkdir(exist_ok=True)
    target = folder / f"{next(iter(files)).split('/')[0]}.zip"
    draft = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name)  # the first moment of 1980
                entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
                data = content if isinstance(content, bytes) else content.read_bytes()
                archive.writestr(entry, data)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return target


if __name__ == "__main__":
    root = HERE.parents[1]
    made = write(contents(root, Path(sys.argv[1]) if sys.argv[1:] else None), root / "dist")
    note = "" if sys.argv[1:] else ", without a PDF"
    print(f"==> {made.relative_to(root)}: {made.stat().st_size / 1e6:.1f} MB{note}")
