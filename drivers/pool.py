"""Several boards of one parameter space as one device: all of them kept busy, a board that fails set aside.

Each board has a thread that opens it, checks it against the others, and hands it jobs through its own
:meth:`~drivers.device.Device.process_many`, so each keeps its own frames in flight. A board that fails is quarantined:
its unfinished jobs go to the others, and its thread opens and checks it again until it is back.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from drivers import registry, stopping
from drivers.device import DEFAULT_DEADLINE_S, Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceChangedError, DeviceError, DeviceUnreachableError, WorkbenchError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.pool_boards import Board, Job, given_up, nobody
from drivers.pool_comparison import Answers, check_jobs, compared

AHEAD = 64
"""Jobs drawn and not yet yielded, for each board."""
BUSY = 16
"""Jobs drawn for each board before what is ready is yielded."""
BYTES_AHEAD = 128 << 20
"""RAW bytes drawn and not yet processed, for each board; one job is always let through."""
RETRY_S, RETRY_MAX_S = 1.0, 15.0
"""Pause before a quarantined board is opened again; it doubles up to the second."""
MAX_STRIKES = 2
"""Frames in a row that a board may fail while it still answers, before it is quarantined."""
CLOSE_S = 2.0
POLL_S = 0.25


def open_devices(urls: Sequence[str], deadline_s: float = DEFAULT_DEADLINE_S, *, tolerance: int = 0) -> Device:
    """The device of one URL, or the pool of several.

    Raises:
        DeviceError: see :func:`drivers.registry.open_device` and :class:`DevicePool`.
    """
    if len(urls) == 1:
        return registry.open_device(urls[0], deadline_s)
    return DevicePool(urls, deadline_s, tolerance=tolerance)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a closed stderr must not end a board's thread
        print(line, file=sys.stderr, flush=True)


class DevicePool(Device):
    """Several boards as one device; use from one thread.

    A frame that a board refuses goes to another; refused by two, or with no other board in use, it is a failure. A
    board that refuses frames which another then makes is quarantined. A job whose board breaks down goes to another
    too; with two broken down the stream ends. When none takes a job for ``deadline_s`` seconds, it ends with an error.
    """

    def __init__(
        self,
        urls: Sequence[str],
        deadline_s: float = DEFAULT_DEADLINE_S,
        *,
        tolerance: int = 0,
        say: Callable[[str], None] = _say,
    ) -> None:
        """Open all boards at once and check them against each other.

        Args:
            urls: the boards.
            deadline_s: seconds that every call to a board may take, and that the pool waits for one to come back.
            tolerance: largest difference in 8-bit levels between two boards' outputs of the same RAW and parameters;
                0: the same bytes.
            say: told, in one line each, of boards that fail and come back; from the boards' threads.

        Raises:
            DeviceUnreachableError: no board answers. One that does not while others do is quarantined.
            DeviceError: a URL is malformed, a board is live, or the boards differ in model, firmware, parameter space
                or output.
        """
        if not urls:
            raise DeviceError("a pool needs at least one device URL")
        self.url = ", ".join(urls)
        self.deadline_s = deadline_s
        self.tolerance = tolerance
        self._say = say
        self._boards = [Board(url) for url in urls]
        self._queue: deque[Job] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._model: Answers | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(board,), name=f"board {board.url}", daemon=True)
            for board in self._boards
        ]
        try:
            for thread in self._threads:
                thread.start()
            with self._change:
                while any(board.opening for board in self._boards):
                    stopping.check()
                    self._change.wait(POLL_S)
                self._check_opened()
        except BaseException:
            self.close()
            raise

    def info(self) -> DeviceInfo:
        """What the boards have in common; ``serial`` and ``boot_id`` list those of all boards that were reached."""
        infos = [board.info for board in self._boards if board.info is not None]
        return replace(
            infos[0],
            serial=", ".join(dict.fromkeys(info.serial for info in infos)),
            boot_id=", ".join(info.boot_id for info in infos),
            max_in_flight=sum(info.max_in_flight for info in infos),
        )

    def units(self) -> dict[str, DeviceInfo]:
        """See :meth:`drivers.device.Device.units`."""
        return {board.url: board.info for board in self._boards if board.info is not None}

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Process one RAW on any board."""
        return self.single(raw, parameters)

    @property
    def counts(self) -> Counter[str]:
        """See :attr:`drivers.device.Device.counts`; those of all boards together."""
        return sum((board.counts for board in self._boards), Counter())

    def counts_by_unit(self) -> dict[str, Counter[str]]:
        """See :meth:`drivers.device.Device.counts_by_unit`."""
        units: dict[str, Counter[str]] = {}
        for board in self._boards:
            units.setdefault((board.info.serial if board.info else "") or board.url, Counter()).update(board.counts)
        return units

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """Captures of many jobs in their order, made by all boards together; each names its board's serial.

        Jobs are drawn in the caller's thread, a bounded number ahead. Closing the generator early drops what was not
        yielded.

        Raises:
            DeviceUnreachableError: every board was quarantined for ``deadline_s`` seconds.
            DeviceError: a job broke two boards down.
            ParameterError: a set is not of the boards' space.
        """
        source = iter(jobs)
        pending: deque[Job] = deque()
        exhausted = False
        try:
            while True:
                while not exhausted and self._room(pending):
                    pair = next(source, None)
                    if pair is None:
                        exhausted = True
                        break
                    job = Job(*pair, size=pair[0].mosaic.nbytes)
                    pending.append(job)
                    with self._change:
                        self._queue.append(job)
                        self._change.notify_all()
                if not pending:
                    return
                self._wait_for(pending[0])
                job = pending.popleft()
                if job.error is not None:
                    raise job.error
                assert job.result is not None
                yield job.result
        finally:
            with self._change:
                for job in pending:
                    job.dropped = True
                self._queue = deque(job for job in self._queue if not job.dropped)

    def close(self) -> None:
        """Let go of all boards; a thread that still waits for its board's answer is left to its deadline."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        end = time.monotonic() + CLOSE_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(end - time.monotonic(), 0))

    # ---- in the caller's thread ------------------------------------------------------------------------------------

    def _check_opened(self) -> None:
        failed = [board for board in self._boards if board.error is not None]
        for board in failed:
            assert board.error is not None
            if not isinstance(board.error, DeviceUnreachableError):
                raise board.error
        if len(failed) == len(self._boards):
            reasons = "; ".join(str(board.error) for board in failed)
            raise DeviceUnreachableError(f"none of the {len(failed)} devices answers: {reasons}")

    def _room(self, pending: deque[Job]) -> bool:
        """Whether to draw another job. What is ready is yielded first, unless the boards would run dry."""
        boards = len(self._boards)
        waiting = [job.size for job in pending if not job.done]
        if pending and pending[0].done and len(waiting) >= BUSY * boards:
            return False
        return len(pending) < AHEAD * boards and (not waiting or sum(waiting) < BYTES_AHEAD * boards)

    def _wait_for(self, job: Job) -> None:
        """Until the job is done.

        Raises:
            DeviceUnreachableError: no board could take it for ``deadline_s`` seconds.
        """
        since = time.monotonic()
        with self._change:
            while not job.done:
                stopping.check()
                if self._closing:
                    raise DeviceError(f"{self.url}: the device is closed")
                now = time.monotonic()
                if any(board.may_take(job) for board in self._boards):
                    since = now
                elif job.refusals:  # nobody else is left to try it
                    if job in self._queue:
                        self._queue.remove(job)
                    job.raw, job.result = None, job.refusals[0][1]
                    return
                elif now - since >= self.deadline_s:
                    raise nobody(self._boards, job, now - since)
                self._change.wait(POLL_S)

    # ---- in a board's thread ---------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closing:
            raise DeviceError(f"{self.url}: the device is closed")

    def _run(self, board: Board) -> None:
        with stopping.checked(self._check_open):
            self._serve(board)

    def _serve(self, board: Board) -> None:
        pause = RETRY_S
        while not self._closing:
            device = self._enter(board)
            if device is not None:
                pause = RETRY_S
                try:
                    while self._work(board, device):
                        pass
                finally:
                    board.let_go(device)
            with self._change:
                self._change.wait_for(lambda: self._closing, pause)
            pause = min(2 * pause, RETRY_MAX_S)

    def _enter(self, board: Board) -> Device | None:
        """Open the board and check it against the others; None where it stays out."""
        device = None
        first = board.opening
        try:
            device = board.device = registry.open_device(board.url, self.deadline_s)
            info = device.info()
            if info.live:
                raise DeviceError(f"{board.url}: a live device cannot be checked against others; use it alone")
            captures = list(device.process_many(check_jobs(info)))
            with self._change:
                self._model = compared(self._model, Answers(board.url, info, captures), self.tolerance)
                board.info, board.error, board.opening, board.strikes = info, None, False, 0
                self._change.notify_all()
            if not first:
                self._say(f"device {board.url} is back (boot {info.boot_id}) and takes work again")
            return device
        except Exception as error:  # whatever it is, the thread lives on and the caller is told
            if device is not None:
                board.let_go(device)
            with self._change:
                news = first or str(error) != str(board.error)
                board.error, board.opening = error, False
                self._change.notify_all()
            if news and not self._closing and not (first and not isinstance(error, DeviceUnreachableError)):
                self._say(f"device {board.url} is quarantined: {board.reason(error)}")
            return None

    def _work(self, board: Board, device: Device) -> bool:
        """Process jobs while there are any; False when the board has to be left."""
        with self._change:
            self._change.wait_for(
                lambda: self._closing or board.strikes >= MAX_STRIKES or any(board.may_take(job) for job in self._queue)
            )
            if self._closing:
                return False
        if board.strikes >= MAX_STRIKES:
            return self._set_aside(board)
        stream = device.process_many(self._draw(board))
        try:
            for result in stream:
                self._done(board, result)
                if self._closing:
                    return False
                if board.strikes >= MAX_STRIKES:
                    return self._set_aside(board)
            if board.taken:
                raise DeviceError(f"{board.url}: gave {len(board.taken)} captures less than it was given jobs")
        except Exception as error:  # of any kind: it goes to the job's caller or sets the board aside
            return self._failed(board, error)
        finally:
            if isinstance(stream, Generator):
                stream.close()
        return True

    def _draw(self, board: Board) -> Iterator[tuple[RawFrame, ParameterSet]]:
        """The board's jobs, as it takes them. Ends where there is none for now: waiting here would keep the driver
        from giving what has arrived."""
        while True:
            with self._change:
                job = self._next(board)
                if job is None:
                    return
                board.taken.append(job)
            assert job.raw is not None
            yield job.raw, job.parameters

    def _next(self, board: Board) -> Job | None:
        active = [other for other in self._boards if other.active]
        unfinished = len(self._queue) + sum(len(other.taken) for other in active)
        # No more than its share: of the last few jobs each board gets some.
        if self._closing or not active or len(board.taken) >= max(1, -(-unfinished // len(active))):
            return None
        for i, job in enumerate(self._queue):
            if board.may_take(job):
                del self._queue[i]
                return job
        return None

    def _done(self, board: Board, result: Capture | Failure) -> None:
        assert board.info is not None
        result = replace(result, serial=result.serial or board.info.serial)
        refused = False
        with self._change:
            job = board.taken.popleft()
            if isinstance(result, Failure):
                job.refusals.append((board, result))
                refused = (
                    not job.dropped and len(job.refusals) == 1 and any(other.may_take(job) for other in self._boards)
                )
            else:
                board.strikes = 0
                for other, _ in job.refusals:
                    other.strikes += 1
            if refused:
                self._queue.appendleft(job)
            else:
                job.raw, job.result = None, result
            self._change.notify_all()
        if refused and isinstance(result, Failure) and not self._closing:
            self._say(f"device {board.url} failed a frame: {result.reason}; it goes to the other devices")

    def _set_aside(self, board: Board) -> bool:
        """Quarantine a board that refuses what others make; never goes on."""
        with self._change:
            jobs = [job for job in board.taken if not job.dropped]
            board.taken.clear()
            self._queue.extendleft(reversed(jobs))
            board.error = DeviceError(f"{board.url}: refused {board.strikes} frames that another device made")
            self._change.notify_all()
        if not self._closing:
            self._say(f"device {board.url} is quarantined: {board.reason(board.error)}")
        return False

    def _failed(self, board: Board, error: Exception) -> bool:
        """Give the board's jobs back; whether it may go on."""
        with self._change:
            jobs = [job for job in board.taken if not job.dropped]
            board.taken.clear()
            # Drivers give captures in order, so what ended the stream concerns the first job that is not done.
            if jobs and isinstance(error, DeviceError):
                jobs[0].failures.append((board, error))
                jobs[0].error = given_up(jobs[0])
            elif jobs:
                jobs[0].error = error
            self._queue.extendleft(job for job in reversed(jobs) if job.error is None)
            board.strikes += isinstance(error, DeviceError)
            # What is wrong with the job (a parameter) is no fault of the board; an error that nobody foresaw may be.
            leaves = isinstance(error, DeviceUnreachableError | DeviceChangedError)
            stays = isinstance(error, WorkbenchError) and not leaves and board.strikes < MAX_STRIKES
            if not stays:
                board.error = error
            self._change.notify_all()
        if not self._closing and not (stays and board.strikes == 0):
            count = sum(job.error is None for job in jobs)
            what = "failed a frame" if stays else "is quarantined"
            frames = f"{count} unfinished frame{' goes' if count == 1 else 's go'} to the other devices"
            self._say(f"device {board.url} {what}: {board.reason(error)}; {frames}")
        return stays
