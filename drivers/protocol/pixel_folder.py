"""A folder that both ends see, such as a network share: payloads as files, where a line is too slow for them.

The sender writes a payload to a file and sends the file's key in its place; the receiver waits for the file, checks it
and deletes it. A key is the payload's SHA-256 and 8 random bytes, the file's name its hexadecimal digits and ``.bin``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections import deque
from pathlib import Path

from drivers.atomic_files import write_bytes
from drivers.errors import DeviceError
from drivers.protocol import wire

KEY_BYTES = 40
KEPT = 256
"""Files of this sender that may wait for the receiver; older ones are deleted."""
WAIT_S = 2.0
POLL_S = 0.02


class PixelFolder:
    """One end's use of the folder."""

    def __init__(self, folder: Path, max_payload: int) -> None:
        """Use a folder.

        Args:
            folder: must exist.
            max_payload: bytes of the largest payload taken.

        Raises:
            DeviceError: there is no such folder, or it cannot be written.
        """
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise DeviceError(
                f"{folder}: no folder for pixels that can be written; create it on the share of both ends"
            )
        self._folder = folder
        self._max_payload = max_payload
        self._mine: deque[Path] = deque()

    def outgoing(self, parts: list[wire.Buffer]) -> list[wire.Buffer]:
        """The message for the line: its payload is in the folder, the key in its place.

        Raises:
            DeviceError: the file cannot be written.
        """
        if len(parts) != 2 or not parts[1]:  # the other end has the pixels already
            return parts
        key = hashlib.sha256(parts[1]).digest() + secrets.token_bytes(KEY_BYTES - 32)
        path = self._path(key)
        try:
            write_bytes(path, parts[1], durable=False)
        except OSError as error:
            raise DeviceError(f"{path}: the pixels cannot be written: {error.strerror or error}") from error
        self._mine.append(path)
        while len(self._mine) > KEPT:
            self._delete(self._mine.popleft())
        return [parts[0], key]

    def incoming(self, parts: list[wire.Buffer]) -> list[wire.Buffer]:
        """The message with its payload from the folder; an empty one where the file does not come or is damaged."""
        if len(parts) != 2:
            return parts
        key = bytes(parts[1])
        if len(key) != KEY_BYTES:
            return [parts[0], b""]
        path = self._path(key)
        end = time.monotonic() + WAIT_S
        while not path.is_file() and time.monotonic() < end:
            time.sleep(POLL_S)
        payload = b""
        with contextlib.suppress(OSError), path.open("rb") as file:
            payload = file.read(self._max_payload + 1)
        self._delete(path)
        good = len(payload) <= self._max_payload and hashlib.sha256(payload).digest() == key[:32]
        return [parts[0], payload if good else b""]

    def close(self) -> None:
        """Delete the files that nobody fetched."""
        while self._mine:
            self._delete(self._mine.popleft())

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}.bin"

    @staticmethod
    def _delete(path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
