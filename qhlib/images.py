"""Real images: digits, Fashion-MNIST and CIFAR-10, whole and checked, or one clear error.

Conventions. Images are (n, channels, height, width) float32 in [0, 1], classes (n,) int64, in the
order of the official files. Train and test are the official split; for digits, which have none, a
fixed permutation gives 1300/497.

* ``digits`` come with scikit-learn. The others are read from the folder that the user names, and
  from no other place. Without one they are looked up in :func:`cache`, then where Debian's package
  ``dataset-fashion-mnist`` puts them, and are downloaded once into the cache if need be.
* A folder holds the official files: four ``.gz`` files for Fashion-MNIST; for CIFAR-10 an archive
  (binary or python version) or what it unpacks to. Archives are read as they are: nothing is
  unpacked to disk, and nothing in a file is executed.
* Unpacked batches, and ``.gz`` files that are excerpts, may hold any positive number of whole
  records.
* Whatever is wrong raises :class:`ImagesError` before anything is returned: there is never half a
  data set.

Checksums are MD5, as published. Those of Fashion-MNIST were verified here: Debian's files, given
back the names and dates that its packaging took out of their headers, have exactly the published
sums. Those of the CIFAR-10 archives are from the official page and could not be verified here.
Unpacked CIFAR-10 batches have no published sums: their sizes and labels are checked.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import math
import os
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # a check before a run needs no torch, whose import takes a second
    from torch import Tensor

CLASSES = {
    "digits": tuple("0123456789"),
    "fashion_mnist": tuple(
        "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
    ),
    "cifar10": tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
}
"""Names of the classes of each set, in the order of its labels."""

_FASHION_MNIST = """
train-images-idx3 8d4fb7e6c68d591d4c3dfef9ec88bf0d f4a8712d7a061bf5bd6d2ca38dc4d50a 60000
train-labels-idx1 25c81989df183df01b3e8a0aad5dffbe 9018921c3c673c538a1fc5bad174d6f9 60000
t10k-images-idx3 bef4ecab320f06d8554ea6380940ec79 8181f5470baa50b63fa0f6fddb340f0a 10000
t10k-labels-idx1 bb300cfdad3c16e7a12a480ee83cd310 15d484375f8d13e6eb1aabb0c3f46965 10000
"""
# file: published MD5, MD5 of its content, official number of records
FASHION_MNIST = {
    f"{name}-ubyte.gz": (published, content, int(official))
    for name, published, content, official in map(str.split, _FASHION_MNIST.split("\n")[1:-1])
}
# archive: published MD5, the folder it unpacks to, the ending of its batches
CIFAR10 = {
    "cifar-10-binary.tar.gz": ("c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin", ".bin"),
    "cifar-10-python.tar.gz": ("c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py", ""),
}
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then a red, a green and a blue plane
_URL = {
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
}
_SYSTEM = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}


class ImagesError(ValueError):
    """A data set cannot be had whole; the message says what is wrong and what to do."""


class Images(NamedTuple):
    """A split data set: images X (n, c, h, w) float32 in [0, 1], labels y (n,) int64, names of the
    classes.

    >>> load("digits", n_train=3).X_train.shape
    torch.Size([3, 1, 8, 8])
    """

    X_train: Tensor
    y_train: Tensor
    X_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]


def load(
    name: str,
    folder: str | os.PathLike = "",
    *,
    classes: Sequence[int] | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    download: bool = True,
) -> Images:
    """The images of `name`: ``digits``, ``fashion_mnist`` or ``cifar10``.

    Args:
        name: the data set.
        folder: where its official files lie; empty to use the cache, the system's copy, or a
            download.
        classes: labels to keep, renumbered 0, 1, ... in this order; None for all ten.
        n_train: at most so many training images, the first ones of the kept classes; None for all.
        n_test: the same for test images.
        download: whether to fetch what is missing into the cache, with a progress bar.

    Raises:
        ImagesError: if the data are missing, offline, truncated, of a wrong checksum or
            inconsistent, or if the selection makes no sense.

    >>> digits = load("digits")
    >>> len(digits.y_train), len(digits.y_test), digits.X_train.max().item()
    (1300, 497, 1.0)
    >>> load("digits", classes=(3, 8), n_train=6).classes
    ('3', '8')
    """
    splits = _read(name, folder, download)
    everything = range(10)
    kept = tuple(everything if classes is None else classes)
    if not kept or len(set(kept)) < len(kept) or not set(kept) <= set(everything):
        raise ImagesError(f"classes={classes!r}: give different labels from 0 to 9")
    if any(n is not None and n < 1 for n in (n_train, n_test)):
        raise ImagesError(f"n_train={n_train}, n_test={n_test}: give at least 1, or None for all")
    import torch

    parts: list[Tensor] = []
    for (X, y), n in zip(splits, (n_train, n_test), strict=True):
        chosen = np.flatnonzero(np.isin(y, kept))[:n]
        if len(chosen) == 0:
            raise ImagesError(f"{name}: no image of the classes {kept}: it needs more records")
        number = np.zeros(10, np.int64)
        number[list(kept)] = np.arange(len(kept))
        parts += [torch.from_numpy(X[chosen]).float(), torch.from_numpy(number[y[chosen]])]
        parts[-2] /= 16 if name == "digits" else 255
    return Images(*parts, tuple(CLASSES[name][label] for label in kept))


def require(name: str, folder: str | os.PathLike = "", *, download: bool = True) -> None:
    """Check that :func:`load` will find its files whole; a download, if need be, happens now.

    Records are checked one by one, but for an archive that has its published checksum.

    Needs no torch, so that a command can ask before it starts anything. Raises
    :class:`ImagesError`.

    >>> require("cifar11")
    Traceback (most recent call last):
    qhlib.images.ImagesError: there are no images 'cifar11'; choose digits, ...
    """
    if name != "digits" or folder:  # scikit-learn is always there, and takes a second to import
        _read(name, folder, download, unpack=False)


def cache() -> Path:
    """The folder for downloads: the environment variable ``QHLIB_DATA``, or else the user's cache
    directory.

    Each set has a folder of its own in it: ``fashion_mnist``, ``cifar10``.

    >>> cache().is_absolute()
    True
    """
    if os.environ.get("QHLIB_DATA"):
        return Path(os.environ["QHLIB_DATA"]).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("qhlib")).absolute()


def _read(name: str, folder: str | os.PathLike, download: bool, unpack: bool = True) -> tuple:
    """The pairs (X uint8 (n, c, h, w), y int64 (n,)) of train and test, checked."""
    if name not in CLASSES:
        raise ImagesError(f"there are no images {name!r}; choose digits, fashion_mnist or cifar10")
    if name == "digits":
        if folder:
            raise ImagesError(
                f"digits come with scikit-learn: leave data_folder empty, not {folder}"
            )
        return _digits()
    place = Path(folder).expanduser().absolute() if folder else cache() / name
    try:
        splits = _splits(name, place, unpack)
        if splits is None and not folder and name in _SYSTEM:
            splits = _splits(name, _SYSTEM[name], unpack)
        if splits is None and (folder or not download):
            raise ValueError(f"it is not, or not all of it, in {place}")
        if splits is None:
            _download(name, place)
            splits = _splits(name, place, unpack)
        for (X, y), what in zip(splits, ("training", "test"), strict=True):
            if len(X) != len(y):
                raise ValueError(f"there are {len(X)} {what} images but {len(y)} labels")
            if len(wrong := y[(y < 0) | (y > 9)]):
                raise ValueError(f"a {what} label is {wrong[0]}, not in 0..9")
    except (OSError, ValueError) as error:
        # what to do, for every fault: the whole files in their place, or another set
        needed, package = f"{' or '.join(CIFAR10)}, or the folder that it unpacks to,", ""
        if name == "fashion_mnist":
            needed = f"the four files {', '.join(FASHION_MNIST)}"
            package = "; or install Debian's package dataset-fashion-mnist"
        raise ImagesError(
            f"{name} cannot be read: {error}. Put {needed} from {_URL[name]} in {place} (delete "
            f"what is damaged there){package}; or name another folder with the parameter "
            "data_folder; or choose the data set digits, which needs no file"
        ) from None
    return splits


def _download(name: str, place: Path) -> None:
    """Fetch what is missing; a file appears under its name only when it is whole."""
    import pooch
    from tqdm import tqdm

    pooch.get_logger().setLevel("WARNING")  # the bar says the same
    wanted = FASHION_MNIST if name == "fashion_mnist" else CIFAR10
    for file in wanted if name == "fashion_mnist" else ["cifar-10-binary.tar.gz"]:
        if (place / file).exists():
            continue
        url = _URL[name] + file
        try:
            # pooch sets the total; the bar goes when it is done, so that an error is one message
            with tqdm(desc=file, total=1, unit="B", unit_scale=True, leave=False) as bar:
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=30)
                pooch.retrieve(url, f"md5:{wanted[file][0]}", file, place, downloader=fetch)
        except (OSError, ValueError) as error:
            why = f"downloading {url} failed: {_reason(error)}"
            raise ValueError(f"it is not here, and {why}") from None


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words where the library's are long."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    for kind, words in (
        (exceptions.Timeout, "the server did not answer in time"),
        (exceptions.SSLError, "its certificate is not accepted here"),
        (exceptions.ConnectionError, "no connection to the server"),
        (exceptions.ChunkedEncodingError, "the connection broke off"),
        (OSError, str(error)),  # a full disk, a folder that cannot be written
    ):
        if isinstance(error, kind):
            return words
    return "what arrived has a wrong checksum"


def _digits() -> tuple:
    # scikit-learn's own file, without scikit-learn: its import takes a second
    home = Path(importlib.util.find_spec("sklearn").origin).parent
    table = np.loadtxt(home / "datasets" / "data" / "digits.csv.gz", np.uint8, delimiter=",")
    # a fixed permutation, for the set is ordered by writer: 1111 and 1797 have no common divisor
    table = table[np.arange(len(table)) * 1111 % len(table)]
    X, y = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)
    return (X[:1300], y[:1300]), (X[1300:], y[1300:])


def _splits(name: str, place: Path, unpack: bool) -> tuple | None:
    """What lies in ``place``, unchecked; None if nothing or not all of it does."""
    if name == "cifar10":
        return _cifar10(place, unpack)
    if not all((place / file).exists() for file in FASHION_MNIST):
        return None
    X, y, X_test, y_test = (_idx(place / file) for file in FASHION_MNIST)
    return (X[:, None], y.astype(np.int64)), (X_test[:, None], y_test.astype(np.int64))


def _idx(path: Path) -> np.ndarray:
    """The array in a gzip file: two zeros, type 8 (bytes), the number of axes, their lengths."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or damaged ({error})") from error
    axes = 3 if "idx3" in path.name else 1
    start = 4 + 4 * axes
    shape = [int.from_bytes(raw[k : k + 4], "big") for k in range(4, start, 4)]
    good = raw[:4] == bytes([0, 0, 8, axes]) and shape[0] > 0 and shape[1:] == [28] * (axes - 1)
    if not good or len(raw) - start != math.prod(shape):
        raise ValueError(f"{path} does not hold whole records of Fashion-MNIST")
    _, content, official = FASHION_MNIST[path.name]
    # the files of MNIST have the same names and sizes; packages compress them anew
    if shape[0] == official:
        _verify(raw, content, path)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _cifar10(place: Path, unpack: bool) -> tuple | None:
    """The batches in `place`, in a folder that an archive unpacks to, or in an archive; None if
    there are none.

    Without `unpack` an archive that has its checksum is taken at its word, seconds faster: no
    record is returned.
    """
    for _, layout, ending in CIFAR10.values():
        names = [batch + ending for batch in BATCHES]
        for home in (place, place / layout):
            missing = [name for name in names if not (home / name).is_file()]
            if missing and len(missing) < len(names):
                raise ValueError(f"{home} lacks {', '.join(missing)}")
            if not missing:
                return _split({home / name: (home / name).read_bytes() for name in names})
    for archive, (md5, layout, ending) in CIFAR10.items():
        path = place / archive
        if path.is_file():
            _verify(path.read_bytes(), md5, path)
            if not unpack:
                nothing = np.empty((0, 3, 32, 32), np.uint8), np.empty(0, np.int64)
                return nothing, nothing
            with tarfile.open(path, "r:gz") as tar:
                names = [f"{layout}/{batch}{ending}" for batch in BATCHES]
                return _split({path / name: tar.extractfile(name).read() for name in names})
    return None


def _split(files: dict[Path, bytes]) -> tuple:
    """The batches; the last one is the test set."""
    batches = [read_batch(raw, path) for path, raw in files.items()]
    X, y = (np.concatenate(part) for part in zip(*batches[:-1], strict=True))
    return (X, y), batches[-1]


def read_batch(raw: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One CIFAR-10 batch of whole records: binary, or a pickle as Python 2 wrote it."""
    if path.suffix == ".bin":
        if not raw or len(raw) % RECORD:
            raise ValueError(f"{path} is truncated: {len(raw)} bytes are not whole records")
        records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
        X, y = records[:, 1:], records[:, 0]
    else:
        try:
            content = _HarmlessUnpickler(io.BytesIO(raw), encoding="bytes").load()
            X, y = content[b"data"], np.array([int(label) for label in content[b"labels"]])
            if X.dtype != np.uint8 or X.shape != (len(y), RECORD - 1) or len(y) == 0:
                raise ValueError(f"{X.dtype} data of shape {X.shape} for {len(y)} labels")
        except Exception as error:  # a damaged pickle can raise anything
            raise ValueError(f"{path} is damaged or no CIFAR-10 batch ({error})") from error
    return X.reshape(-1, 3, 32, 32), y.astype(np.int64)


def _verify(data: bytes, md5: str, path: Path) -> None:
    """Raise :class:`ValueError` unless `data` has the checksum."""
    if (found := hashlib.md5(data, usedforsecurity=False).hexdigest()) != md5:
        why = f"its MD5 is {found}, that of the official file is {md5}"
        raise ValueError(f"{path} is truncated, damaged or another file: {why}")


def _encoded(text: str, encoding) -> bytes:
    """How Python 3 writes bytes into a pickle for Python 2; other encodings would import
    modules."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it wants the encoding {encoding!r}")
    return text.encode("latin1")


class _HarmlessUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, texts and arrays of bytes; any other name is refused."""

    KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encoded,
    }

    def find_class(self, module, name):
        """One of the harmless names, or :class:`pickle.UnpicklingError`."""
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no batch needs")
        return self.KNOWN[module, name]
