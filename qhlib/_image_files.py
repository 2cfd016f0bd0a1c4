"""The official files of Fashion-MNIST and CIFAR-10, read into arrays: the readers behind
:mod:`qhlib.images`.

Conventions
-----------
* A reader takes the folder and returns (train, test), each a pair of X uint8 (n, c, h, w) and y
  int64 (n,), or None when its files are not there.
* What is damaged raises :class:`ValueError` with a message that names the file. Nothing is
  unpacked to disk, and nothing in a file is executed: pickles are read by a reader that knows five
  harmless names.
"""

import gzip
import hashlib
import io
import math
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

FASHION_MNIST = {  # published MD5 of each file; MD5 of its content; official number of records
    "train-images-idx3-ubyte.gz": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        60000,
    ),
    "train-labels-idx1-ubyte.gz": (
        "25c81989df183df01b3e8a0aad5dffbe",
        "9018921c3c673c538a1fc5bad174d6f9",
        60000,
    ),
    "t10k-images-idx3-ubyte.gz": (
        "bef4ecab320f06d8554ea6380940ec79",
        "8181f5470baa50b63fa0f6fddb340f0a",
        10000,
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "bb300cfdad3c16e7a12a480ee83cd310",
        "15d484375f8d13e6eb1aabb0c3f46965",
        10000,
    ),
}
CIFAR10 = {  # published MD5 of each archive, the folder it unpacks to, the ending of its batches
    "cifar-10-binary.tar.gz": ("c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin", ".bin"),
    "cifar-10-python.tar.gz": ("c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py", ""),
}
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then a red, a green and a blue plane

Split = tuple[np.ndarray, np.ndarray]


def fashion_mnist(place: Path) -> tuple[Split, Split] | None:
    """The four ``.gz`` files in `place`; None unless all of them are there."""
    if not all((place / name).exists() for name in FASHION_MNIST):
        return None
    X, y, X_test, y_test = (idx(place / name) for name in FASHION_MNIST)
    return (X[:, None], y.astype(np.int64)), (X_test[:, None], y_test.astype(np.int64))


def idx(path: Path) -> np.ndarray:
    """The array in a gzip file of the idx format: two zeros, type 8 (bytes), the number of axes,
    their lengths."""
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
    if (
        shape[0] == official
    ):  # the files of MNIST have the same names and sizes; packages compress them anew
        verify(raw, content, path)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def cifar10(place: Path, unpack: bool = True) -> tuple[Split, Split] | None:
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
                return split([batch((home / name).read_bytes(), home / name) for name in names])
    for archive, (md5, layout, ending) in CIFAR10.items():
        path = place / archive
        if path.is_file():
            verify(path.read_bytes(), md5, path)
            if not unpack:
                nothing = np.empty((0, 3, 32, 32), np.uint8), np.empty(0, np.int64)
                return nothing, nothing
            with tarfile.open(path, "r:gz") as tar:
                files = {
                    member.name: tar.extractfile(member).read()
                    for member in tar
                    if member.isfile()
                }
            names = [f"{layout}/{batch}{ending}" for batch in BATCHES]
            return split([batch(files[name], path / name) for name in names])
    return None


def split(batches: list[Split]) -> tuple[Split, Split]:
    """The last batch is the test set."""
    X, y = (np.concatenate(part) for part in zip(*batches[:-1], strict=True))
    return (X, y), batches[-1]


def batch(raw: bytes, path: Path) -> Split:
    """One CIFAR-10 batch with any positive number of whole records: binary, or a pickle as Python
    2 wrote it."""
    if path.suffix == ".bin":
        if not raw or len(raw) % RECORD:
            raise ValueError(
                f"{path} is truncated: {len(raw)} bytes are not whole records of {RECORD} bytes"
            )
        records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
        X, y = records[:, 1:], records[:, 0]
    else:
        try:
            content = HarmlessUnpickler(io.BytesIO(raw), encoding="bytes").load()
            X, y = content[b"data"].array(), np.array([int(label) for label in content[b"labels"]])
            if X.shape != (len(y), RECORD - 1) or len(y) == 0:
                raise ValueError(f"data of shape {X.shape} for {len(y)} labels")
        except Exception as error:  # a damaged pickle can raise anything
            raise ValueError(
                f"{path} is truncated, damaged or no CIFAR-10 batch ({error})"
            ) from error
    return X.reshape(-1, 3, 32, 32), y.astype(np.int64)


def verify(data: bytes, md5: str, path: Path) -> None:
    """Raise :class:`ValueError` unless `data` has the checksum."""
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(
            f"{path} is truncated, damaged or another file: its MD5 is {found}, that of the official file is {md5}"
        )


class Pickled:
    """What a pickled NumPy array, or its dtype, says of itself: NumPy's own constructors are never
    called."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state

    def array(self) -> np.ndarray:
        """The bytes as an array."""
        _, shape, dtype, fortran, data = self.state
        if dtype.arguments[0] not in (b"u1", "u1") or fortran:
            raise ValueError("its data are not bytes in the order of rows")
        return np.frombuffer(data, np.uint8).reshape(shape)


def encoded(text: str, encoding) -> bytes:
    """How Python 3 writes bytes into a pickle for Python 2; other encodings would import
    modules."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it wants the encoding {encoding!r}")
    return text.encode("latin1")


class HarmlessUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, texts and arrays of bytes; any other name is refused."""

    KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): Pickled,
        ("numpy._core.multiarray", "_reconstruct"): Pickled,
        ("numpy", "ndarray"): Pickled,
        ("numpy", "dtype"): Pickled,
        ("_codecs", "encode"): encoded,
    }

    def find_class(self, module, name):
        """One of the harmless names, or :class:`pickle.UnpicklingError`."""
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no batch needs")
        return self.KNOWN[module, name]
