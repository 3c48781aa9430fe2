"""Arrays that a training needs again and again: in memory up to a limit, and beyond it in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Callable

import numpy as np

LIMIT = 512 * 2**20


def room(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """An array to be filled: in memory, or in a file that goes with it where it has more than :data:`LIMIT` bytes.

    Raises:
        OSError: the disk of the temporary files is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= LIMIT:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is told here, not by a signal as the array is filled
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "w+", shape=shape)


class KeptArrays:
    """Keeps arrays; the file is removed with the last reference to them, or with the process.

    Args:
        limit: bytes that may lie in memory; by default :data:`LIMIT`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._left = LIMIT if limit is None else limit
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the arrays)
        self._end = 0
        self._turn = threading.Lock()

    def keep(self, array: np.ndarray) -> Callable[[], np.ndarray]:
        """Keep an array; the answer gives it, read-only, as often as it is called, in any thread.

        Raises:
            OSError: the disk of the temporary files is full.
        """
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            own = array.copy()
            own.flags.writeable = False
            return lambda: own
        place, size, shape, dtype = self._end, array.nbytes, array.shape, array.dtype
        self._file.seek(place)
        self._file.write(np.ascontiguousarray(array).data)
        self._end += array.nbytes
        return lambda: np.frombuffer(self._read(place, size), dtype).reshape(shape)

    def _read(self, place: int, size: int) -> bytes:
        with self._turn:  # held-out examples are read while the next batch is drawn
            self._file.seek(place)
            return self._file.read(size)
