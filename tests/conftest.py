"""What all tests share: where the repository is, and which tests are about the site.

Parallel runs hand out tests as workers get free (`--dist worksteal`), in the order of the files as
far as can be: a file shares its builds and its browser.
"""

import os
import shutil
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
# One thread, as in the book: on small matrices more only cost.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Kernels and builds that a test starts find the package under test, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
sys.path[:0] = [str(ROOT), str(ROOT / "_ext")]
# No test may need an idle machine: an example that is late is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def find_chromium() -> str:
    """Path of the browser; without one the test is skipped, or fails where one is required."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        lacking = "no Chromium is installed (apt-get install chromium): no page was looked at"
        if os.environ.get("QHLIB_REQUIRE_CHROMIUM") == "1":
            pytest.fail(lacking)
        pytest.skip(lacking)
    return path


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def pytest_collection_modifyitems(items):
    """Tests under tests/site can be left out with `-m "not site"`: they build books and start a
    browser."""
    for item in items:
        if (ROOT / "tests" / "site") in item.path.parents:
            item.add_marker(pytest.mark.site)
