"""The image loader: tiny archives made here in the official formats, faults of every kind, a
server on loopback.

The tests on real records at the end run where there are some; nothing else depends on them.
"""

import functools
import gzip
import hashlib
import os
import pickle
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from qhlib import images
from qhlib.images import ImagesError, load, require

LAYOUTS = ("binary", "python 2", "python 3")


# --- tiny sets in the official formats -----------------------------------------------------------


def records(n, seed):
    """n random CIFAR-10 images, as bytes (n, 3072), and their labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072), np.uint8), rng.integers(0, 10, n).astype(np.uint8)


def python2_pickle(X, y):
    """A batch byte for byte as Python 2 and NumPy 1 wrote it: protocol 2, 8-bit strings, old names
    of modules."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(b"J" + struct.pack("<i", k) for k in X.shape) + b"\x86"
    data = b"T" + struct.pack("<i", X.size) + X.tobytes()
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in y) + b"e"
    name = b"U\x0bbatch_labelU\x04fakeU\x09filenames](U\x05a.pnge"
    return (
        b"\x80\x02}(U\x04data"
        + array
        + b"(K\x01"
        + shape
        + dtype
        + b"\x89"
        + data
        + b"tbU\x06labels"
        + labels
        + name
        + b"u."
    )


def batch_bytes(layout, X, y):
    if layout == "binary":
        return np.column_stack([y, X]).tobytes()
    if layout == "python 2":
        return python2_pickle(X, y)
    return pickle.dumps({b"data": X, b"labels": [int(label) for label in y]}, protocol=2)


def write_cifar(home, layout="binary", counts=(3, 1, 4, 2, 5, 6)):
    """Six batches in the folder `home`; returns the images and labels of all of them, in order."""
    home.mkdir(parents=True, exist_ok=True)
    ending = ".bin" if layout == "binary" else ""
    parts = [records(n, seed) for seed, n in enumerate(counts)]
    for name, (X, y) in zip(images.BATCHES, parts, strict=True):
        (home / f"{name}{ending}").write_bytes(batch_bytes(layout, X, y))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def write_archive(home, layout, monkeypatch):
    """An archive as the official one, its checksum put in the place of the published."""
    name = "cifar-10-binary.tar.gz" if layout == "binary" else "cifar-10-python.tar.gz"
    _, folder, ending = images.CIFAR10[name]
    X, y = write_cifar(home / "parts" / folder, layout)
    with tarfile.open(home / name, "w:gz") as tar:
        tar.add(home / "parts" / folder, folder)
    for path in (home / "parts" / folder).iterdir():
        path.unlink()
    monkeypatch.setitem(images.CIFAR10, name, (md5((home / name).read_bytes()), folder, ending))
    return X, y


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(struct.pack(">i", k) for k in array.shape)
        + array.tobytes()
    )


def write_fashion(home, n=(5, 3)):
    """The four files, as excerpts with n records; returns them as bytes by name."""
    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    written = {}
    for split, count in zip(("train", "t10k"), n, strict=True):
        X, y = (
            rng.integers(0, 256, (count, 28, 28), np.uint8),
            rng.integers(0, 10, count).astype(np.uint8),
        )
        written[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(idx(X))
        written[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx(y))
    for name, data in written.items():
        (home / name).write_bytes(data)
    return written


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No test sees this machine's data or network: an empty cache, no system folder, no server."""
    monkeypatch.setenv("QHLIB_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_SYSTEM", {})
    monkeypatch.setattr(images, "_URL", dict.fromkeys(images._URL, "http://127.0.0.1:9/"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# --- what is loaded ------------------------------------------------------------------------------


def test_digits_are_scikit_learns_split_once_for_all():
    X, y = load_digits(return_X_y=True)
    digits = load("digits")
    rows = torch.cat([digits.X_train, digits.X_test]).flatten(1) * 16
    labelled = np.column_stack([rows.numpy(), torch.cat([digits.y_train, digits.y_test]).numpy()])
    assert sorted(map(tuple, labelled)) == sorted(map(tuple, np.column_stack([X, y])))
    assert digits.X_train.shape == (1300, 1, 8, 8) and digits.X_test.shape == (497, 1, 8, 8)
    assert digits.X_train.dtype == torch.float32 and digits.y_train.dtype == torch.int64
    # each class in its share, within four standard deviations of a random split
    expected = np.bincount(y) * 1300 / 1797
    assert (
        np.abs(np.bincount(digits.y_train.numpy()) - expected) < 4 * np.sqrt(expected * 0.28)
    ).all()
    # the split is part of the published numbers: it must never change
    assert digits.y_test[:12].tolist() == [int(y[k * 1111 % 1797]) for k in range(1300, 1312)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", [True, False], ids=["unpacked", "the folder itself"])
def test_cifar_from_a_folder_with_any_number_of_whole_records(layout, inside, tmp_path):
    home = tmp_path / ("cifar-10-batches-bin" if layout == "binary" else "cifar-10-batches-py")
    X, y = write_cifar(home, layout)
    found = load("cifar10", tmp_path if inside else home)
    assert found.X_train.shape == (15, 3, 32, 32) and found.X_test.shape == (6, 3, 32, 32)
    assert torch.equal(
        torch.cat([found.X_train, found.X_test]).flatten(1), torch.from_numpy(X).float() / 255
    )
    assert torch.cat([found.y_train, found.y_test]).tolist() == y.tolist()
    assert found.classes[:3] == ("airplane", "automobile", "bird")


@pytest.mark.parametrize("layout", ["binary", "python 2"])
def test_cifar_from_an_archive_that_stays_packed(layout, tmp_path, monkeypatch):
    X, y = write_archive(tmp_path, layout, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    require("cifar10", tmp_path)
    found = load("cifar10", str(tmp_path))
    assert torch.equal(found.X_train.flatten(1), torch.from_numpy(X[:15]).float() / 255)
    assert found.y_test.tolist() == y[15:].tolist()
    assert sorted(tmp_path.rglob("*")) == before


def test_fashion_mnist_from_a_folder_from_the_cache_and_from_the_system(tmp_path, monkeypatch):
    written = write_fashion(tmp_path / "here")
    found = load("fashion_mnist", tmp_path / "here")
    raw = gzip.decompress(written["train-images-idx3-ubyte.gz"])[16:]
    expected = torch.frombuffer(bytearray(raw), dtype=torch.uint8).float() / 255
    assert torch.equal(found.X_train.flatten(), expected) and found.X_test.shape == (3, 1, 28, 28)
    assert found.y_test.tolist() == list(gzip.decompress(written["t10k-labels-idx1-ubyte.gz"])[8:])
    monkeypatch.setattr(images, "_SYSTEM", {"fashion_mnist": tmp_path / "here"})
    assert torch.equal(load("fashion_mnist").X_train, found.X_train)
    write_fashion(
        images.cache() / "fashion_mnist", n=(2, 2)
    )  # what the user keeps comes before the system's
    assert len(load("fashion_mnist").y_train) == 2


def test_a_selection_of_classes_and_of_the_first_images():
    whole = load("digits")
    some = load("digits", classes=(8, 3), n_train=20, n_test=7)
    keep = (whole.y_train == 8) | (whole.y_train == 3)
    assert torch.equal(some.X_train, whole.X_train[keep][:20])
    assert some.y_train.tolist() == [0 if label == 8 else 1 for label in whole.y_train[keep][:20]]
    assert some.classes == ("8", "3") and len(some.y_test) == 7
    assert len(load("digits", n_train=10**6).y_train) == 1300  # at most


@pytest.mark.parametrize(
    "selection",
    [
        {"classes": ()},
        {"classes": (1, 1)},
        {"classes": (0, 10)},
        {"classes": (-1,)},
        {"n_train": 0},
    ],
)
def test_selections_without_sense_are_refused(selection):
    with pytest.raises(ImagesError, match="give "):
        load("digits", **selection)


def test_a_class_without_a_record_is_refused(tmp_path):
    _, y = write_cifar(tmp_path, counts=(1, 1, 1, 1, 1, 1))
    absent = next(label for label in range(10) if label not in y)
    with pytest.raises(ImagesError, match="more records"):
        load("cifar10", tmp_path, classes=(absent,))


def test_the_check_before_a_run_does_not_load_torch(tmp_path):
    write_cifar(tmp_path)
    code = (
        f"import sys; from qhlib.images import require; require('cifar10', {str(tmp_path)!r});"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


# --- what is refused -----------------------------------------------------------------------------


def refused(name, folder, *words):
    """`load` and `require` refuse with one message that holds `words` and says what to do."""
    for function in (load, require):
        with pytest.raises(ImagesError) as caught:
            function(name, folder)
        message = str(caught.value)
        for word in (*words, "data_folder", "digits", str(folder)):
            assert str(word) in message
        assert "\n" not in message and caught.value.__suppress_context__
    return message


def test_what_is_not_there(tmp_path):
    refused(
        "cifar10",
        tmp_path,
        "cifar-10-binary.tar.gz",
        "cifar-10-python.tar.gz",
        images._URL["cifar10"],
    )
    refused(
        "fashion_mnist", tmp_path / "nowhere", "t10k-labels-idx1-ubyte.gz", "dataset-fashion-mnist"
    )
    (tmp_path / "a_file").touch()
    refused("cifar10", tmp_path / "a_file")
    write_fashion(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    refused("fashion_mnist", tmp_path, "not all of it")
    for layout in ("binary", "python 2"):
        home = tmp_path / layout
        write_cifar(home, layout)
        next(home.glob("data_batch_4*")).unlink()
        refused("cifar10", home, "lacks data_batch_4")
    with pytest.raises(ImagesError, match="choose digits, fashion_mnist or cifar10"):
        load("mnist")
    with pytest.raises(ImagesError, match="scikit-learn"):
        require("digits", tmp_path)


def test_an_archive_with_another_checksum(tmp_path, monkeypatch):
    write_archive(tmp_path, "binary", monkeypatch)
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:-1])  # truncated
    refused("cifar10", tmp_path, path, "truncated", "MD5", "delete")
    path.write_bytes(b"<html>Please sign in</html>")
    refused("cifar10", tmp_path, path, "another file")


@pytest.mark.parametrize(
    ("layout", "fault", "word"),
    [
        ("binary", lambda raw: raw[:-1], "whole records"),
        ("binary", lambda raw: b"", "whole records"),
        ("binary", lambda raw: bytes([10]) + raw[1:], "label is 10"),
        ("python 2", lambda raw: raw[:-500], "no CIFAR-10 batch"),
        ("python 2", lambda raw: b"", "no CIFAR-10 batch"),
        ("python 2", lambda raw: raw.replace(b"u1K", b"i1K"), "int8 data"),
        ("python 2", lambda raw: batch_bytes("python 2", *records(0, 0)), "0 labels"),
        ("python 3", lambda raw: pickle.dumps([1, 2]), "no CIFAR-10 batch"),
        (
            "python 3",
            lambda raw: batch_bytes("python 3", records(3, 0)[0], [1, 2]),
            "for 2 labels",
        ),
        (
            "python 3",
            lambda raw: batch_bytes("python 3", records(2, 0)[0], [1, 77]),
            "label is 77",
        ),
        (
            "python 3",
            lambda raw: batch_bytes("python 3", records(2, 0)[0], [1, -1]),
            "label is -1",
        ),
    ],
)
def test_damaged_batches(layout, fault, word, tmp_path):
    write_cifar(tmp_path, layout)
    path = next(tmp_path.glob("data_batch_2*"))
    path.write_bytes(fault(path.read_bytes()))
    refused("cifar10", tmp_path, word)


@pytest.mark.parametrize(
    ("file", "fault", "word"),
    [
        ("train-images-idx3-ubyte.gz", lambda raw: raw[: len(raw) // 2], "truncated"),
        ("train-labels-idx1-ubyte.gz", lambda raw: raw[:-1], "truncated"),
        ("train-labels-idx1-ubyte.gz", lambda raw: b"", "whole records"),
        ("t10k-images-idx3-ubyte.gz", lambda raw: b"PK" + raw[2:], "damaged"),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
            "damaged",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda raw: gzip.compress(gzip.decompress(raw)[:-1]),
            "whole records",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda raw: gzip.compress(gzip.decompress(raw) + b"x"),
            "whole records",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            lambda raw: gzip.compress(idx(np.arange(4, dtype=np.uint8))),
            "4 labels",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            lambda raw: gzip.compress(idx(np.array([1, 2, 10], np.uint8))),
            "label is 10",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            lambda raw: gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))),
            "whole",
        ),
        (
            "train-images-idx3-ubyte.gz",
            lambda raw: gzip.compress(idx(np.zeros((5, 8, 8), np.uint8))),
            "whole",
        ),
    ],
)
def test_damaged_files_of_fashion_mnist(file, fault, word, tmp_path):
    write_fashion(tmp_path)
    (tmp_path / file).write_bytes(fault((tmp_path / file).read_bytes()))
    refused("fashion_mnist", tmp_path, word)


def test_the_other_mnist_under_the_same_names_is_noticed(tmp_path, monkeypatch):
    write_fashion(tmp_path)
    known = images.FASHION_MNIST["train-images-idx3-ubyte.gz"]
    monkeypatch.setitem(
        images.FASHION_MNIST, "train-images-idx3-ubyte.gz", (*known[:2], 5)
    )  # 5 is official now
    refused("fashion_mnist", tmp_path, "another file", known[1])


class Command:
    """Pickled, it asks its reader to run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_no_pickle_is_obeyed(tmp_path):
    home, trace = tmp_path / "data", tmp_path / "trace"
    hostile = {
        "a call": pickle.dumps({b"data": Command(trace)}, protocol=2),
        "a call in a list": pickle.dumps([[Command(trace)]], protocol=4),
        "eval": f"cbuiltins\neval\n(S'open({str(trace)!r}, \"w\")'\ntR.".encode(),
        "a hidden attribute": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.__new__\x93.",
        "an extension": b"\x80\x02\x82\x01.",
        "an encoding that imports": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a"
        b"X\x03\x00\x00\x00hex\x86R.",
        "an array of objects": pickle.dumps({b"data": np.array([{}]), b"labels": [1]}, protocol=2),
        "a subclass": pickle.dumps(
            {b"data": np.ma.zeros((1, 3072), "u1"), b"labels": [1]}, protocol=2
        ),
        "an array larger than its data": python2_pickle(*records(2, 0)).replace(
            b"J" + struct.pack("<i", 3072), b"J" + struct.pack("<i", 2**31 - 1)
        ),
        "no end": b"\x80\x02" + b"(" * 10**5,
    }
    for data in hostile.values():
        write_cifar(home, "python 2")
        (home / "test_batch").write_bytes(data)
        refused("cifar10", home, "test_batch")
    assert not trace.exists()


# --- downloads, from a server on this machine ----------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves `content` by name; `fault` is "", "truncated", "other", "missing" or "stalls"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.fault, self.asked, self.release = {}, "", [], threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, server = self.path.strip("/"), self.server
        server.asked.append(name)
        data = server.content.get(name)
        if data is None or server.fault == "missing":
            return self.send_error(404)
        body = b"x" * len(data) if server.fault == "other" else data
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(
            body[: len(body) // 2] if server.fault in ("truncated", "stalls") else body
        )
        self.wfile.flush()
        if server.fault == "stalls":
            server.release.wait(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as running:
        threading.Thread(
            target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        monkeypatch.setattr(images, "_URL", dict.fromkeys(images._URL, running.url))
        yield running
        running.release.set()
        running.shutdown()


@pytest.fixture
def cifar_server(server, tmp_path, monkeypatch):
    write_archive(tmp_path, "binary", monkeypatch)
    server.content["cifar-10-binary.tar.gz"] = (tmp_path / "cifar-10-binary.tar.gz").read_bytes()
    return server


def cached():
    return sorted(path.name for path in images.cache().rglob("*") if path.is_file())


def test_cifar_is_downloaded_once_with_a_progress_bar(cifar_server, capfd):
    require("cifar10")
    bar = capfd.readouterr().err
    assert bar.startswith("\rcifar-10-binary.tar.gz:   0%|") and "B/s]" in bar
    assert len(load("cifar10").y_train) == 15
    assert cifar_server.asked == ["cifar-10-binary.tar.gz"] and cached() == cifar_server.asked
    assert capfd.readouterr() == ("", "")


def test_nothing_is_fetched_unless_asked(cifar_server, tmp_path):
    with pytest.raises(ImagesError, match="not all of it"):
        load("cifar10", download=False)
    refused("cifar10", tmp_path / "empty")  # a folder that the user names is the only place
    assert cifar_server.asked == [] and not images.cache().exists()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("truncated", "the connection broke off"),
        ("other", "wrong checksum"),
        ("missing", "answered 404"),
    ],
)
def test_a_failed_download_leaves_nothing_and_the_next_one_works(fault, word, cifar_server):
    cifar_server.fault = fault
    with pytest.raises(ImagesError) as caught:
        load("cifar10")
    message = str(caught.value)
    for words in (word, cifar_server.url, str(images.cache() / "cifar10"), "data_folder"):
        assert words in message
    assert cached() == []
    cifar_server.fault = ""
    assert len(load("cifar10").y_train) == 15


def test_without_a_network(monkeypatch, tmp_path):
    with pytest.raises(ImagesError, match="no connection to the server"):
        load("cifar10")  # nobody listens there
    assert cached() == []
    (tmp_path / "occupied").touch()
    monkeypatch.setenv("QHLIB_DATA", str(tmp_path / "occupied"))
    with pytest.raises(ImagesError, match="occupied"):  # the cache cannot be written
        load("fashion_mnist")


def test_fashion_mnist_is_never_half_there(server, tmp_path, monkeypatch):
    server.content = write_fashion(tmp_path)
    for name, data in server.content.items():
        monkeypatch.setitem(
            images.FASHION_MNIST, name, (md5(data), *images.FASHION_MNIST[name][1:])
        )
    third = list(images.FASHION_MNIST)[2]
    kept = server.content.pop(third)
    with pytest.raises(ImagesError, match=f"{third} failed: the server answered 404"):
        load("fashion_mnist")
    server.content[third] = kept
    assert len(load("fashion_mnist").y_train) == 5
    assert sorted(server.asked) == sorted(
        [*images.FASHION_MNIST, third]
    )  # whole files are not fetched again
    server.content.clear()
    assert len(load("fashion_mnist").y_test) == 3


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX systems")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_an_interrupted_download_leaves_no_half_file(number, cifar_server):
    known = images.CIFAR10["cifar-10-binary.tar.gz"]
    code = (
        "from qhlib import images\n"
        f"images.CIFAR10['cifar-10-binary.tar.gz'] = {known!r}\n"
        f"images._URL['cifar10'] = {cifar_server.url!r}\n"
        "images.require('cifar10')"
    )
    cifar_server.fault = "stalls"
    # a shell that starts the tests in the background leaves interrupts ignored, and children
    # inherit that
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, preexec_fn=listening
    )
    deadline = time.monotonic() + 30
    while not cached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert cached()  # the temporary file
    process.send_signal(number)
    process.communicate(timeout=30)
    assert "cifar-10-binary.tar.gz" not in cached()
    if number == signal.SIGINT:
        assert cached() == []
    cifar_server.fault = ""
    assert len(load("cifar10").y_train) == 15


# --- real records, where there are some ----------------------------------------------------------

NEIGHBOUR = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar-10-batches-bin"
CIFAR = Path(os.environ.get("QHLIB_TEST_CIFAR10") or NEIGHBOUR)
FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(
    not CIFAR.exists(), reason="no real CIFAR-10 records: QHLIB_TEST_CIFAR10 names their folder"
)
def test_real_cifar_records_in_both_layouts(tmp_path):
    found = load("cifar10", CIFAR)
    assert found.X_train.shape[1:] == (3, 32, 32) and 0.4 < found.X_train.mean() < 0.55
    assert torch.bincount(found.y_train, minlength=10).min() > 0.08 * len(found.y_train)
    # natural images are smooth: a wrong order of bytes is not
    step, far = (
        (found.X_train[..., k:] - found.X_train[..., :-k]).abs().mean().item() for k in (1, 8)
    )
    assert step < 0.5 * far
    batch = images.read_batch(
        (CIFAR / "test_batch.bin").read_bytes()[: 50 * 3073], Path("test_batch.bin")
    )
    again = images.read_batch(
        python2_pickle(batch[0].reshape(-1, 3072), batch[1]), Path("test_batch")
    )
    assert all(np.array_equal(a, b) for a, b in zip(batch, again, strict=True))


@pytest.mark.skipif(
    not FASHION.exists(), reason="Debian's package dataset-fashion-mnist is not installed"
)
def test_real_fashion_mnist_and_its_published_checksums():
    found = load("fashion_mnist", FASHION, n_test=100)
    assert (
        found.X_train.shape == (60000, 1, 28, 28)
        and torch.bincount(found.y_train).tolist() == [6000] * 10
    )
    # The published files carry their names and dates in the gzip header; the package took both
    # out.
    dates = {"train": 1504176606, "t10k": 1504176627}
    for name, (published, _, _) in images.FASHION_MNIST.items():
        raw = (FASHION / name).read_bytes()
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", dates[name.split("-")[0]]) + raw[8:10]
        assert md5(header + name.removesuffix(".gz").encode() + b"\0" + raw[10:]) == published
