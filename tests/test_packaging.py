"""pyproject.toml, environment.yml and the lock say the same, and the repository installs from
each."""

import re
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib", reason="the lock is for Python 3.11 and newer")

NAMED = {"jupyter-book", "jupyter", "torch", "matplotlib", "papermill", "seaborn"}
CUDA = re.compile(
    "nvidia|triton|cuda"
)  # libraries of torch's CUDA builds, which the CPU build has not
BOOK_MACHINERY = {"sphinx", "papermill", "jupyter-book", "myst-nb", "jupyter", "pydantic"}


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]


@pytest.fixture(scope="module")
def lock(root) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text("utf8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins), (
        "exact public versions only"
    )
    return {
        canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)
    }


@pytest.fixture(scope="module")
def environment(root):
    return yaml.safe_load((root / "environment.yml").read_text("utf8"))


def requirements(project, *extras) -> list[Requirement]:
    texts = [
        *project["dependencies"],
        *(r for e in extras for r in project["optional-dependencies"][e]),
    ]
    found = [Requirement(text) for text in texts]  # one extra may name another of this package
    return [each for each in found if each.name != "qhlib"]


def names(reqs) -> set[str]:
    return {canonicalize_name(r.name) for r in reqs}


def test_every_requirement_is_locked_within_its_bounds(project, lock):
    for req in requirements(project, "book", "sweep", "course", "test"):
        pinned = lock.get(canonicalize_name(req.name))
        assert pinned is not None, f"{req.name} is not in constraints.txt"
        assert req.specifier.contains(pinned), f"{req} excludes the locked {pinned}"


def test_the_lock_holds_neither_this_package_nor_the_installer(lock):
    assert not {"qhlib", "pip"} & set(lock)


def test_the_lock_is_closed(lock):
    """What a locked package needs is locked too, or an installation would not be the one that was
    tested."""
    missing = set()
    for name in lock:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # another platform's
        for req in map(Requirement, needs):
            wanted = req.marker is None or req.marker.evaluate({"extra": ""})
            if (
                wanted
                and canonicalize_name(req.name) not in {*lock, "pip"}
                and not CUDA.match(req.name)
            ):
                missing.add(f"{name} needs {req.name}")
    assert not missing


def test_numerics_alone_install_no_book_machinery(project):
    core = names(requirements(project))
    assert not core & BOOK_MACHINERY
    assert all(op.operator != "==" for req in requirements(project) for op in req.specifier), (
        "lower bounds only"
    )


def test_the_named_packages_are_named_in_both(project, environment):
    assert NAMED <= names(requirements(project, "book"))
    assert NAMED <= names(map(Requirement, plain_pip(environment)))


def pip_lines(environment) -> list[str]:
    return next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))


def plain_pip(environment) -> list[str]:
    return [line for line in pip_lines(environment) if not line.startswith("-")]


def test_environment_installs_this_project_under_the_lock(project, environment):
    lines = pip_lines(environment)
    assert "-c constraints.txt" in lines and "-e .[book,sweep]" in lines
    assert names(map(Requirement, plain_pip(environment))) <= names(requirements(project, "book"))
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    assert {"pip", "python=3.11"} == set(conda), (
        "Python alone comes from conda: the rest is pinned by the lock"
    )
    assert Requirement("python" + project["requires-python"]).specifier.contains("3.11")


def test_repo2docker_accepts_the_repository(root, tmp_path):
    pytest.importorskip("repo2docker")
    # A copy of the few files it reads: it walks the whole folder, .venv and _build too.
    for name in ("environment.yml", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((root / name).read_text("utf8"), "utf8")
    command = [
        sys.executable,
        "-m",
        "repo2docker",
        "--no-build",
        "--debug",
        "--user-id",
        "1000",
        "--user-name",
        "reader",
    ]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=120)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-2000:]
    assert "environment.yml" in told


def test_the_wheel_ships_the_chapters(root, tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    for path in (root / "notebooks").glob("*.ipynb"):
        assert f"qhlib/_book/notebooks/{path.name}" in inside
    assert not [n for n in inside if n.startswith(("tests/", "_ext/", "_build/"))]
    assert any(n.endswith("entry_points.txt") for n in inside)
