"""The chapter's object, outside of a kernel: claims, tables, the end."""

import subprocess
import sys

import pytest

from qhlib.book.chapter import injected_names, open_chapter
from qhlib.book.errors import ChapterError, ParameterError

IMAGES = """\
seed: int = 0  # first random seed [0, 2147483647]
n_seeds: int = 4  # runs stacked side by side [1, 64]
radii: list[float] = [0.5]  # ball radii (0, 1)
dataset: str = "digits"  # real images {digits, fashion_mnist, cifar10}
data_folder: str = ""  # folder with the official files
"""
ARGUMENTS = {"source": "s", "basis": "derived", "tolerance": 0.1, "tolerance_from": "t"}


@pytest.fixture
def chapter(tiny):
    return open_chapter("tiny_chapter", {})


def test_defaults_are_the_books_parameters(tiny):
    namespace = {"seed": 0, "rate": 0.5}
    assert open_chapter("tiny_chapter", namespace).at_book_parameters
    assert namespace["n_seeds"] == 4
    changed = open_chapter("tiny_chapter", {"seed": 1, "rate": 2})
    assert not changed.at_book_parameters
    assert changed.parameters["rate"] == 2.0 and type(changed.parameters["rate"]) is float


def test_wrong_and_unknown_parameters_are_named_together(tiny):
    cell = "# Parameters\nn_sed = 3\nrate = -1.0\n"
    with pytest.raises(ParameterError) as caught:
        open_chapter("tiny_chapter", {"rate": -1.0, "n_sed": 3, "In": ["", "x = 1", cell]})
    message = str(caught.value)
    assert "n_sed: there is no such parameter; did you mean n_seeds?" in message
    assert "rate: -1.0 is not in (0, inf)" in message
    assert caught.value._render_traceback_() == [f"ParameterError: {message}"]


def test_names_of_the_readers_own_cells_are_not_parameters(tiny):
    open_chapter("tiny_chapter", {"x": 1, "In": ["", "x = 1"]})
    assert injected_names(["# Parameters\nif:"]) == []


def test_a_missing_cuda_device_is_said_before_anything_is_computed(tiny, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="device: 'cuda' is not available here"):
        open_chapter("tiny_chapter", {"device": "cuda"})


def test_images_that_cannot_be_had_are_said_before_anything_is_computed(write_chapter, tmp_path):
    write_chapter(parameters=IMAGES)
    missing = {"dataset": "cifar10", "data_folder": str(tmp_path / "missing")}
    with pytest.raises(ParameterError, match="dataset: cifar10 cannot be read: .*missing") as caught:
        open_chapter("tiny_chapter", missing)
    assert len(caught.value._render_traceback_()) == 1
    with pytest.raises(ParameterError, match="digits come with scikit-learn"):
        open_chapter("tiny_chapter", {"data_folder": str(tmp_path)})
    assert open_chapter("tiny_chapter", {}).parameters["dataset"] == "digits"


def test_unknown_chapters_are_answered_with_the_nearest(tiny):
    with pytest.raises(ChapterError, match="no chapter 'tiny_chaptr'; did you mean tiny_chapter"):
        open_chapter("tiny_chaptr", {})


def test_claim_ids_carry_the_prefix_and_are_used_once(chapter, capsys):
    claim = chapter.claim("one", "s", predicted=1, measured=1, **ARGUMENTS)
    assert claim.id == "tiny/one"
    assert "tiny/one" in capsys.readouterr().out
    with pytest.raises(ValueError, match="claim tiny/one was made before"):
        chapter.claim("one", "s", predicted=1, measured=1, **ARGUMENTS)


def test_the_end_comes_after_a_table_of_all_claims(chapter, capsys):
    chapter.claim("one", "s", predicted=1, measured=1, **ARGUMENTS)
    with pytest.raises(ChapterError, match="must come after these claims: tiny/one"):
        chapter.finish()
    chapter.claims_table()
    chapter.claim("two", "s", predicted=1, measured=1, **ARGUMENTS)
    with pytest.raises(ChapterError, match="tiny/two"):
        chapter.finish()
    chapter.claims_table()
    chapter.finish()
    assert "tiny_chapter ran to its end in" in capsys.readouterr().out


def test_the_parameter_table_names_every_parameter_and_preset(chapter):
    from qhlib.book.tables import parameters_html

    html = parameters_html(chapter._declaration)
    for name in (*chapter.parameters, "smoke", "book", "paper"):
        assert f"<code>{name}</code>" in html
    assert "[0, 2147483647]" in html and "ball radii as a share of the distance" in html


RERUN = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
make = "chapter.claim('one', 's', source='s', basis='derived', predicted=1, measured=1, tolerance=0, "
make += "tolerance_from='t')"
start = "import qhlib.book; chapter = qhlib.book.open_chapter('tiny_chapter', globals())"
shell.run_cell(start, store_history=True)
for cell in (make, make, make + "  # another cell", "\\n".join(2 * [make.replace("one", "two")])):
    error = shell.run_cell(cell, store_history=True).error_in_exec
    print("\\n" + type(error).__name__)
print(sorted(shell.user_ns["chapter"].claims))
"""


def test_a_cell_that_is_run_again_replaces_its_claims(tiny):
    done = subprocess.run([sys.executable, "-c", RERUN], capture_output=True, text=True, check=True)
    kinds = [line for line in done.stdout.splitlines() if line in ("NoneType", "ValueError")]
    assert kinds == ["NoneType", "NoneType", "ValueError", "ValueError"]
    assert done.stdout.splitlines()[-1] == "['tiny/one', 'tiny/two']"
