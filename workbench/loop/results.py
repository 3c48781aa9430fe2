"""What a loop came to: its rate, its latency, and what became of the frames."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivers.errors import WorkbenchError
from workbench.collect import faults
from workbench.collect.failures import FailureTally


@dataclass(frozen=True)
class Times:
    """Seconds of many frames.

    Attributes:
        median_s, p95_s: median and 95th percentile; None where there was none.
    """

    median_s: float | None
    p95_s: float | None

    @classmethod
    def of(cls, seconds: array[float]) -> Times:
        """Those of all."""
        if not seconds:
            return cls(None, None)
        median, high = np.percentile(np.frombuffer(seconds), (50, 95))
        return cls(float(median), float(high))

    def to_dict(self) -> dict[str, float | None]:
        """Both, as plain data."""
        return {"median_s": self.median_s, "p95_s": self.p95_s}


class Clock:
    """The times of a loop's frames as they come; 32 bytes a frame.

    Attributes:
        frames: captures so far.
        predicted: RAW in memory to parameters; captured: RAW in memory to the capture that was made with them; pushed:
            parameters pushed to capture; in_device: inside the device.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.predicted, self.captured, self.pushed, self.in_device = (array("d") for _ in range(4))
        self._first = self._last = 0.0

    def frame(self, at: float) -> None:
        """A capture came at that time (``time.perf_counter``)."""
        self._first, self._last = self._first if self.frames else at, at
        self.frames += 1

    @property
    def rate(self) -> float | None:
        """Captures a second, from the first one to the last; None before the second."""
        return (self.frames - 1) / (self._last - self._first) if self.frames > 1 else None


@dataclass(frozen=True)
class LoopResult:
    """What a loop came to.

    Attributes:
        run: the train run that predicted; ``device_url`` and ``device``: URL and identity of what made the captures.
        frames: captures; ``tally``: of the frames asked, and why those failed that did.
        rate: captures a second, None where there were less than two.
        predicted, captured, pushed, in_device: see :class:`Clock`.
        settle: frames of the filter; cuts: scene cuts.
        moved, moved_predicted: mean move of a parameter from one frame to the next within a scene, as a share of its
            range, as pushed and as predicted; None where there was none.
        kept: captures that were kept in the data set; saved: pictures that were saved.
        faults: what the device did wrong and was mended, by unit.
        ended_by: what ended it early: an error, or the user; None where it came to its end.
    """

    run: str
    device_url: str
    device: str
    frames: int
    tally: FailureTally
    rate: float | None
    predicted: Times
    captured: Times
    pushed: Times
    in_device: Times
    settle: int
    cuts: int
    moved: float | None
    moved_predicted: float | None
    kept: int
    saved: int
    faults: faults.Counts
    ended_by: WorkbenchError | None = field(default=None, compare=False)

    def check(self) -> None:
        """See that it came to its end.

        Raises:
            WorkbenchError: what ended it early.
        """
        if self.ended_by is not None:
            raise self.ended_by

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``workbench run --json`` prints it."""
        return {
            "run": self.run,
            "device": self.device,
            "frames": self.frames,
            "rate": self.rate,
            "raw_to_parameters": self.predicted.to_dict(),
            "raw_to_capture": self.captured.to_dict(),
            "push_to_capture": self.pushed.to_dict(),
            "in_device": self.in_device.to_dict(),
            "settle": self.settle,
            "cuts": self.cuts,
            "moved": self.moved,
            "moved_predicted": self.moved_predicted,
            "kept": self.kept,
            "saved": self.saved,
            **self.tally.to_dict(),
            "faults": self.faults,
            "ended_by": None if self.ended_by is None else str(self.ended_by),
        }
