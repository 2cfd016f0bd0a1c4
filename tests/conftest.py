"""What all tests share: where the repository is, and that tests of the site run one after another."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# One thread, as in the book: on small matrices more only cost.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Kernels and builds that a test starts find the package under test, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests under tests/site share one browser and a few builds: keep them in one worker of pytest-xdist."""
    for item in items:
        if (ROOT / "tests" / "site") in item.path.parents:
            item.add_marker(pytest.mark.site)
            item.add_marker(pytest.mark.xdist_group("site"))
