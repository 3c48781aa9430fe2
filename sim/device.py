"""The emulated ISP in the bench's own process: ``sim:sim20``, ``sim:sim32`` and ``sim:sim60``."""

from __future__ import annotations

import secrets
import time

from drivers.device import DEFAULT_DEADLINE_S, Capture, Device, DeviceInfo, FrameFailedError
from drivers.errors import DeviceError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet
from sim import profiles
from sim.isp.pipeline import VERSION
from sim.isp.pipelines import open_pipeline


class SimDevice(Device):
    """A pipeline with registers before it: a capture reports what was latched, not what was asked.

    Nothing is sent anywhere, so a call cannot hang and the deadline is only kept for the interface.
    """

    def __init__(self, url: str, profile: str, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        self.url = url
        self.deadline_s = deadline_s
        self._pipeline = open_pipeline(profile)
        self._info = DeviceInfo(
            model=f"emulated-isp {profile}",
            firmware=VERSION,
            serial="in-process",
            boot_id=secrets.token_hex(8),
            space=self._pipeline.space,
            input=self._pipeline.input,
            output=self._pipeline.output,
        )
        self._registers = self._pipeline.space.defaults.by_name
        self._frame = 0
        self._closed = False

    def info(self) -> DeviceInfo:
        """Who the device is."""
        return self._info

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Write the registers, latch them, process one frame.

        Raises:
            DeviceError: the device is closed.
            FrameFailedError: the RAW is of another CFA, or does not fit otherwise.
            ParameterError: the parameters are not of this device's space.
        """
        if self._closed:
            raise DeviceError(f"{self.url}: the device is closed; open it again")
        start = time.perf_counter()
        self._pipeline.check(parameters)
        if failure := self._info.refused(raw, parameters):
            raise FrameFailedError.of(self.url, failure, raw.source)
        self._registers.update(parameters.by_name.items())
        latched = self._pipeline.space.from_codes(self._registers)
        encoded, output = self._pipeline.process(raw, latched), self._info.output
        plain = None if output.is_file else output.pixels(encoded, raw.width, raw.height)
        self._frame += 1
        seconds = time.perf_counter() - start
        return Capture(
            raw_hash=raw.hash,
            parameters=parameters,
            parameters_in_force=latched.by_name,
            rgb=RgbFrame(encoded) if plain is None else RgbFrame.from_pixels(plain),
            boot_id=self._info.boot_id,
            frame=self._frame,
            device_s=seconds,
            total_s=seconds,
        )

    def close(self) -> None:
        """Let go of the device; closing twice is allowed."""
        self._closed = True


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The emulated ISP of a URL ``sim:PROFILE``, in this process.

    Raises:
        DeviceError: no such profile.
    """
    profile = url.partition(":")[2]
    if profile not in profiles.NAMES:
        known = ", ".join(f"sim:{name}" for name in profiles.NAMES)
        raise DeviceError(f"device URL {url!r}: no emulated ISP profile {profile!r}; known are {known}")
    return SimDevice(url, profile, deadline_s)
