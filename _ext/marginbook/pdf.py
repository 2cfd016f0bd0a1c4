"""Prints the singlehtml build as one tagged PDF with an outline, by the Chromium of this machine.

Called by `make pdf`: ``python _ext/marginbook/pdf.py _build/singlehtml _build/book.pdf``
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main(folder: str, target: str) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    if browser_path is None:
        sys.exit("A PDF is printed by Chromium, and none is installed (Debian: apt-get install chromium).")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = browser.new_page()
        page.goto((Path(folder) / "index.html").resolve().as_uri())
        page.evaluate("async () => { await window.MathJax?.startup?.promise }")
        margins = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
        page.pdf(path=target, format="A4", margin=margins, tagged=True, outline=True, print_background=True)
        browser.close()
    print(f"==> the book as one file is {target}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
