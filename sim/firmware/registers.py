"""The emulated device on the agent kit: an ISP behind registers, as tidy or untidy as it is asked to be."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from drivers.agent.device_side import DEFAULT_HOLDS, DEFAULT_MAX_IN_FLIGHT, DEFAULT_MAX_PAYLOAD, DeviceSide, Made
from drivers.errors import DeviceError, FrameError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.plain_pictures import PictureOutput, PlainPicture
from drivers.raw_input import RawInput


class IspPipeline(Protocol):
    """What the firmware drives: an ISP that turns a RAW and a parameter set into a picture's bytes."""

    @property
    def space(self) -> ParameterSpace:
        """The parameters, each with a register."""

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        """A JPEG of the RAW, or what :class:`Firmware` was told as ``output``."""


class Firmware(DeviceSide):
    """One emulated device, from power-on until it is dropped.

    Real devices are less tidy than the kit, and so is this one on request: codes come into force some frames late, a
    temporal filter mixes each output with the one before, and no echo says so. A live one takes its RAWs from its own
    camera.
    """

    def __init__(
        self,
        pipeline: IspPipeline,
        *,
        model: str = "emulated-isp",
        version: str = "1.0.0",
        serial: str = "emulated",
        boot_id: str | None = None,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        frame_ms: float = 0.0,
        echo: bool = True,
        latch_frames: int = 0,
        temporal_filter: float = 0.0,
        camera: Callable[[], RawFrame] | None = None,
        raw_input: RawInput | None = None,
        output: PictureOutput | None = None,
        holds: int = DEFAULT_HOLDS,
    ) -> None:
        """Power on.

        Args:
            pipeline: the ISP.
            model, serial, boot_id, max_payload, max_in_flight, echo: as :class:`DeviceSide` takes them; so are
                raw_input, output and holds.
            version: of the firmware.
            frame_ms: milliseconds that a frame takes at least.
            latch_frames: frames that codes come into force late.
            temporal_filter: share of the output before in each output, 0 (none) to below 1.
            camera: what a live device photographs; it takes no stored RAWs.

        Raises:
            DeviceError: a parameter of the pipeline has no register, or the filter's share is out of range.
        """
        if not 0 <= temporal_filter < 1:
            raise DeviceError(f"temporal filter {temporal_filter:g} is not within 0 and below 1")
        self.pipeline = pipeline
        super().__init__(
            _EmulatedIsp(
                pipeline, frame_ms / 1000, latch_frames, temporal_filter, camera, (output or PictureOutput()).is_file
            ),
            pipeline.space,
            model=model,
            firmware=version,
            serial=serial,
            boot_id=boot_id,
            max_payload=max_payload,
            max_in_flight=max_in_flight,
            echo=echo,
            live=camera is not None,
            raw_input=raw_input,
            output=output,
            holds=holds,
            overlap=True,
        )


class _EmulatedIsp:
    """See :class:`~drivers.agent.device_side.Isp`."""

    def __init__(
        self,
        pipeline: IspPipeline,
        frame_s: float,
        latch_frames: int,
        temporal_filter: float,
        camera: Callable[[], RawFrame] | None,
        gives_files: bool,
    ) -> None:
        self._pipeline, self._camera, self._gives_files = pipeline, camera, gives_files
        self._frame_s, self._latch_frames, self._temporal_filter = frame_s, latch_frames, temporal_filter

    def power_on(self) -> None:
        """See :class:`~drivers.agent.device_side.Isp`."""
        defaults = self._pipeline.space.defaults.by_name
        # What each of the last frames latched; the oldest is in force.
        self._latched = deque([defaults] * (self._latch_frames + 1), self._latch_frames + 1)
        self._filtered: np.ndarray | None = None

    def process(self, raw: RawFrame, latched: dict[str, int]) -> Made:
        """See :class:`~drivers.agent.device_side.Isp`."""
        end = time.perf_counter() + self._frame_s
        self._latched.append(latched)
        in_force = self._pipeline.space.from_codes(self._latched[0])
        try:
            picture = self._filter(self._pipeline.process(raw, in_force))
        except (ArithmeticError, ValueError, MemoryError) as error:
            raise FrameError(str(error)) from error
        time.sleep(max(end - time.perf_counter(), 0.0))
        return Made(picture, in_force.by_name)

    def begin_burst(self) -> None:
        """See :class:`~drivers.agent.device_side.Isp`."""
        self._filtered = None

    def photograph(self, latched: dict[str, int]) -> tuple[RawFrame, Made]:
        """See :class:`~drivers.agent.device_side.Isp`."""
        assert self._camera is not None
        raw = self._camera()
        return raw, self.process(raw, latched)

    def _filter(self, encoded: bytes) -> RgbFrame | PlainPicture:
        """The output with its share of the one before; the ISP's own bytes again once it has settled.

        What is no file is filtered as it travels, luma and chroma alike.
        """
        picture = RgbFrame(encoded) if self._gives_files else PlainPicture(encoded)
        if not self._temporal_filter:
            return picture
        values = picture.pixels if isinstance(picture, RgbFrame) else np.frombuffer(encoded, np.uint8)
        mixed = values.astype(np.float32)
        if self._filtered is not None and self._filtered.shape == mixed.shape:
            mixed += self._temporal_filter * (self._filtered - mixed)
        self._filtered = mixed
        filtered = np.rint(mixed).astype(np.uint8)
        if np.array_equal(filtered, values):
            return picture
        return RgbFrame.from_pixels(filtered) if self._gives_files else PlainPicture(filtered.tobytes())


def emulated(
    profile: str,
    *,
    frame_ms: float = 0.0,
    echo: bool = True,
    latch_frames: int = 0,
    temporal_filter: float = 0.0,
    live: Path | None = None,
) -> Firmware:
    """The firmware of a profile's device, just switched on.

    Args:
        profile: of the emulated ISP.
        frame_ms, echo, latch_frames, temporal_filter: as :class:`Firmware` takes them.
        live: folder of RAWs that a live device photographs in turn; ``lab``: generated lab scenes.

    Raises:
        ParameterError: no such profile.
        WorkbenchError: the folder holds no readable RAWs, or a value is out of range.
    """
    from sim.firmware.live import camera
    from sim.isp.pipeline import VERSION
    from sim.isp.pipelines import open_pipeline

    pipeline = open_pipeline(profile)
    # The same identity as `sim:PROFILE` has: what one of them made, the other need not make again.
    return Firmware(
        pipeline,
        model=f"emulated-isp {profile}",
        version=VERSION,
        frame_ms=frame_ms,
        echo=echo,
        latch_frames=latch_frames,
        temporal_filter=temporal_filter,
        camera=None if live is None else camera(live, pipeline.input.cfa[0]),
        raw_input=pipeline.input,
        output=pipeline.output,
    )
