"""A device that speaks PROTOCOL.md over any link: several frames in flight, reconnects by itself.

A capture is accepted only if request id, boot id, RAW hash, parameter hash, codes in force and the payload's hash all
agree with what was asked for. Requests are idempotent, so after a lost connection, a reboot or a long silence the
outstanding ones are sent again. A device without an echo is used by read-back and a settle count.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

import numpy as np

from drivers import device_urls, stopping
from drivers.device import DEFAULT_DEADLINE_S, OUTPUT, Capture, Failure, FrameFailedError
from drivers.errors import DeviceError, DeviceUnreachableError, FrameError, ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol import wire
from drivers.protocol.frame_jobs import Job, what_came
from drivers.protocol.held_raws import HeldRaws
from drivers.protocol.protocol_client import BUSY_S, OPEN_DEADLINE_S, ProtocolClient

MAX_BYTES_IN_FLIGHT = 128 << 20
FRAMES_KNOWN = 64
"""Frames taken last, none of which answers another request: a device that stands still gives one again and again."""
MAX_REFUSALS = 5
"""Answers to one request that may fail their proof before the job is given up."""

FRAME_ERRORS = ("failed", "bad_raw", "too_large", "burst")
"""Errors of the protocol that are about one frame: the device could not process this RAW with these parameters, or
takes no such RAW. The others say that the bench is wrong (``bad_register`` …) or the link (``raw_hash``)."""


_Result = tuple[RawFrame, Capture] | Failure


class ProtocolDevice(ProtocolClient):
    """The driver; use from one thread. Transports subclass it and give its link.

    Attributes:
        counts: what went wrong and was mended: ``stale`` answers discarded, ``refused`` answers that failed their
            proof, ``garbage`` that did not decode, ``busy`` answers, ``reconnects``, ``reboots``, ``resent`` requests,
            ``unsettled`` sequences of frames that were begun again, ``overlong`` messages that did not end.
        settle: frames to discard before the one that counts (``?settle=`` of the URL); None where the URL says nothing.
    """

    def __init__(
        self, url: str, deadline_s: float = DEFAULT_DEADLINE_S, *, open_deadline_s: float = OPEN_DEADLINE_S
    ) -> None:
        """Connect, and learn who answers.

        Raises:
            DeviceError: the deadline is not above 0, the settle count is odd, or the link cannot be opened.
            DeviceUnreachableError: nobody answers within the deadline or ``open_deadline_s``, whichever is shorter.
            ProtocolError: what answers does not speak the protocol.
        """
        self.settle = device_urls.settle_count(url)
        self._outstanding: dict[int, Job] = {}
        self._accepted = "", 0
        self._frames: deque[tuple[str, int]] = deque(maxlen=FRAMES_KNOWN)
        self._busy_text = ""
        self._held = HeldRaws[bool](0)
        super().__init__(url, deadline_s, open_deadline_s=open_deadline_s)

    # ---- what the bench asks ---------------------------------------------------------------------------------------

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Process one RAW with one parameter set; see :meth:`drivers.device.Device.process`."""
        return self.single(raw, parameters)

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """Captures of many jobs in their order, with several frames in flight.

        A frame that the device refuses for itself (:data:`FRAME_ERRORS`) is a failure in its place. What has arrived
        is yielded before an error is raised. Closing the generator early drops the outstanding answers.

        Raises:
            DeviceUnreachableError: no frame arrived for ``deadline_s`` seconds while one was due.
            DeviceError: the device refused a job as wrong, its answers did not prove the parameters five times, it has
                no echo and no settle count is known, or it takes no stored RAWs.
            ParameterError: a set is not of the device's space.
        """
        if self._info.live:
            raise DeviceError(
                f"{self.url}: this device photographs what is before it; `workbench collect` without --raws"
            )
        with closing(self._captures(jobs)) as captures:
            for result in captures:
                yield result if isinstance(result, Failure) else result[1]

    def capture(self, parameters: ParameterSet) -> tuple[RawFrame, Capture]:
        """Photograph what is before the device; see :meth:`drivers.device.Device.capture`."""
        (result,) = self.capture_many([parameters])
        if isinstance(result, Failure):
            raise FrameFailedError.of(self.url, result)
        return result

    def capture_many(self, sets: Iterable[ParameterSet]) -> Iterator[tuple[RawFrame, Capture] | Failure]:
        """Photographs with many parameter sets, in their order; see :meth:`process_many` for the errors."""
        if not self._info.live:
            raise DeviceError(f"{self.url}: this device takes stored RAWs and has no camera of its own; give it --raws")
        with closing(self._captures((None, parameters) for parameters in sets)) as captures:
            yield from captures

    def _captures(self, jobs: Iterable[tuple[RawFrame | None, ParameterSet]]) -> Generator[_Result, None, None]:
        if self.settle is None and not self._info.echo:
            raise DeviceError(
                f"{self.url}: this device's frames do not prove their parameters; measure its settle count with "
                f"`workbench device settle {self.url}` and use the URL that it prints"
            )
        if self._info.input.frames > 1:
            for raw, parameters in jobs:
                yield self._burst(raw, parameters)
            return
        if self._info.echo and not self.settle:
            yield from self._stream(jobs)
            return
        for raw, parameters in jobs:
            yield self._settled(raw, parameters, self.settle or 0)

    def _settled(self, raw: RawFrame | None, parameters: ParameterSet, settle: int) -> _Result:
        """The frame after ``settle`` others of the same request, between two read-backs that agree (section 8)."""
        start = time.monotonic()
        for _ in range(MAX_REFUSALS):
            asked = parameters.by_name
            self.write_registers(asked)
            with closing(self._stream([(raw, parameters)] * (settle + 1))) as stream:
                results = list(stream)
            if failures := [result for result in results if isinstance(result, Failure)]:
                return failures[0]
            frames = [result for result in results if not isinstance(result, Failure)]
            taken, last = frames[-1]
            in_a_row = [c.frame for _, c in frames] == list(range(last.frame - settle, last.frame + 1))
            boot_id, accepted = self._accepted
            is_new = last.boot_id != boot_id or last.frame - settle > accepted
            back = self._values(wire.Read(self._new_id(), "active"))
            others = self._others(self._named(back.registers), asked)
            if is_new and in_a_row and {c.boot_id for _, c in frames} == {back.boot_id} and not others:
                self._accepted = last.boot_id, last.frame
                return taken, dataclasses.replace(last, total_s=time.monotonic() - start)
            self.counts["unsettled"] += 1
        raise DeviceError(
            f"{self.url}: {MAX_REFUSALS} times other frames came between, or other registers were read back than were "
            f"written{others and f' ({others})'}; does somebody else use the device?"
        )

    def _burst(self, raw: RawFrame | None, parameters: ParameterSet) -> _Result:
        """The last frame of a burst of one parameter set; begun again where another frame came between."""
        start = time.monotonic()
        if raw is not None and (failure := self._info.refused(raw, parameters)):
            return failure
        frames = [None] * self._info.input.frames if raw is None else raw.burst
        for _ in range(MAX_REFUSALS):
            with closing(self._stream([(frame, parameters) for frame in frames], burst=True)) as stream:
                results = list(stream)
            if failures := [result for result in results if isinstance(result, Failure)]:
                if failures[0].code != "burst":
                    return dataclasses.replace(failures[0], raw_hash=raw.hash if raw else "")
                self.counts["unsettled"] += 1
                continue
            taken = [result for result in results if not isinstance(result, Failure)]
            last, capture = taken[-1]
            whole = raw or dataclasses.replace(last, earlier=np.stack([frame.mosaic for frame, _ in taken[:-1]]))
            return whole, dataclasses.replace(capture, raw_hash=whole.hash, total_s=time.monotonic() - start)
        raise DeviceError(f"{self.url}: {MAX_REFUSALS} times frames came between a burst's; who else uses the device?")

    def _stream(
        self, jobs: Iterable[tuple[RawFrame | None, ParameterSet]], *, burst: bool = False
    ) -> Generator[_Result, None, None]:
        source = iter(jobs)
        window: deque[Job] = deque()
        exhausted, follows = False, 0 if burst else None
        try:
            while True:
                while not exhausted and self._room(window):
                    pair = next(source, None)
                    if pair is None:
                        exhausted = True
                        break
                    window.append(self._start(*pair, follows))
                    follows = window[-1].request.id if burst else None
                if not window:
                    return
                # The clock runs only while the bench waits here: a slow consumer or source is not the device's fault.
                self._wait_for(window[0])
                while window and window[0].done:
                    job = window.popleft()
                    if job.error:
                        raise job.error
                    if job.failure:
                        yield job.failure
                        continue
                    assert job.raw is not None
                    assert job.capture is not None
                    yield job.raw, job.capture
        finally:
            for job in window:
                self._outstanding.pop(job.request.id, None)

    def _take_info(self, answer: wire.Info) -> None:
        known = self._known
        super()._take_info(answer)
        if known is None or known.boot_id != answer.boot_id:
            self._held = HeldRaws(answer.holds)

    # ---- frames ----------------------------------------------------------------------------------------------------

    def _room(self, window: deque[Job]) -> bool:
        return len(window) < self._limit and (
            not window or sum(job.raw.mosaic.nbytes for job in window if job.raw) < MAX_BYTES_IN_FLIGHT
        )

    def _start(self, raw: RawFrame | None, parameters: ParameterSet, follows: int | None) -> Job:
        """Send a job. One that the device cannot take becomes an error or a failure in its turn.

        ``follows``: the request before it in its burst, 0: there is none; None: it is no frame of a burst.
        """
        space = self._info.space
        if parameters.space.hash != space.hash:
            text = f"{self.url}: the parameter set is of {parameters.space.name}, the device has {space.name}"
            return Job(raw, parameters, error=ParameterError(text))
        if raw is not None:
            size = self._info.input.size(raw.width, raw.height)
            if size > self._max_payload:
                text = f"the RAW has {size} bytes, the device takes {self._max_payload} at most"
                return Job(raw, parameters, failure=self._failure(raw, parameters, "too_large", text))
            if follows is None and (failure := self._info.refused(raw, parameters)):
                return Job(raw, parameters, failure=failure)
        registers = tuple(self._registers.words(parameters.by_name).items())
        request: wire.Process | wire.CaptureRequest
        if raw is None:
            request = wire.CaptureRequest(self._new_id(), registers, follows or 0)
        else:
            request = wire.process_request(self._new_id(), raw, registers, self._info.input)
            request = dataclasses.replace(request, follows=follows or 0)
        job = Job(raw, parameters, request)
        self._outstanding[job.request.id] = job
        job.sent = time.monotonic()
        if not self._hello or self._probed:  # else it goes out once the device has said who it is
            self._send(self._first(job, burst=follows is not None))
        return job

    def _first(self, job: Job, *, burst: bool) -> wire.FrameRequest:
        """What is sent of a job at first: without pixels where the device holds the RAW. A burst goes whole: its frames
        name each other, so that none may be sent again between them."""
        request = job.request
        if isinstance(request, wire.CaptureRequest):
            return request
        if burst or not self._held.asked(request.raw_hash):
            self._held.keep(request.raw_hash, len(request.payload), True)
            return request
        job.of_held = True
        return dataclasses.replace(request, payload=b"")

    def _wait_for(self, job: Job) -> None:
        """Handle what arrives until the job is done; every frame that ends starts the next one's deadline.

        Only a frame that ends does: the deadline runs on over ``busy``, stale, refused and unreadable answers.

        Raises:
            DeviceUnreachableError: no frame ended for ``deadline_s`` seconds.
        """
        progress = asked = time.monotonic()
        before = Counter(self.counts)
        while not job.done:
            answer = self._receive(0.0)
            if answer is None:
                now = time.monotonic()
                # A third of the deadline without a frame: ask whether the device lives. If it says so, outstanding
                # requests are sent again; one that it still has waiting it takes only once.
                if now - asked >= self.deadline_s / 3:
                    asked = now
                    if self._hello:
                        self._send(wire.Hello(self._hello, wire.LATEST))  # the question may have been lost too
                    else:
                        self._probe()
                left = progress + self.deadline_s - now
                answer = self._receive(max(min(left, self.deadline_s / 3, stopping.SLICE_S), 0.0))
            if answer is not None and self._take(answer):
                progress = asked = time.monotonic()
                before = Counter(self.counts)
            elif (waited_s := time.monotonic() - progress) >= self.deadline_s and not job.done:
                raise self._no_frame(waited_s, self.counts - before)

    def _take(self, answer: wire.Message) -> bool:
        """Whether the answer brought a job to its end."""
        if isinstance(answer, wire.Info) and self._hello and answer.id == self._hello:
            self._hello = 0
            self._take_info(answer)
            self._resend()
            return False
        job = self._outstanding.get(answer.id)
        if job is None or not isinstance(answer, wire.Frame | wire.Error):
            self.counts["stale"] += 1
            return False
        if isinstance(answer, wire.Error):
            return self._take_error(job, answer)
        if answer.boot_id != self._info.boot_id:
            # It rebooted without losing the connection: hear who it is now, then send everything again.
            self.counts["stale"] += 1
            if not self._hello:
                self._probe()
            return False
        if problem := self._disproof(job, answer):
            return self._refuse(job, problem)
        if hashlib.sha256(answer.payload).hexdigest() != answer.output_hash:
            return self._refuse(job, "the output's hash is not that of the pixels")
        if job.raw is None:
            try:
                job.raw = wire.raw_frame(answer, self._info.input)
            except wire.MessageError as error:
                return self._refuse(job, str(error))
        try:
            rgb = wire.picture(answer, self._info.output, job.raw.width, job.raw.height)
        except FrameError as error:
            return self._fail_frame(job, OUTPUT, str(error))
        job.capture = Capture(
            raw_hash=job.raw.hash,
            parameters=job.parameters,
            parameters_in_force=self._named(answer.registers if self._info.echo else job.request.registers),
            rgb=rgb,
            boot_id=answer.boot_id,
            frame=answer.frame,
            device_s=answer.device_ns / 1e9,
            total_s=time.monotonic() - job.sent,
            statistics=answer.statistics,
        )
        self._frames.append((answer.boot_id, answer.frame))
        del self._outstanding[job.request.id]
        self._reboots = 0
        return True

    def _disproof(self, job: Job, answer: wire.Frame) -> str | None:
        """Why the answer does not prove that it is this job's, or None."""
        request = job.request
        if isinstance(request, wire.Process) and answer.raw_hash != request.raw_hash:
            return f"it is of RAW {answer.raw_hash[:12]}, not {request.raw_hash[:12]}"
        if set(answer.statistics) != {s.name for s in self._info.space.statistics}:
            return "its statistics are not those that INFO announces"
        if not self._info.echo:
            return None
        asked, found = dict(request.registers), dict(answer.registers)
        if found != asked:
            codes = self._registers.codes({address: found[address] for address in asked if address in found})
            others = self._others(codes, job.parameters.by_name) or "registers that it was not asked for"
            return f"it was made with other parameters than asked for: {others}"
        if answer.parameters_hash != job.parameters.hash:
            made_with = answer.parameters_hash[:12] or "unknown"
            return f"it was made with parameters {made_with}, not {job.parameters.hash[:12]}"
        if (answer.boot_id, answer.frame) in self._frames:
            return f"it is frame {answer.frame} again, which answered another request"
        return None

    def _take_error(self, job: Job, answer: wire.Error) -> bool:
        if answer.code == "busy":
            self.counts["busy"] += 1
            self._busy_text = answer.text
            time.sleep(BUSY_S)
            self._send(job.request)
            return False
        if answer.code == "no_raw" and job.of_held:  # it may forget at any time
            job.of_held = False
            self._send(job.request)
            return False
        if answer.code in ("raw_hash", "no_raw"):
            return self._refuse(job, answer.text)
        if answer.code in FRAME_ERRORS:
            text = f"the device refused the frame ({answer.code}): {answer.text}"
            return self._fail_frame(job, answer.code, text)
        return self._fail(job, DeviceError(f"{self.url}: the device refused a frame ({answer.code}): {answer.text}"))

    def _fail_frame(self, job: Job, code: str, reason: str) -> bool:
        job.failure = self._failure(job.raw, job.parameters, code, reason)
        del self._outstanding[job.request.id]
        self._reboots = 0
        return True

    def _failure(self, raw: RawFrame | None, parameters: ParameterSet, code: str, reason: str) -> Failure:
        return Failure("" if raw is None else raw.hash, parameters, code, reason, self._info.boot_id)

    def _refuse(self, job: Job, problem: str) -> bool:
        self.counts["refused"] += 1
        job.refusals += 1
        if job.refusals < MAX_REFUSALS:
            self.counts["resent"] += 1
            self._send(job.request)
            return False
        text = f"{self.url}: answer to frame request refused {MAX_REFUSALS} times: {problem}"
        return self._fail(job, DeviceError(f"{text}; check the device with `workbench device check {self.url}`"))

    def _fail(self, job: Job, error: DeviceError) -> bool:
        job.error = error
        del self._outstanding[job.request.id]
        return True

    def _resend(self) -> None:
        for job in self._outstanding.values():
            self.counts["resent"] += 1
            self._send(job.request)

    def _unreadable(self, error: wire.MessageError) -> None:
        job = self._outstanding.get(error.request_id)
        if job is not None:
            self._refuse(job, str(error))
        else:
            super()._unreadable(error)

    def _no_frame(self, waited_s: float, since: Counter[str]) -> DeviceUnreachableError:
        told = what_came(since)
        if not since["busy"] and not since["stale"]:
            return self._unreachable(waited_s, f" ({told})" if told else "")
        if since["busy"] and self._busy_text:
            told += f" (it said: {self._busy_text})"
        return DeviceUnreachableError(
            f"{self.url}: no frame in {waited_s:.1f} s, but {told}; look at the device, or give it longer "
            "with ?deadline=SECONDS in its URL"
        )
