"""Moves bytes between a stream and one end of the serial link."""

from __future__ import annotations

import time

from drivers.protocol.byte_streams import ByteStream
from drivers.protocol.serial_end import SerialEnd

MAX_READS = 16


def exchange(stream: ByteStream, end: SerialEnd, left: bytes) -> bytes:
    """Take in what has arrived and write what is due; gives what could not be written yet.

    Raises:
        OSError: the stream is gone.
    """
    now = time.monotonic()
    for _ in range(MAX_READS):
        if not (data := stream.read()):
            break
        end.feed(data, now)
    return flush(stream, end, left)


def flush(stream: ByteStream, end: SerialEnd, left: bytes) -> bytes:
    """Write what is due; gives what could not be written yet.

    Raises:
        OSError: the stream is gone.
    """
    now = time.monotonic()
    while left := left or end.outgoing(now):
        taken = stream.write(left)
        left = left[taken:]
        if not taken:
            break
    return left
