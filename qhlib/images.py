"""Real images for the chapters: digits, Fashion-MNIST and CIFAR-10, whole and checked, or one
clear error.

Conventions
-----------
* Images are (n, channels, height, width) float32 in [0, 1], classes (n,) int64, in the order of
  the official files. Train and test are the official split; for digits, which have none, a fixed
  permutation gives 1300/497.
* ``digits`` come with scikit-learn. The others are read from the folder that the user names, and
  from no other place. Without one they are looked up in :func:`cache`, then where Debian's package
  ``dataset-fashion-mnist`` puts them, and are downloaded once into the cache if need be.
* A folder holds the official files: four ``.gz`` files for Fashion-MNIST; for CIFAR-10 an archive
  (binary or python version) or what it unpacks to. Archives are read as they are; nothing is
  unpacked or executed.
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

import importlib.util
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import _image_files as files

if TYPE_CHECKING:  # a check before a run needs no torch, whose import takes a second
    from torch import Tensor

CLASSES = {
    "digits": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}
"""Names of the classes of each set, in the order of its labels."""

_URL = {
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
}
_DOWNLOAD = {"fashion_mnist": tuple(files.FASHION_MNIST), "cifar10": ("cifar-10-binary.tar.gz",)}
_SYSTEM = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
_NEEDED = {
    "fashion_mnist": f"the four files {', '.join(files.FASHION_MNIST)}",
    "cifar10": f"{' or '.join(files.CIFAR10)}, or the folder that it unpacks to,",
}


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
    everything = range(len(CLASSES[name]))
    kept = tuple(everything if classes is None else classes)
    if not kept or len(set(kept)) < len(kept) or not set(kept) <= set(everything):
        raise ImagesError(
            f"classes={classes!r}: give different labels from 0 to {len(everything) - 1}"
        )
    if any(n is not None and n < 1 for n in (n_train, n_test)):
        raise ImagesError(f"n_train={n_train}, n_test={n_test}: give at least 1, or None for all")
    import torch

    parts: list[Tensor] = []
    for (X, y), n in zip(splits, (n_train, n_test), strict=True):
        chosen = np.flatnonzero(np.isin(y, kept))[:n]
        if len(chosen) == 0:
            raise ImagesError(
                f"{name}: no image is of the classes {kept}; name a folder with more records"
            )
        number = np.zeros(len(everything), np.int64)
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
    qhlib.images.ImagesError: there are no images 'cifar11'; choose digits, fashion_mnist or cifar10
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
    """The pairs (X uint8 (n, c, h, w), y int64 (n,)) of train and test, checked; see `unpack` of
    the reader."""
    if name not in CLASSES:
        raise ImagesError(f"there are no images {name!r}; choose digits, fashion_mnist or cifar10")
    if name == "digits":
        if folder:
            raise ImagesError(
                f"digits come with scikit-learn and are not read from {folder}; leave data_folder empty"
            )
        return _digits()
    reader = (
        files.fashion_mnist if name == "fashion_mnist" else partial(files.cifar10, unpack=unpack)
    )
    place = Path(folder).expanduser().absolute() if folder else cache() / name
    try:
        splits = reader(place)
        if splits is None and not folder and name in _SYSTEM:
            splits = reader(_SYSTEM[name])
        if splits is None and (folder or not download):
            raise ValueError(f"it is not, or not all of it, in {place}")
        if splits is None:
            _download(name, place)
            splits = reader(place)
        _check(splits)
    except (OSError, ValueError) as error:
        raise ImagesError(f"{name} cannot be read: {error}. {_advice(name, place)}") from None
    return splits


def _check(splits: tuple) -> None:
    for (X, y), what in zip(splits, ("training", "test"), strict=True):
        if len(X) != len(y):
            raise ValueError(f"there are {len(X)} {what} images but {len(y)} labels")
        wrong = y[(y < 0) | (y > 9)]
        if len(wrong):
            raise ValueError(f"a {what} label is {wrong[0]}, not in 0..9")


def _advice(name: str, place: Path) -> str:
    """What to do, for every fault: the whole files in their place, or another set."""
    package = (
        "; or install Debian's package dataset-fashion-mnist" if name == "fashion_mnist" else ""
    )
    return (
        f"Put {_NEEDED[name]} from {_URL[name]} in {place} (delete what is damaged there){package}; or name another "
        "folder with the parameter data_folder; or choose the data set digits, which needs no file"
    )


def _download(name: str, place: Path) -> None:
    """Fetch what is missing; a file appears under its name only when it is whole and has its
    checksum."""
    import pooch
    from tqdm import tqdm

    pooch.get_logger().setLevel("WARNING")  # the bar says the same
    published = {
        file: known[0] for file, known in {**files.FASHION_MNIST, **files.CIFAR10}.items()
    }
    for file in _DOWNLOAD[name]:
        if (place / file).exists():
            continue
        url = _URL[name] + file
        try:
            # pooch sets the total; the bar goes when it is done, so that an error is one message
            with tqdm(desc=file, total=1, unit="B", unit_scale=True, leave=False) as bar:
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=30)
                pooch.retrieve(url, f"md5:{published[file]}", file, place, downloader=fetch)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"it is not here, and downloading {url} failed: {_reason(error)}"
            ) from None


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words where the library's are long."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, exceptions.Timeout):
        return "the server did not answer in time"
    if isinstance(error, exceptions.ConnectionError):
        return "no connection to the server"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written
        return str(error)
    return "what arrived has a wrong checksum"


def _digits() -> tuple:
    # scikit-learn's own file, without scikit-learn: its import takes a second, longer than all the
    # rest
    found = importlib.util.find_spec("sklearn")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found else Path()
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        X, y = table[:, :-1], table[:, -1]
    else:
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
    # A fixed permutation, for the set is ordered by writer: 1111 has no divisor in common with
    # 1797.
    order = np.arange(len(y)) * 1111 % len(y)
    X, y = X[order].reshape(-1, 1, 8, 8).astype(np.uint8), y[order].astype(np.int64)
    return (X[:1300], y[:1300]), (X[1300:], y[1300:])
