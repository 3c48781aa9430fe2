"""The boards of a pool and the jobs that they are given."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.device import Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceError, DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet

MAX_FAILURES = 3
"""Times that a job may fail on one board alone; on two boards once each is enough."""


@dataclass(eq=False)
class Job:
    """One frame asked for; ``raw`` is let go once it is done.

    ``failures``: errors that ended a board's stream at this frame; ``refusals``: boards that refused the frame itself.
    """

    raw: RawFrame | None
    parameters: ParameterSet
    size: int
    failures: list[tuple[Board, DeviceError]] = field(default_factory=list)
    refusals: list[tuple[Board, Failure]] = field(default_factory=list)
    result: Capture | Failure | None = None
    error: Exception | None = None
    dropped: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.result is not None or self.error is not None


@dataclass(eq=False)
class Board:
    """One URL. ``error`` says why it is not in use; None with ``opening`` false: it is.

    ``strikes``: frames in a row that it failed, or that it refused and another board then made. ``past``: counts of
    its earlier connections.
    """

    url: str
    opening: bool = True
    error: Exception | None = None
    info: DeviceInfo | None = None
    taken: deque[Job] = field(default_factory=deque)
    strikes: int = 0
    device: Device | None = None
    past: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """What went wrong and was mended, on all its connections."""
        return self.past + (Counter(self.device.counts) if self.device else Counter())

    def let_go(self, device: Device) -> None:
        """Close it; what it counted stays."""
        device.close()
        self.past, self.device = self.past + device.counts, None

    @property
    def active(self) -> bool:
        """Whether it is in use."""
        return not self.opening and self.error is None

    def may_take(self, job: Job) -> bool:
        """Not what it failed while it still answered; when it went silent the job may not have been to blame."""
        refused = any(board is self for board, _ in job.refusals)
        return (
            self.active
            and not refused
            and all(board is not self or isinstance(error, DeviceUnreachableError) for board, error in job.failures)
        )

    def reason(self, error: Exception) -> str:
        """The error without the URL, which the line names already."""
        return str(error).removeprefix(f"{self.url}: ")


def given_up(job: Job) -> DeviceError | None:
    """Why the job is given up: it failed on two boards, or again and again on one."""
    boards = dict.fromkeys(board.url for board, _ in job.failures)
    if len({id(board) for board, _ in job.failures}) < 2 and len(job.failures) < MAX_FAILURES:
        return None
    reasons = "; ".join(dict.fromkeys(f"{board.url}: {board.reason(error)}" for board, error in job.failures))
    silent = all(isinstance(error, DeviceUnreachableError) for _, error in job.failures)
    kind = DeviceUnreachableError if silent else DeviceError
    return kind(f"a frame failed {len(job.failures)} times on {' and '.join(boards)}: {reasons}")


def nobody(boards: Sequence[Board], job: Job, waited_s: float) -> DeviceError:
    """Why no board could take a job for so many seconds."""
    for _, error in job.failures:
        if not isinstance(error, DeviceUnreachableError):
            return type(error)(f"{error}; no other device came to try it in {waited_s:.1f} s")
    reasons = "; ".join(f"{board.url}: {board.reason(board.error)}" for board in boards if board.error)
    return DeviceUnreachableError(
        f"all {len(boards)} devices of the pool are quarantined for {waited_s:.1f} s: {reasons}"
    )
