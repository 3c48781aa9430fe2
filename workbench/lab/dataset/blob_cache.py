"""A folder of blobs read before, bounded in bytes; what was not read for longest goes first.

Nothing rests on it: a file that is torn, damaged or gone is fetched again. Several processes may share the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from pathlib import Path

# Of the limit: how much is added before the folder is looked through, and how much is left then.
_ADDED = 0.05
_LEFT = 0.9


class BlobCache:
    """The cache below ``root``; over its limit by a twentieth at most for each process that adds to it.

    Args:
        root: its folder, made when the first blob comes.
        limit: bytes.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self.limit = limit
        self._added = limit  # what earlier processes left is looked through at the first blob
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """Where a blob lies, if it is there; ``name`` is its hash and suffix."""
        return self.root / name[:2] / name

    def get(self, name: str) -> bytes | None:
        """The bytes of a blob; None where it is not there, or damaged."""
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep a blob.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
        with self._lock:
            self._added += len(data)
            if self._added > self.limit * _ADDED:
                self._added = 0
                self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        found = []
        for path in self.root.glob("*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self.limit:
            return
        for _, size, path in sorted(found):
            if total <= self.limit * _LEFT:
                return
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size
