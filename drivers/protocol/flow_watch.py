"""Ends a ZeroMQ message that never ends.

libzmq bounds each part of a message (``ZMQ_MAXMSGSIZE``), but not their number, and hands a message over only when it
is whole: one whose parts never end would take all memory. So what the connection brought in since the last whole
message is counted by the kernel (Linux), and what the process took while it waited is looked at too: parts of a few
bytes take many times their size. What it took between two waits is its own: RAWs that were read to be sent, say.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

SLACK = 1 << 20
"""Bytes beyond the largest message: heartbeats, framing, what was on its way."""
MEMORY_SLACK = 192 << 20
"""Bytes that the process may grow, beside the message itself, before a message that does not end is to blame."""
_STATM = Path("/proc/self/statm")
_BYTES_RECEIVED = 128  # offset of tcpi_bytes_received in Linux's struct tcp_info


class FlowWatch:
    """Watches one connection; ``overlong`` is asked while a message is waited for and none is whole."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._received = 0
        self._memory, self._grown = memory_bytes(), 0

    def connected(self, descriptor: int) -> None:
        """The connection's socket, as ZeroMQ's monitor tells it; a copy is kept to ask the kernel."""
        self.close()
        if hasattr(socket, "TCP_INFO"):
            with contextlib.suppress(OSError):  # it broke already
                self._socket = socket.socket(fileno=os.dup(descriptor))
        self._received = self._bytes() or 0

    def message(self) -> None:
        """A whole message came."""
        self._received = self._bytes() or 0
        self._grown = 0

    def waits(self) -> None:
        """A wait begins."""
        self._memory = memory_bytes()

    def overlong(self, largest: int) -> bool:
        """Whether more came since the last whole message than ``largest`` bytes, or took more memory than it could."""
        now = memory_bytes()
        self._grown += now - self._memory
        self._memory = now
        received = self._bytes()
        if received is None:
            return self._grown > largest + MEMORY_SLACK
        since = received - self._received
        if since <= SLACK:
            return False
        return since > largest + SLACK or self._grown > since * 5 // 4 + MEMORY_SLACK

    def close(self) -> None:
        """Let go of the copy; closing twice is allowed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _bytes(self) -> int | None:
        """Bytes that the connection brought in so far, or None where the kernel does not say."""
        if self._socket is None:
            return None
        try:
            facts = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
        except OSError:
            return None
        return struct.unpack_from("=Q", facts, _BYTES_RECEIVED)[0] if len(facts) >= _BYTES_RECEIVED + 8 else None


def memory_bytes() -> int:
    """Resident memory of this process; the largest so far where only that is told, 0 where nothing is."""
    # Asked many times a second: unbuffered and as bytes it takes a third of the time.
    with contextlib.suppress(OSError, ValueError, IndexError), _STATM.open("rb", buffering=0) as file:
        return int(file.read(200).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return 0
