"""The command without a kernel: bad input gives status 2, one message, and writes nothing."""

import json
import os
import subprocess
import sys

import nbformat
import pytest

from qhlib.book import __all__ as exported
from qhlib.book.cli import main

BAD_PARAMETERS = {
    "misspelt": (["n_seds=2"], "did you mean n_seeds?"),
    "unknown": (["zzz=2"], "zzz: there is no such parameter"),
    "text for an int": (["seed=abc"], "seed: abc is not an int"),
    "float for an int": (["seed=1.5"], "seed: 1.5 is not an int"),
    "whole float for an int": (["seed=2.0"], "seed: 2.0 is not an int"),
    "bool for an int": (["seed=true"], "seed: True is not an int"),
    "nothing": (["seed="], "seed: '' is not an int"),
    "negative": (["seed=-1"], "seed: -1 is not an int in [0, 2147483647]"),
    "zero": (["n_seeds=0"], "n_seeds: 0 is not an int in [1, 64]"),
    "too large": (["n_seeds=65"], "n_seeds: 65 is not an int in [1, 64]"),
    "huge": (["seed=" + "9" * 100], "is not an int in"),
    "absurdly huge": (["seed=" + "9" * 5000], "is not an int"),
    "NaN": (["rate=nan"], "rate: nan is not a float in (0, inf)"),
    "infinite": (["rate=inf"], "rate: inf is not a float in (0, inf)"),
    "minus infinite": (["rate=-inf"], "rate: -inf is not a float in (0, inf)"),
    "overflow": (["rate=1e999"], "rate: inf is not a float in (0, inf)"),
    "open end": (["rate=0"], "rate: 0.0 is not a float in (0, inf)"),
    "comma": (["rate=0,5"], "rate: '0,5' is not a float"),
    "code for a float": (["rate=__import__('os').getcwd()"], "is not a float"),
    "code for an int": (["seed=2**3"], "seed: '2**3' is not an int"),
    "bool as a number": (["noisy=1"], "noisy: 1 is not true or false"),
    "bool as a word": (["noisy=yes"], "noisy: yes is not true or false"),
    "empty list": (["radii=[]"], "radii: [] is not a list of at least one float"),
    "entry out of range": (["radii=[0.5, 1.0]"], "radii[1]: 1.0 is not a float in (0, 1)"),
    "entry of text": (['radii=[0.5, "0.7"]'], "radii[1]: '0.7' is not a float"),
    "entry NaN": (["radii=[NaN]"], "radii[0]: nan is not a float"),
    "list without brackets": (["radii=0.5,0.7"], "is not a list of at least one float"),
    "number for a list": (["radii=0.5"], "is not a list of at least one float"),
    "nested list": (["radii=[[0.5]]"], "radii[0]: [0.5] is not a float"),
    "broken list": (["radii=[0.5"], "is not a list of at least one float"),
    "code for a list": (["radii=list(range(3))"], "is not a list of at least one float"),
    "dictionary": (['radii={"a": 1}'], "is not a list of at least one float"),
    "wrong choice": (["device=tpu"], "device: tpu is not a text in {cpu, cuda}"),
    "code for a choice": (['device=cpu"; import os #'], "device: "),
    "no value": (["seed"], "write it as -p name=value"),
    "no name": (["=3"], "write it as -p name=value"),
    "twice": (["seed=1", "seed=2"], "the parameter seed is set twice"),
    "several": (["n_seds=2", "rate=0"], "2 parameters of tiny_chapter cannot be used"),
}


LISTS = """\
rate: float = 0.5        # learning rate (0, inf)
radii: list[float] = [0.5]  # ball radii as a share of the distance (0, 1)
cases: list[str] = ["a"] # what is tried {a, b}
"""
IMAGES = """\
seed: int = 0  # first random seed [0, 2147483647]
dataset: str = "digits"  # images {digits, cifar10}
data_folder: str = ""  # folder with the official files
"""


def refused(arguments, words, capsys, workplace):
    """Status 2, exactly one message that holds `words`, and no file."""
    before = sorted(workplace.rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("qhlib: ") == 1 and err.startswith("qhlib: ")
    assert words in err and "Traceback" not in err
    assert sorted(workplace.rglob("*")) == before
    return err


@pytest.mark.parametrize("kind", BAD_PARAMETERS)
def test_bad_parameters_are_refused_before_a_kernel_starts(kind, tiny, capsys, workplace):
    texts, words = BAD_PARAMETERS[kind]
    options = [option for text in texts for option in ("-p", text)]
    err = refused(
        ["run", "tiny_chapter", *options, "-o", "out.ipynb", "--html"], words, capsys, workplace
    )
    assert len(err) < 600


def test_bad_runs_are_refused(tiny, capsys, workplace):
    (workplace / "there.ipynb").write_text("{}")
    (workplace / "page.html").write_text("")
    (workplace / "list.yaml").write_text("- 1")
    (workplace / "bad.yaml").write_text("n_seeds: [1")
    cases = [
        (["tiny_chaptr"], "did you mean tiny_chapter?"),
        (["a" * 300], "there is no chapter"),
        (["tiny_chapter", "-o", "a" * 300 + ".ipynb"], "cannot be written"),
        (["tiny_chapter", "-f", "none.yaml"], "-f none.yaml: "),
        (["tiny_chapter", "-f", "bad.yaml"], "-f bad.yaml: "),
        (["tiny_chapter", "-f", "list.yaml"], "one parameter a line"),
        (["nothing/here.ipynb"], "no notebook at nothing/here.ipynb"),
        (["there.ipynb"], "has no list of cells"),
        (["page.html"], "no valid JSON"),
        (["tiny_chapter", "--preset", "smoek"], "did you mean smoke?"),
        (["tiny_chapter", "-o", "missing/out.ipynb"], "cannot be written"),
        (["tiny_chapter", "-o", "."], "does not end in .ipynb"),
        (["tiny_chapter", "-o", "out.html"], "does not end in .ipynb"),
        (["tiny_chapter", "-o", "there.ipynb"], "--force"),
        (["tiny_chapter", "-o", "page.ipynb", "--html"], "--force"),
        (["tiny_chapter", "-o", str(tiny), "--force"], "holds the book's chapters"),
        (["tiny_chapter", "-o", str(tiny.parent / "out.ipynb")], "holds the book's chapters"),
    ]
    for arguments, words in cases:
        refused(["run", *arguments], words, capsys, workplace)


def test_missing_images_are_refused_before_a_kernel_starts(
    write_chapter, capsys, workplace, monkeypatch
):
    write_chapter(parameters=IMAGES)
    (workplace / "data_batch_1.bin").write_bytes(b"x")
    for words, folder in {
        "it is not, or not all of it, in": "nowhere",
        "lacks data_batch_2.bin": workplace,
    }.items():
        options = ["-p", "dataset=cifar10", "-p", f"data_folder={folder}", "-o", "out.ipynb"]
        refused(["run", "tiny_chapter", *options], words, capsys, workplace)
    refused(
        ["run", "tiny_chapter", "-p", "dataset=mnist"], "mnist is not a text in", capsys, workplace
    )
    # without a folder they would be downloaded: a cache that is a file ends that before any
    # network is asked
    monkeypatch.setenv("QHLIB_DATA", str(workplace / "data_batch_1.bin"))
    assert main(["run", "tiny_chapter", "-p", "dataset=cifar10"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "dataset: cifar10 cannot be read" in message and "cifar-10-binary.tar.gz" in message
    assert [path.name for path in workplace.iterdir()] == ["data_batch_1.bin"]


def test_parameters_come_from_a_file_and_p_wins(write_chapter, workplace, monkeypatch):
    from qhlib.book import running

    runs = []
    monkeypatch.setattr(running, "execute", lambda book, values, *rest: runs.append(values))
    write_chapter(parameters=LISTS)
    (workplace / "a file.yaml").write_text("rate: 1e-3\nradii: [0.5]\ncases: [a, b]\n", "utf8")
    (workplace / "a.json").write_text('\ufeff{"rate": 0.25, "cases": ["a"]}', "utf8")
    assert main(["run", "tiny_chapter", "-f", "a file.yaml", "-p", "radii=[0.7, 0.9]"]) == 0
    assert main(["run", "tiny_chapter", "-f", "a.json"]) == 0
    assert runs == [
        {"rate": 0.001, "radii": [0.7, 0.9], "cases": ["a", "b"]},
        {"rate": 0.25, "radii": [0.5], "cases": ["a"]},
    ]


@pytest.mark.parametrize("text", ["['a','b']", '["a", "b"]', "[a,b]", "[ a , b ]", "a,b"])
def test_lists_of_texts_from_any_shell(text, write_chapter, workplace):
    """bash and zsh keep what is quoted; PowerShell takes double quotes away, cmd leaves single."""
    from qhlib.book.cli import assignments
    from qhlib.book.declaration import parse_cell

    assert assignments([f"cases={text}"], parse_cell("a", LISTS)) == {"cases": ["a", "b"]}


def test_the_hint_for_a_list_fits_its_entries(write_chapter, workplace, capsys):
    write_chapter(parameters=LISTS)
    words = "write -p cases=[a,b] (papermill: -y 'cases: [a,b]')"
    refused(["run", "tiny_chapter", "-p", "cases=[]"], words, capsys, workplace)
    refused(["run", "tiny_chapter", "-p", "cases=[c]"], "c is not a text in", capsys, workplace)


def test_a_fault_of_the_program_is_no_verdict(tiny, workplace, capsys, monkeypatch):
    from qhlib.book import cli

    monkeypatch.setattr(cli, "find_chapter", lambda name: 1 / 0)
    assert main(["describe", "tiny_chapter"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err and "ZeroDivisionError('division by zero') is a fault of" in err


def test_without_the_extras_a_sentence_says_what_to_install(tiny, workplace, capsys, monkeypatch):
    for module in ("papermill", "yaml"):
        monkeypatch.setitem(sys.modules, module, None)
    for extra in ([], ["-f", "any.yaml"]):
        assert main(["run", "tiny_chapter", "-o", "out.ipynb", *extra]) == 2
        err = capsys.readouterr().err
        assert "is not installed" in err and "pip install 'qhlib[book]'" in err
        assert "Traceback" not in err
    assert not list(workplace.iterdir())
    for arguments in (["list"], ["describe", "tiny_chapter"]):
        assert main(arguments) == 0


@pytest.mark.parametrize("module", ["distributed", "filelock", "pyarrow"])
def test_without_what_sweeps_need_a_sentence_says_so(module, tiny, workplace, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["sweep", "tiny_chapter", "--grid", "seed=1", "-o", "out"]) == 2
    assert f"{module} is not installed, and this command" in (err := capsys.readouterr().err)
    assert "pip install 'qhlib[book,sweep]'" in err and not list(workplace.iterdir())


def test_one_bad_file_ends_nothing(tiny, workplace, capsys):
    (tiny.parent / "damaged.ipynb").write_text("{")
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert "tiny_chapter" in out and "damaged.ipynb is not a notebook" in err
    row = {"name": "one", "predicted": 1, "measured": 1, "tolerance": 0, "verdict": "reproduced"}
    row |= {"relation": "=", "relative": False, "entries": 1, "outside": ""}
    data = {"application/vnd.qhlib.claim+json": row | {"expected_deviation": ""}}
    notebook = nbformat.read(tiny, 4)
    notebook.cells[-2].outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(notebook, "good.ipynb")
    assert main(["claims", "missing.ipynb", "good.ipynb", "--json"]) == 2
    out, err = capsys.readouterr()
    assert [row["file"] for row in json.loads(out)] == ["good.ipynb"]
    assert "cannot read missing.ipynb" in err


def test_a_console_with_an_old_code_page_is_no_fault(tiny, workplace):
    for encoding in ("cp1252", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "qhlib.book.cli", "describe", str(tiny)],
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
            capture_output=True,
        )
        assert done.returncode == 0 and not done.stderr


def test_a_foreign_folder_of_notebooks_beside_the_package_is_not_listed(tmp_path, monkeypatch):
    from qhlib.book import notebook

    monkeypatch.delenv("QHLIB_NOTEBOOKS", raising=False)
    (tmp_path / "site-packages" / "notebooks").mkdir(parents=True)
    fake = tmp_path / "site-packages" / "qhlib" / "book" / "notebook.py"
    monkeypatch.setattr(notebook, "__file__", str(fake))
    assert notebook.chapter_directories() == []


def test_a_badly_declared_chapter_is_refused(write_chapter, capsys, workplace):
    write_chapter(parameters="seed: int = 0")
    refused(
        ["run", "tiny_chapter"],
        "tiny_chapter: parameters cell, line 'seed: int = 0'",
        capsys,
        workplace,
    )
    write_chapter(parameters="seed: int = -1  # first seed [0, 9]")
    refused(["run", "tiny_chapter"], "the default values", capsys, workplace)


def test_files_without_claims_are_refused(tiny, capsys, workplace):
    (workplace / "text.ipynb").write_text("no JSON")
    nbformat.write(nbformat.v4.new_notebook(), workplace / "empty.ipynb")
    cases = [
        ("missing.ipynb", "No such file"),
        ("text.ipynb", "no valid JSON"),
        ("empty.ipynb", "no claims"),
    ]
    for name, words in [
        *cases,
        (str(tiny), "it has not been executed"),
        (str(workplace), "Is a directory"),
    ]:
        refused(["claims", name], words, capsys, workplace)


def test_a_broken_command_line_has_status_2(workplace, capsys):
    for arguments in [[], ["fly"], ["run"], ["claims"], ["run", "a", "--unknown"]]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2 and "usage: qhlib" in capsys.readouterr().err


def test_list_and_describe(tiny, capsys):
    assert main(["list"]) == 0
    assert "tiny_chapter" in capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == "tiny_chapter")
    assert row["title"] == "A tiny chapter"
    for name in ("tiny_chapter", "tiny_chapter.ipynb", str(tiny)):
        assert main(["describe", name, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in found["parameters"]][:2] == ["seed", "n_seeds"]
        assert found["presets"]["smoke"] == {"effort": "smoke"}
    assert main(["describe", "tiny_chapter"]) == 0
    out = capsys.readouterr().out
    assert (
        "radii: list[float] in (0, 1), default [0.55, 0.7, 0.9]" in out
        and "book: the default values" in out
    )


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out.startswith("qhlib 0.")


def test_papermills_help_lists_every_parameter(tiny):
    from click.testing import CliRunner
    from papermill.cli import papermill

    shown = CliRunner().invoke(papermill, ["--help-notebook", str(tiny)]).output
    for text in (
        "seed: int (default 0)",
        "radii: list[float]",
        "ball radii as a share of the distance (0, 1)",
    ):
        assert text in shown


def test_every_exported_name_exists():
    import qhlib.book

    assert all(getattr(qhlib.book, name) for name in exported)
