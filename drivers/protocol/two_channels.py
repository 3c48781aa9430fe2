"""A device with two channels: registers on a slow one, frames on a fast one.

Both must reach the same unit in the same boot. Each frame proves its parameters on its own channel, as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

from drivers.device import Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.registers import Bank


class TwoChannelDevice(Device):
    """The driver; use from one thread."""

    def __init__(self, url: str, control: Callable[[], ProtocolDevice], pixels: Callable[[], Device]) -> None:
        """Open both channels.

        Args:
            url: names the device in messages.
            control: opens the channel of the registers; ``pixels``: that of the frames.

        Raises:
            DeviceError: a channel cannot be opened, or they reach different devices.
        """
        self.url = url
        self._open_control = control
        self._closed_counts: Counter[str] = Counter()
        with ExitStack() as opened:
            self._control = opened.enter_context(control())
            self._pixels = opened.enter_context(pixels())
            self.deadline_s = self._control.deadline_s
            self._compare()
            opened.pop_all()

    def info(self) -> DeviceInfo:
        """Who the device is, as the channel of the frames says."""
        return self._pixels.info()

    def ask_info(self, wait_s: float) -> DeviceInfo:
        """See :meth:`drivers.device.Device.ask_info`; on the channel of the frames."""
        return self._pixels.ask_info(wait_s)

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Process one RAW with one parameter set; see :meth:`drivers.device.Device.process`."""
        return self.single(raw, parameters)

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """Captures of many jobs; see :meth:`drivers.device.Device.process_many`.

        Raises:
            DeviceError: also when the two channels do not reach the same device any more.
        """
        results: Any = self._pixels.process_many(jobs)
        with closing(results):
            for result in results:
                self._check(result)
                yield result

    def capture(self, parameters: ParameterSet) -> tuple[RawFrame, Capture]:
        """Photograph what is before a live device; see :meth:`drivers.device.Device.capture`."""
        raw, capture = self._pixels.capture(parameters)
        self._check(capture)
        return raw, capture

    def read_registers(self, bank: Bank = "active") -> dict[str, int]:
        """Codes by parameter name; see :meth:`drivers.protocol.protocol_device.ProtocolDevice.read_registers`."""
        return self._control.read_registers(bank)

    def write_registers(self, codes: Mapping[str, int]) -> dict[str, int]:
        """Write codes; see :meth:`drivers.protocol.protocol_device.ProtocolDevice.write_registers`."""
        return self._control.write_registers(codes)

    @property
    def counts(self) -> Counter[str]:
        """See :attr:`drivers.device.Device.counts`; both channels together."""
        return self._closed_counts + self._control.counts + self._pixels.counts

    def close(self) -> None:
        """Let go of both channels; closing twice is allowed."""
        self._control.close()
        self._pixels.close()

    def counts_by_unit(self) -> dict[str, Counter[str]]:
        """See :meth:`drivers.device.Device.counts_by_unit`; both channels together."""
        return {self.info().serial: self._closed_counts + self._control.counts + self._pixels.counts}

    def _check(self, result: Capture | Failure) -> None:
        """A frame of another boot: ask on the channel of the registers who is there now."""
        if result.boot_id != self._control.info().boot_id:
            self._control.close()
            self._closed_counts += self._control.counts
            self._control = self._open_control()
            self._compare()

    def _compare(self) -> None:
        control, pixels = self._control.info(), self._pixels.info()
        if _who(control) != _who(pixels):
            raise DeviceError(
                f"{self.url}: its channels reach different devices: {' '.join(_who(control))} for registers, "
                f"{' '.join(_who(pixels))} for pixels; check the URL after pixels="
            )


def _who(info: DeviceInfo) -> tuple[str, str, str, str]:
    return (
        info.identity,
        f"serial {info.serial}",
        f"boot {info.boot_id}",
        f"{'live' if info.live else 'stored'} {'with' if info.echo else 'without'} echo",
    )
