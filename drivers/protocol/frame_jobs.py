"""Frames asked for, until they have come, and what came in their place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from drivers.device import Capture, Failure
from drivers.errors import WorkbenchError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol import wire

_NOT_SENT = wire.Process(0, "", (), b"", b"")


@dataclass(eq=False)
class Job:
    """One frame asked for, until it has been yielded; ``raw`` of a live device comes with the answer.

    ``of_held``: it was asked for without pixels, of a RAW that the device should hold.
    """

    raw: RawFrame | None
    parameters: ParameterSet
    request: wire.Process | wire.CaptureRequest = _NOT_SENT
    sent: float = 0.0
    of_held: bool = False
    refusals: int = 0
    capture: Capture | None = None
    failure: Failure | None = None
    error: WorkbenchError | None = None

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.capture or self.failure or self.error)


def what_came(since: Counter[str]) -> str:
    """What came instead of a frame, in words, or empty."""
    came = [
        f"{since[kind]} × {words}"
        for kind, words in (
            ("busy", "busy"),
            ("refused", "a frame that fails its proof"),
            ("garbage", "what is no message"),
            ("stale", "answers to nothing that was asked"),
            ("reboots", "a reboot"),
            ("reconnects", "a broken connection"),
        )
        if since[kind]
    ]
    return ", ".join(came)
