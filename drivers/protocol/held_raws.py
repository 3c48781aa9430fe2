"""Which RAWs a device holds, least lately asked for first: the same reckoning on both ends of the link.

Our own in place of cachetools' cache, since an agent on a board has numpy, pyzmq and msgpack alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class HeldRaws(Generic[T]):
    """What belongs to RAWs, by their hashes, as long as their bytes together are within a bound.

    Args:
        most: bytes; 0: none is held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._held: OrderedDict[str, tuple[int, T]] = OrderedDict()

    def asked(self, raw_hash: str) -> T | None:
        """What belongs to a RAW, which is now the one asked for last; None: it is not held."""
        if raw_hash not in self._held:
            return None
        self._held.move_to_end(raw_hash)
        return self._held[raw_hash][1]

    def keep(self, raw_hash: str, size: int, what: T) -> None:
        """Hold a RAW of so many bytes, asked for now; others are let go until all are within the bound."""
        self.forget(raw_hash)
        if size > self._most:
            return
        self._held[raw_hash] = size, what
        self._bytes += size
        while self._bytes > self._most:
            _, (less, _) = self._held.popitem(last=False)
            self._bytes -= less

    def forget(self, raw_hash: str) -> None:
        """Let go of a RAW, if it is held."""
        size, _ = self._held.pop(raw_hash, (0, None))
        self._bytes -= size

    def clear(self) -> None:
        """Let go of all."""
        self._held.clear()
        self._bytes = 0
