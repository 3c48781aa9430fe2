"""Devices whose registers can be read back and written beside their frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

Bank = Literal["active", "shadow"]
"""In force, or for the next frame."""


@runtime_checkable
class HasRegisters(Protocol):
    """A :class:`~drivers.device.Device` with registers; not every device has them, so ask with ``isinstance``."""

    def read_registers(self, bank: Bank = "active") -> dict[str, int]:
        """Codes by parameter name, read back from a bank.

        Raises:
            DeviceUnreachableError: no answer before the deadline.
            DeviceError: the device refused or answered oddly.
        """

    def write_registers(self, codes: Mapping[str, int]) -> dict[str, int]:
        """Write codes by parameter name to the shadow bank; gives the codes read back.

        Raises:
            ParameterError: a name is unknown or a code out of range.
            DeviceUnreachableError: no answer before the deadline.
            DeviceError: the device refused or read back other codes.
        """
