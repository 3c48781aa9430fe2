"""What a transport does after one request, and the answers that wait until they are due."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drivers.protocol import wire


@dataclass(frozen=True)
class Send:
    """One message to send, ``delay_s`` seconds later; ``behind_next``: earlier, once the next frame has gone."""

    parts: list[wire.Buffer]
    delay_s: float = 0.0
    behind_next: bool = False


@dataclass
class Outcome:
    """What a transport does after one request, in this order.

    Attributes:
        sends: what to send.
        is_frame: they are a frame, not another answer.
        forget: drop every request that waits.
        hang_s: neither read nor answer for so long.
        gone_s: break the connection for so long; what waits to go out is lost.
    """

    sends: list[Send] = field(default_factory=list)
    is_frame: bool = False
    forget: bool = False
    hang_s: float = 0.0
    gone_s: float = 0.0


Answer = Callable[[wire.Message], Outcome]
"""Gives what comes of a request."""


class Outbox:
    """Messages that wait to be sent to peers, in the order in which they are due."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Any, list[wire.Buffer], bool]] = []

    def put(self, peer: Any, outcome: Outcome, now: float) -> None:
        """Take in what one request led to; ``now`` in seconds of any steady clock."""
        before = self._waiting
        self._waiting = []
        for send in outcome.sends:
            self._add(now + send.delay_s, peer, send.parts, send.behind_next)
        # What waits for the next frame goes right behind it.
        is_next = outcome.is_frame and not any(send.behind_next for send in outcome.sends)
        for due, _, late, parts, behind in sorted(before):
            self._add(now if behind and is_next else due, late, parts, behind and not is_next)

    def due(self, now: float) -> list[tuple[Any, list[wire.Buffer]]]:
        """What is to be sent by now."""
        ready = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, peer, parts, _ = heapq.heappop(self._waiting)
            ready.append((peer, parts))
        return ready

    def wait_s(self, now: float) -> float:
        """Seconds until something is due; infinite when nothing waits."""
        return max(self._waiting[0][0] - now, 0.0) if self._waiting else math.inf

    def clear(self) -> None:
        """Lose everything."""
        self._waiting.clear()

    def _add(self, due: float, peer: Any, parts: list[wire.Buffer], behind: bool) -> None:
        heapq.heappush(self._waiting, (due, next(self._order), peer, parts, behind))
