"""Checkpoints of a long training: written whole or not at all, and read back only into the run that wrote them.

Conventions: a state is a dictionary of what ``torch.load(weights_only=True)`` reads: tensors, numbers, strings, and
lists, tuples and dictionaries of them. Its file is named after the run and all its settings, so runs with other
settings never meet, and is laid out as

    b"qhlib checkpoint 1\\n" + SHA-256 of the rest, in hexadecimal + b"\\n" + settings as JSON + b"\\n" + torch.save(state)

A write goes to a temporary file, which then takes its name in one step: whatever ends the program, the last whole
state remains. Nothing else in the folder is touched, and a finished run keeps its file.
"""

import hashlib
import io
import json
import os
import pickle
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

_MAGIC = b"qhlib checkpoint 1\n"


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message says what is wrong and what to do."""


class Checkpoint:
    """The file that keeps the state of one run.

    `folder` is made on the first write; empty: nothing is read or written. `name` begins the file's name. `settings`
    are all that the state depends on, as JSON knows it (else :class:`TypeError`); lists and tuples are the same.
    :meth:`save` writes at most once in `every` seconds.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Checkpoint(folder, "demo", {"lr": 0.1}).save({"epoch": 3}, now=True)
    ...     Checkpoint(folder, "demo", {"lr": 0.1}).load(), Checkpoint(folder, "demo", {"lr": 0.2}).load()
    ({'epoch': 3}, None)
    """

    def __init__(
        self, folder: str | os.PathLike, name: str, settings: Mapping[str, object], every: float = 30.0
    ):
        self._settings = json.dumps(settings, sort_keys=True).encode()
        key = hashlib.sha256(self._settings).hexdigest()[:16]
        self.path = Path(folder).expanduser().absolute() / f"{name}-{key}.checkpoint" if folder else None
        self.every = every
        self._saved = time.monotonic()

    def load(self, map_location: str | torch.device = "cpu") -> dict | None:
        """The last state that was saved with these settings, on `map_location`; None if there is none.

        Raises :class:`CheckpointError` for a file that is cut off, changed, of other settings, or no checkpoint.

        >>> Checkpoint("", "demo", {}).load() is None
        True
        """
        if self.path is None:
            return None
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(f"it cannot be read: {error.strerror}") from None
        if not content.startswith(_MAGIC):
            raise self._error("it is not a checkpoint of this program")
        digest, _, rest = content[len(_MAGIC) :].partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            raise self._error("it is cut off or was changed")
        settings, _, data = rest.partition(b"\n")
        if settings != self._settings:
            raise self._error(f"it belongs to a run with other settings, {settings.decode()}")
        try:
            return torch.load(io.BytesIO(data), map_location=map_location, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError):
            raise self._error(
                "torch cannot read its state, or will not: it holds more than tensors"
            ) from None

    def save(self, state: dict, now: bool = False) -> bool:
        """Write `state` if the last write is long enough ago, or `now`; tells whether it was written.

        Raises :class:`CheckpointError` if the folder or the file cannot be written.

        >>> Checkpoint("", "demo", {}).save({"epoch": 3}, now=True)
        False
        """
        if self.path is None or not (now or time.monotonic() - self._saved >= self.every):
            return False
        buffer = io.BytesIO()
        torch.save(state, buffer)
        rest = self._settings + b"\n" + buffer.getvalue()
        part = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=".part-", delete=False) as part:
                part.write(_MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
                part.flush()
                os.fsync(part.fileno())  # a name must never point to content that is not on the disk yet
            os.replace(part.name, self.path)
        except OSError as error:
            raise self._error(f"it cannot be written: {error.strerror}") from None
        finally:
            if part is not None:
                Path(part.name).unlink(missing_ok=True)  # ours, and there only if something went wrong
        self._saved = time.monotonic()
        return True

    def _error(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"checkpoint {self.path}: {what}. Move or delete it, or name another folder with checkpoint_folder "
            "(empty for no checkpoints)"
        )
