"""``libraw:`` LibRaw as a third-party ISP, through rawpy, in a process of its own.

LibRaw is native code that has crashed on some files, so it runs in a child process that is killed at the deadline and
started again by the next call. Frames are handed over as DNG; the output is PNG of the mosaic's size.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from drivers import stopping
from drivers.device import DEFAULT_DEADLINE_S, Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceError, DeviceUnreachableError, FrameError
from drivers.foreign_text import shown
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.programs.libraw_child import MIN_SIDE, read_message, write_message
from drivers.raw.dng import dng_bytes

Message = tuple[dict[str, Any], bytes]
_Sent = tuple[int, RawFrame, ParameterSet, float]
# The slowest settings take about a second a megapixel on a free core; a bench with other work may be much slower.
S_PER_MEGAPIXEL = 10.0


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The device of ``libraw:``; the process starts with the first call.

    Raises:
        DeviceError: something follows the colon.
    """
    if rest := url.partition(":")[2].strip("/"):
        raise DeviceError(f"device URL {url!r}: libraw: takes nothing after the colon, not {rest!r}")
    return LibRawDevice(url, deadline_s)


class LibRawDevice(Device):
    """LibRaw in a child process. Two frames are in flight: one being processed, one handed over meanwhile.

    A frame's deadline is ``deadline_s``, and ``S_PER_MEGAPIXEL`` more for each megapixel beyond the first.
    """

    def __init__(self, url: str = "libraw:", deadline_s: float = DEFAULT_DEADLINE_S):
        self.url = url
        self.deadline_s = deadline_s
        self._child: _Child | None = None
        self._info: DeviceInfo | None = None
        self._next_id = 0
        self._raw_there = ""

    def info(self) -> DeviceInfo:
        """LibRaw's and rawpy's versions, and the parameters of this LibRaw.

        Raises:
            DeviceUnreachableError: the process did not start before the deadline.
        """
        if self._child is not None and not self._child.alive:
            self.close()
        if self._child is None or self._info is None:
            self._child = _Child()
            hello, _ = self._receive(time.monotonic() + self.deadline_s, self.deadline_s, "its start")
            self._info = DeviceInfo(
                model="libraw",
                firmware=hello["firmware"],
                serial="",
                boot_id=hello["boot_id"],
                space=ParameterSpace.from_dict(hello["space"]),
                max_in_flight=2,
            )
        return self._info

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Process one RAW.

        Raises:
            FrameFailedError: LibRaw refused the frame, crashed on it, or did not end before the deadline.
            DeviceUnreachableError: the process does not start.
        """
        return self.single(raw, parameters)

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """Captures in the order of the jobs; the next frame is written while LibRaw works on this one.

        A frame that LibRaw refuses, crashes on or does not end before the deadline is a failure in its place.
        """
        pending: collections.deque[_Sent | Failure] = collections.deque()
        for raw, parameters in jobs:
            if not pending:
                self.info()  # starts a process that ended meanwhile; one that holds a frame is seen in its turn
            pending.append(self._submit(raw, parameters))
            if len(pending) == 2:
                yield self._next(pending)
        while pending:
            yield self._next(pending)

    def close(self) -> None:
        """End the process."""
        child, self._child, self._info, self._raw_there = self._child, None, None, ""
        if child is not None:
            child.end()

    def _next(self, pending: collections.deque[_Sent | Failure]) -> Capture | Failure:
        """What comes of the first; where it cost the process, those behind it go to the next one."""
        first = pending.popleft()
        if isinstance(first, Failure):
            return first
        result = self._collect(*first)
        if self._child is None:
            for i, sent in enumerate(pending):
                if not isinstance(sent, Failure):
                    pending[i] = self._submit(sent[1], sent[2])
        return result

    def _submit(self, raw: RawFrame, parameters: ParameterSet) -> _Sent | Failure:
        if min(raw.width, raw.height) < MIN_SIDE:
            text = f"LibRaw takes RAWs of {MIN_SIDE}×{MIN_SIDE} or more, not {raw.width}×{raw.height}; use larger RAWs"
            return Failure(raw.hash, parameters, "bad_raw", text)
        info = self._info or self.info()
        if failure := info.refused(raw, parameters):
            return failure
        space = info.space
        if parameters.space.hash != space.hash:
            raise DeviceError(f"{self.url}: parameters of {parameters.space.name}, not of this LibRaw; ask its info()")
        self._next_id += 1
        codes = parameters.by_name
        try:
            payload = b"" if raw.hash == self._raw_there else dng_bytes(raw)
        except FrameError as error:
            return Failure(raw.hash, parameters, "bad_raw", str(error))
        start = time.monotonic()
        assert self._child is not None
        self._child.send({"id": self._next_id, "codes": codes, "raw": raw.hash}, payload)
        self._raw_there = raw.hash
        return self._next_id, raw, parameters, start

    def _collect(self, number: int, raw: RawFrame, parameters: ParameterSet, start: float) -> Capture | Failure:
        allowed_s = self.deadline_s + S_PER_MEGAPIXEL * max(raw.width * raw.height / 1e6 - 1, 0)
        boot_id = self._info.boot_id if self._info else ""
        what = f"RAW {raw.hash[:12]} ({raw.width}×{raw.height})"
        deadline = time.monotonic() + allowed_s
        try:
            while True:
                header, payload = self._receive(deadline, allowed_s, what)
                if header["id"] == number:
                    break  # an earlier id answers a frame that its caller gave up
        except _EndedError as error:
            return Failure(raw.hash, parameters, "failed", str(error).removeprefix(f"{self.url}: "), boot_id)
        if "error" in header:
            text = f"LibRaw refused it ({raw.width}×{raw.height}): {shown(header['error'])}"
            return Failure(raw.hash, parameters, "failed", text, boot_id)
        rgb = RgbFrame(payload, "image/png")
        return Capture(
            raw_hash=raw.hash,
            parameters=parameters,
            parameters_in_force=header["codes"],
            rgb=rgb,
            boot_id=boot_id,
            frame=header["frame"],
            device_s=header["seconds"],
            total_s=time.monotonic() - start,
        )

    def _receive(self, deadline: float, allowed_s: float, what: str) -> Message:
        if self._child is None:
            raise DeviceError(f"{self.url}: closed before {what} came back")
        message: Message | None
        try:
            while True:
                stopping.check()
                left = deadline - time.monotonic()
                try:
                    message = self._child.answers.get(timeout=max(min(left, stopping.SLICE_S), 0))
                    break
                except queue.Empty:
                    if left <= 0:
                        raise
        except queue.Empty:
            self.close()
            raise _EndedError(
                f"{self.url}: no answer to {what} within {allowed_s:.3g} s; the process was ended and the next call "
                "starts it again; ?deadline=SECONDS in the URL waits longer"
            ) from None
        if message is None:
            code = self._child.code()
            self.close()
            raise _EndedError(f"{self.url}: LibRaw crashed on {what} (exit code {code}); the next call starts it again")
        return message


class _EndedError(DeviceUnreachableError):
    """The process crashed, or was ended at a deadline."""


class _Child:
    """The process and two threads, so that neither a full pipe nor a silent one can block a caller."""

    def __init__(self) -> None:
        home = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH", "")) if p)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "drivers.programs.libraw_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.answers: queue.Queue[Message | None] = queue.Queue()
        self._requests: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._read, name="libraw answers", daemon=True).start()
        threading.Thread(target=self._write, name="libraw requests", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, header: dict[str, Any], payload: bytes) -> None:
        self._requests.put((header, payload))

    def code(self) -> int | None:
        """Exit code of a process whose output ended."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        self._requests.put(None)
        self._process.kill()
        self.code()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            try:
                while True:
                    self.answers.put(read_message(stream))  # type: ignore[arg-type]
            except Exception:  # it ended, or crashed in the midst of an answer, whatever that then reads as
                self.answers.put(None)

    def _write(self) -> None:
        assert self._process.stdin is not None
        stream = self._process.stdin
        with contextlib.suppress(OSError, ValueError), stream:  # the process is gone: the reading thread tells
            while (message := self._requests.get()) is not None:
                write_message(stream, *message)  # type: ignore[arg-type]
