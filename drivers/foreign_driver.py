"""A driver of another package, held to the interface: what it gives wrongly would be stored as a capture.

What the wire protocol and recipes refuse of a device is refused of a driver here: an answer that nobody asked for, or
none to what was asked; another device than at the start; figures that are none; and what its code raises.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from drivers.device import Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceChangedError, DeviceError, WorkbenchError
from drivers.foreign_text import shown, shown_failure
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace

_SEE = "see drivers.device.Device"
_TEXTS = ("model", "firmware", "serial", "boot_id")
_Given = TypeVar("_Given")
_Job = TypeVar("_Job")


class ForeignDriver(Device):
    """A device by a driver that is not this project's.

    Args:
        open_it: what the driver's entry point names, with its arguments.
        url: what the device was opened by; names it in messages where the driver does not.

    Raises:
        DeviceError: it cannot be opened, or what comes is no device.
    """

    def __init__(self, open_it: Callable[[], Device], url: str) -> None:
        self.url = url
        device = self._asked("open_device", open_it)
        if not isinstance(device, Device):
            raise DeviceError(f"{url}: its driver gives a {type(device).__name__}, not a Device; {_SEE}")
        self._device = device
        self.url, self.deadline_s = getattr(device, "url", url), device.deadline_s
        self._known: DeviceInfo | None = None

    def info(self) -> DeviceInfo:
        """See :meth:`drivers.device.Device.info`.

        Raises:
            DeviceChangedError: it is another than at first.
        """
        return self._same(self._asked("info", self._device.info))

    def ask_info(self, wait_s: float) -> DeviceInfo:
        """See :meth:`drivers.device.Device.ask_info`."""
        return self._same(self._asked("ask_info", lambda: self._device.ask_info(wait_s)))

    def units(self) -> dict[str, DeviceInfo]:
        """See :meth:`drivers.device.Device.units`."""
        known = self.info()
        return {url: known if info is known else info for url, info in self._asked("units", self._device.units).items()}

    @property
    def counts(self) -> Counter[str]:
        """See :attr:`drivers.device.Device.counts`."""
        return self._device.counts

    def counts_by_unit(self) -> dict[str, Counter[str]]:
        """See :meth:`drivers.device.Device.counts_by_unit`."""
        return self._asked("counts_by_unit", self._device.counts_by_unit)

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """See :meth:`drivers.device.Device.process`."""
        answer = self._asked("process", lambda: self._device.process(raw, parameters))
        if not isinstance(answer, Capture):
            raise DeviceError(f"{self.url}: process gives a {type(answer).__name__}, not a Capture; {_SEE}")
        self._check_answer("process", answer, raw.hash, parameters)
        return answer

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """See :meth:`drivers.device.Device.process_many`."""
        part = "process_many"
        for (raw, parameters), answer in self._answered(part, self._device.process_many, jobs):
            self._check_answer(part, answer, raw.hash, parameters)
            yield answer

    def capture(self, parameters: ParameterSet) -> tuple[RawFrame, Capture]:
        """See :meth:`drivers.device.Device.capture`."""
        answer = self._asked("capture", lambda: self._device.capture(parameters))
        return self._checked_shot("capture", answer, parameters)

    def capture_many(self, sets: Iterable[ParameterSet]) -> Iterator[tuple[RawFrame, Capture] | Failure]:
        """See :meth:`drivers.device.Device.capture_many`."""
        part = "capture_many"
        for parameters, answer in self._answered(part, self._device.capture_many, sets):
            if isinstance(answer, Failure):
                self._check_answer(part, answer, answer.raw_hash, parameters)
                yield answer
            else:
                yield self._checked_shot(part, answer, parameters)

    def close(self) -> None:
        """See :meth:`drivers.device.Device.close`."""
        self._asked("close", self._device.close)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.close()
        except DeviceError:
            if kind is None:  # else that is what there is to tell
                raise

    def _asked(self, part: str, ask: Callable[[], _Given]) -> _Given:
        try:
            return ask()
        except WorkbenchError:
            raise
        except Exception as error:  # a driver's code may raise anything
            raise self._failed(part, error) from error

    def _failed(self, part: str, error: Exception) -> DeviceError:
        return DeviceError(f"{self.url}: its driver's {part} fails with {shown_failure(error)}")

    def _same(self, info: Any) -> DeviceInfo:
        """What the driver says of the device, when it says what it said at first."""
        if not isinstance(info, DeviceInfo):
            raise DeviceError(f"{self.url}: its driver's info gives a {type(info).__name__}, not a DeviceInfo; {_SEE}")
        if odd := [name for name in _TEXTS if not isinstance(getattr(info, name), str)]:
            raise DeviceError(f"{self.url}: its driver's info says {odd[0]} {getattr(info, odd[0])!r:.40}, not a text")
        if not isinstance(info.space, ParameterSpace):
            raise DeviceError(f"{self.url}: its driver's info says a space that is no ParameterSpace; {_SEE}")
        first = self._known = self._known or info
        if info.identity != first.identity:
            raise DeviceChangedError(
                f"{self.url}: the device is {shown(info.identity)} now and was {shown(first.identity)} when it was "
                "opened; captures of two are not mixed: open it again"
            )
        return info

    def _answered(
        self, part: str, ask: Callable[[Iterable[_Job]], Iterator[Any]], jobs: Iterable[_Job]
    ) -> Generator[tuple[_Job, Any], None, None]:
        """Each job with its answer, when there is one for each, in their order."""
        source, drawn = iter(jobs), deque[_Job]()

        def draw() -> Iterator[_Job]:
            for job in source:
                drawn.append(job)
                yield job

        given = 0
        stream = self._asked(part, lambda: iter(ask(draw())))
        try:
            while True:
                try:
                    answer = next(stream)
                except StopIteration:
                    break
                except WorkbenchError:
                    raise
                except Exception as error:  # a driver's code may raise anything
                    raise self._failed(part, error) from error
                if not drawn:
                    raise DeviceError(f"{self.url}: {part} gives an answer more than the {given} frames that it took")
                given += 1
                yield drawn.popleft(), answer
        finally:
            if isinstance(stream, Generator):
                with contextlib.suppress(Exception):  # what ended the stream is told, or the frames are all there
                    stream.close()
        if drawn or next(source, None) is not None:
            raise DeviceError(
                f"{self.url}: {part} ended after {given} answers, with frames left that it was asked for; it is to "
                "give a Capture or a Failure for each"
            )

    def _checked_shot(self, part: str, answer: Any, parameters: ParameterSet) -> tuple[RawFrame, Capture]:
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], RawFrame):
            raise DeviceError(f"{self.url}: {part} gives a {type(answer).__name__}, not a RAW with its Capture; {_SEE}")
        raw, capture = answer
        self._check_answer(part, capture, raw.hash, parameters)
        return raw, capture

    def _check_answer(self, part: str, answer: Any, raw_hash: str, parameters: ParameterSet) -> None:
        if not isinstance(answer, Capture | Failure):
            kind = type(answer).__name__
            raise DeviceError(f"{self.url}: {part} gives a {kind}, neither a Capture nor a Failure; {_SEE}")
        if (answer.raw_hash, answer.parameters.hash) != (raw_hash, parameters.hash):
            raise DeviceError(
                f"{self.url}: {part} gives the answer of RAW {shown(str(answer.raw_hash)[:12])} with parameters "
                f"{answer.parameters.hash[:12]} where that of RAW {raw_hash[:12]} with {parameters.hash[:12]} was due"
            )
        if isinstance(answer, Failure):
            return
        if not isinstance(answer.rgb, RgbFrame):
            raise DeviceError(f"{self.url}: {part} gives a {type(answer.rgb).__name__} as output, not an RgbFrame")
        if type(answer.frame) is not int or not 0 <= answer.frame < 1 << 63:
            raise DeviceError(
                f"{self.url}: {part} gives the frame number {answer.frame!r:.40}, not one of 0 to 2^63 - 1"
            )
        for name, value in (("device_s", answer.device_s), ("total_s", answer.total_s), *answer.statistics.items()):
            finite = isinstance(value, int | float) and math.isfinite(value)
            if not finite or (value < 0 and name in ("device_s", "total_s")):
                raise DeviceError(f"{self.url}: {part} gives {shown(str(name))} {value!r:.40}, which is no such figure")
        told = {statistic.name for statistic in (self._known or self.info()).space.statistics}
        if set(answer.statistics) != told:
            raise DeviceError(
                f"{self.url}: {part} gives the statistics {sorted(map(str, answer.statistics))}, its space announces "
                f"{sorted(told)}"
            )
