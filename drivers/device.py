"""The Device interface: what the bench asks of any ISP, real or emulated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Self

from drivers.errors import DeviceError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.plain_pictures import PictureOutput
from drivers.raw_input import RawInput

DEFAULT_DEADLINE_S = 30.0
OUTPUT = "output"
"""Code of the failure of a frame whose output is no picture of the RAW."""


@dataclass(frozen=True)
class DeviceInfo:
    """Who the device is.

    Attributes:
        model: product name; ``firmware``: its version; ``serial``: which unit.
        boot_id: changes with every start of the device.
        space: its parameters.
        max_in_flight: frames that it takes before the first answer.
        echo: its frames prove the parameters in force; without it they are read back and frames are waited for.
        live: it photographs what is before it (:meth:`Device.capture`) and takes no stored RAW.
        input: which RAWs it takes; ``output``: what its pictures are before the bench reads them.
        holds: bytes of RAWs that it keeps, whose pixels travel once; 0 where none travel, or each time.
    """

    model: str
    firmware: str
    serial: str
    boot_id: str
    space: ParameterSpace = field(repr=False)
    max_in_flight: int = 1
    echo: bool = True
    live: bool = False
    input: RawInput = field(default_factory=RawInput)
    output: PictureOutput = field(default_factory=PictureOutput)
    holds: int = 0

    @property
    def identity(self) -> str:
        """What captures are kept under: the same model, firmware and parameter space give the same output."""
        return f"{self.model}/{self.firmware}/{self.space.hash[:12]}"

    def goes_by(self, identity: str | None) -> bool:
        """Whether a record's identity is this device's, now or as it was reckoned formerly."""
        return identity in {f"{self.model}/{self.firmware}/{digest[:12]}" for digest in self.space.hashes}

    def refusal(self, raw: RawFrame) -> str | None:
        """Why it does not take a RAW, or gives no picture that can be used of it, as the end of a line, or None."""
        burst = self.input.burst_refusal(1 if raw.earlier is None else 1 + len(raw.earlier))
        return burst or self.input.refusal(raw) or self.output.refusal(raw.width, raw.height)

    def refused(self, raw: RawFrame, parameters: ParameterSet) -> Failure | None:
        """The failure of a frame that need not be asked for, or None."""
        if refusal := self.refusal(raw):
            text = f"the device does not take the RAW: {refusal}"
            return Failure(raw.hash, parameters, "bad_raw", text, self.boot_id)
        return None


@dataclass(frozen=True, eq=False)
class Capture:
    """One RAW processed with one parameter set, with the proof of which parameters made it.

    Attributes:
        raw_hash: content hash of the RAW.
        parameters: the set that was asked for.
        parameters_in_force: the codes that the device says were latched for this frame, by name.
        rgb: the output.
        boot_id: the device's boot at the time.
        frame: the device's frame counter.
        device_s: seconds inside the device; ``total_s``: seconds from request to answer.
        serial: which of several units made it; empty where :attr:`DeviceInfo.serial` says so.
        statistics: figures of the frame that the device told, by the names of its space.
    """

    raw_hash: str
    parameters: ParameterSet
    parameters_in_force: dict[str, int]
    rgb: RgbFrame
    boot_id: str
    frame: int
    device_s: float
    total_s: float
    serial: str = ""
    statistics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        asked = self.parameters.by_name
        if self.parameters_in_force != asked:
            wrong = sorted(n for n in asked if self.parameters_in_force.get(n) != asked[n])
            raise DeviceError(
                f"frame {self.frame}: the device had other parameters in force than asked for ({', '.join(wrong)})"
            )


@dataclass(frozen=True, eq=False)
class Failure:
    """A frame that came to nothing: the device refused it, or its output is no picture of the RAW. The rest goes on.

    Attributes:
        raw_hash: content hash of the RAW; empty where a live device failed before it gave one.
        parameters: the set that was asked for.
        code: ``failed`` or another of the protocol's errors; ``output`` where what came is no picture of the RAW.
        reason: one line for people, with what the device said.
        boot_id: the device's boot at the time.
        serial: which of several units; empty where :attr:`DeviceInfo.serial` says so.
    """

    raw_hash: str
    parameters: ParameterSet
    code: str
    reason: str
    boot_id: str = ""
    serial: str = ""


class FrameFailedError(DeviceError):
    """A single frame came to nothing; the device goes on. ``failure`` has the facts, None where they are not known."""

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure

    @classmethod
    def of(cls, url: str, failure: Failure, source: str = "") -> FrameFailedError:
        """The error of a failure, with the device and the RAW named; ``source``: the RAW's name, for people."""
        raw = source or (f"RAW {failure.raw_hash[:12]}" if failure.raw_hash else "a photograph")
        return cls(f"{url}: {raw} with parameters {failure.parameters.hash[:12]}: {failure.reason}", failure)


class Device(ABC):
    """An ISP that turns a RAW and a parameter set into a capture. A context manager; every call has a deadline.

    ``url`` names the device in messages; ``deadline_from_url``: its ``deadline=`` set :attr:`deadline_s`. Drivers
    implement :meth:`info`, :meth:`process` and :meth:`close`; a driver whose device takes several frames at once
    overrides :meth:`process_many`.
    """

    url: str
    deadline_s: float = DEFAULT_DEADLINE_S
    deadline_from_url: bool = False

    @cached_property
    def counts(self) -> Counter[str]:
        """What went wrong since the device was opened and was mended, by kind; empty where nothing did."""
        return Counter()

    def counts_by_unit(self) -> dict[str, Counter[str]]:
        """:attr:`counts` of each unit: by serial, or by URL where a unit has none or was never reached."""
        return {self.info().serial or self.url: Counter(self.counts)}

    @abstractmethod
    def info(self) -> DeviceInfo:
        """Who the device is.

        Raises:
            DeviceUnreachableError: no answer before the deadline.
        """

    def ask_info(self, wait_s: float) -> DeviceInfo:
        """Who the device is, asked anew where it can be, between frames; waits no longer than ``wait_s``.

        Raises:
            DeviceUnreachableError: it does not answer.
            DeviceError: it is another than before.
        """
        return self.info()

    def units(self) -> dict[str, DeviceInfo]:
        """What :meth:`info` says, by URL; of a pool every board that was reached."""
        return {self.url: self.info()}

    @abstractmethod
    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Process one RAW with one parameter set.

        Raises:
            DeviceUnreachableError: no answer before the deadline.
            FrameFailedError: this frame failed; others may not.
            DeviceError: the device refused, or its answer does not prove the parameters.
        """

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """The capture of each job, in the order of the jobs, or why that one failed; jobs are drawn as they are taken.

        What is no fault of a single frame (the link, the device, a wrong parameter set) is raised and ends the stream.
        """
        for raw, parameters in jobs:
            try:
                yield self.process(raw, parameters)
            except FrameFailedError as error:
                if error.failure is None:
                    raise
                yield error.failure

    def single(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """:meth:`process` for drivers that implement :meth:`process_many`.

        Raises:
            FrameFailedError: this frame failed.
        """
        (result,) = self.process_many([(raw, parameters)])
        if isinstance(result, Failure):
            raise FrameFailedError.of(self.url, result, raw.source)
        return result

    def capture(self, parameters: ParameterSet) -> tuple[RawFrame, Capture]:
        """Photograph what is before a live device: the RAW, and what the device made of it with the parameters.

        Raises:
            DeviceUnreachableError: no answer before the deadline.
            FrameFailedError: this frame failed; others may not.
            DeviceError: the device is not live, refused, or its answer does not prove RAW and parameters.
        """
        raise DeviceError(f"{self.url}: this device takes stored RAWs and has no camera of its own; give it --raws")

    def capture_many(self, sets: Iterable[ParameterSet]) -> Iterator[tuple[RawFrame, Capture] | Failure]:
        """Photographs with many parameter sets, in their order; a set whose frame failed has a failure in its place."""
        for parameters in sets:
            try:
                yield self.capture(parameters)
            except FrameFailedError as error:
                if error.failure is None:
                    raise
                yield error.failure

    @abstractmethod
    def close(self) -> None:
        """Let go of the device; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
