"""Content-addressed files: ``blobs/ab/<sha256>.<suffix>``, each whole or not there at all.

A file is written under ``blobs/tmp``, flushed to the disk, and then renamed to its place; the folder is flushed after
that. So a name below ``blobs/ab`` always stands for a whole file, and what a crash leaves lies in ``blobs/tmp``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from drivers.atomic_files import written
from drivers.regular_files import read_regular
from workbench.errors import DatasetError

# Most of the time goes into waiting for the disk, which takes several flushes at once.
FLUSH_THREADS = 4
STALE_S = 24 * 3600.0
BLOB_BYTES = 8 << 30
MENDED = (
    "restore it from a backup of the lab folder; without one, `workbench dataset verify` names what rests on it and "
    "`workbench dataset set-aside` lets its captures be made again"
)
"""Largest file that is read; an uncompressed RAW of the largest size that a frame may have is half of that."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class BlobKey:
    """Which blob: SHA-256 of the bytes (64 hexadecimal digits), file suffix without dot, size in bytes."""

    hash: str
    suffix: str
    size: int

    @classmethod
    def of(cls, data: bytes, suffix: str) -> BlobKey:
        """The key of these bytes."""
        return cls(hashlib.sha256(data).hexdigest(), suffix, len(data))


class BlobStore:
    """The files of a data set below ``root``."""

    threads = FLUSH_THREADS

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pool: ThreadPoolExecutor | None = None

    def path(self, digest: str, suffix: str) -> Path:
        """Where a blob lies."""
        return self.root / digest[:2] / f"{digest}.{suffix}"

    def write(self, blobs: Iterable[tuple[BlobKey, bytes]]) -> None:
        """Put blobs in their place, durably; those already there are not written again.

        Raises:
            OSError: the disk is full, read-only or failing; none of the new names is half written.
        """
        wanted = {key.hash: (key, data) for key, data in blobs}
        if not wanted:
            return
        first = not self.root.is_dir()
        temporary = self.root / "tmp"
        # Not with parents: a lab folder that is gone must not be made anew beside the one that was renamed.
        self.root.mkdir(exist_ok=True)
        temporary.mkdir(exist_ok=True)
        if first:
            _flush_folder(self.root.parent)
        folders = {self.path(key.hash, key.suffix).parent for key, _ in wanted.values()}
        if new := [folder for folder in folders if not folder.is_dir()]:
            for folder in new:
                folder.mkdir(exist_ok=True)
            _flush_folder(self.root)
        self.each(self._write_one, list(wanted.values()))
        self.each(_flush_folder, sorted(folders))

    def read(self, digest: str, suffix: str) -> bytes:
        """The bytes of a blob, checked against its name.

        Raises:
            DatasetError: the file is missing, unreadable or damaged.
        """
        path = self.path(digest, suffix)
        try:
            data = read_regular(path, BLOB_BYTES)
        except FileNotFoundError as error:
            raise DatasetError(f"{path}: the file is missing; {MENDED}") from error
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise DatasetError(f"{path}: the file is damaged; {MENDED}")
        return data

    def local(self, digest: str, suffix: str) -> Path:
        """A file of this machine with the bytes of a blob, not checked."""
        return self.path(digest, suffix)

    def read_kept(self, digest: str, suffix: str) -> bytes:
        """As :meth:`read`, but from where the blob is kept, never from a copy of it."""
        return self.read(digest, suffix)

    def size(self, digest: str, suffix: str) -> int:
        """Bytes of a blob; 0 where it is not there."""
        path = self.path(digest, suffix)
        return path.stat().st_size if path.is_file() else 0

    def files(self) -> Iterator[PurePath]:
        """All blobs that lie in their place, whether the data set knows them or not."""
        return self.root.glob("[0-9a-f][0-9a-f]/*")

    def temporary_files(self) -> list[Path]:
        """What interrupted writers left; harmless."""
        folder = self.root / "tmp"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def remove_stale(self) -> None:
        """Remove temporary files so old that no writer can still be at them."""
        for path in self.temporary_files():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - STALE_S:
                    path.unlink()

    def close(self) -> None:
        """End the flush threads; the store can still be used."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def each(self, work: Callable[[T], R], items: list[T]) -> list[R]:
        """Do the same with every item, several at once; the results are in the order of the items."""
        if len(items) == 1:
            return [work(items[0])]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="blobs")
        futures = [self._pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            # After an error or Ctrl-C nothing goes on behind the caller's back.
            for future in futures:
                future.cancel()
            wait(futures)

    def _write_one(self, blob: tuple[BlobKey, bytes]) -> None:
        key, data = blob
        path = self.path(key.hash, key.suffix)
        with contextlib.suppress(OSError):
            if path.stat().st_size == key.size:
                return
        with written(path, beside=self.root / "tmp") as file:
            file.write(data)


def _flush_folder(folder: Path) -> None:
    # A rename is durable only once its folder is flushed; Windows has no such call and needs none.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
