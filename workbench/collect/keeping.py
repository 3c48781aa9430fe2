"""Answers of a device as they come: judged, kept in batches, and handed on once they are in the data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from drivers.device import OUTPUT, Capture, Failure
from drivers.errors import FrameError
from drivers.frames import RgbFrame
from workbench.collect.failures import FailureTally
from workbench.lab.dataset import CaptureRecord, FailureRecord

BATCH_S = 0.5
"""Answers that wait this long, in seconds, are kept though their batch is not full."""

Outcome = CaptureRecord | FailureRecord
"""What a job came to: both are in the data set."""

Answer = TypeVar("Answer")
Judged = TypeVar("Judged")


def kept(
    url: str,
    answers: Iterable[Answer],
    judge: Callable[[Answer], Judged],
    *,
    keep: Callable[[list[Judged]], None],
    ready: Callable[[], Iterator[Outcome]],
    tally: FailureTally,
    batch: int,
) -> Generator[Outcome, None, None]:
    """Keep what a device answers and give what is ready after each commit.

    Whatever ends the stream early (an error, Ctrl-C, a consumer that stops), what came is kept first; after an error
    what is ready is still given before it is raised.

    Args:
        url: of the device, for messages.
        answers: of the device, in order; closed at the end where it is a generator.
        judge: makes of an answer what is kept.
        keep: keeps a batch durably, and tells the tally of it.
        ready: the outcomes that have become ready; called after each batch.
        tally: of the frames asked now.
        batch: answers in a commit.

    Raises:
        TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
    """
    waiting: list[Judged] = []

    def commit() -> None:
        # Emptied first: a batch that could not be kept is not tried again on the way out.
        batch_now = list(waiting)
        waiting.clear()
        if batch_now:
            keep(batch_now)

    last = time.monotonic()
    try:
        for answer in answers:
            waiting.append(judge(answer))
            if len(waiting) >= batch or time.monotonic() - last >= BATCH_S:
                commit()
                last = time.monotonic()
                tally.check(url)
                yield from ready()
        commit()
        tally.check(url)
        yield from ready()
    except Exception:
        commit()
        yield from ready()
        raise
    finally:
        commit()
        if isinstance(answers, Generator):
            answers.close()


def judged(answer: Capture | Failure, width: int, height: int) -> Capture | Failure:
    """The answer as it is kept: a capture whose output is no picture of a RAW of that size becomes a failure."""
    if isinstance(answer, Failure):
        return answer
    try:
        # A frame of its own: the pixels of a whole batch would fill the memory.
        RgbFrame(answer.rgb.encoded, answer.rgb.media_type).check(width, height)
    except FrameError as error:
        return Failure(answer.raw_hash, answer.parameters, OUTPUT, str(error), answer.boot_id, answer.serial)
    return answer
