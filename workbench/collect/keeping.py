"""Answers of a device as they come: judged, kept in batches, and handed on once they are in the data set.

Answers are judged as they come and a batch is kept while the next one comes in, in threads of their own: the device
does not wait for decoders and the disk, and after the last answer little is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from drivers.device import OUTPUT, Capture, Failure
from drivers.errors import FrameError
from drivers.frames import RgbFrame
from workbench.collect.failures import FailureTally
from workbench.lab.dataset import CaptureRecord, FailureRecord

BATCH_S = 0.5
"""Answers that wait this long, in seconds, are kept though their batch is not full."""
AT_ONCE = 2
"""Batches up to this size are waited for: their device is slow, and what it made is told before its next answer."""

JUDGES = 2
"""Answers that are judged at a time."""

Outcome = CaptureRecord | FailureRecord
"""What a job came to: both are in the data set."""

Answer = TypeVar("Answer")
Accepted = TypeVar("Accepted")
Kept = TypeVar("Kept")


def kept(
    url: str,
    answers: Iterable[Answer],
    accept: Callable[[Answer], Accepted],
    *,
    judge: Callable[[Accepted], Accepted],
    keep: Callable[[list[Accepted]], Kept],
    take: Callable[[Kept], None],
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
        accept: sees that an answer is one to what was asked, and makes of it what ``keep`` takes.
        judge: what is kept of an answer: itself, or a failure where it is no picture; runs in other threads.
        keep: keeps a batch durably; runs in another thread, one batch at a time.
        take: takes in what ``keep`` gave, and tells the tally of it.
        ready: the outcomes that have become ready; called after each batch.
        tally: of the frames asked now.
        batch: answers in a commit.

    Raises:
        TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
    """
    waiting: list[Future[Accepted]] = []
    storing: Future[Kept] | None = None
    writer = ThreadPoolExecutor(1, thread_name_prefix="keeping")
    judges = ThreadPoolExecutor(JUDGES, thread_name_prefix="judging")

    def judge_and_keep(batch: list[Future[Accepted]]) -> Kept:
        return keep([judging.result() for judging in batch])

    def finish() -> None:
        nonlocal storing
        # Forgotten first: a batch that could not be kept is not tried again on the way out.
        future, storing = storing, None
        if future is not None:
            take(future.result())

    def begin() -> None:
        nonlocal storing
        finish()
        batch_now = list(waiting)
        waiting.clear()
        if batch_now:
            storing = writer.submit(judge_and_keep, batch_now)
            if len(batch_now) <= AT_ONCE:
                finish()

    last = time.monotonic()
    try:
        for answer in answers:
            waiting.append(judges.submit(judge, accept(answer)))
            if len(waiting) >= batch or time.monotonic() - last >= BATCH_S:
                begin()
                last = time.monotonic()
            elif storing is not None and storing.done():
                finish()
            else:
                continue
            tally.check(url)
            yield from ready()
        begin()
        finish()
        tally.check(url)
        yield from ready()
    except Exception:
        begin()
        finish()
        yield from ready()
        raise
    finally:
        try:
            begin()
            finish()
        finally:
            writer.shutdown()
            judges.shutdown()
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
