"""The two banks of registers of a device, and the rules by which they change (PROTOCOL.md, sections 4 and 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drivers.errors import DeviceError
from drivers.parameters import Parameter, ParameterSpace
from drivers.protocol import wire
from drivers.registers import Bank


class Banks:
    """Codes by parameter name, twice: ``active``, of the last frame, and ``shadow``, for the next one.

    Attributes:
        addresses: of every parameter, in the order of the space.
    """

    def __init__(self, space: ParameterSpace) -> None:
        """Both hold the defaults.

        Raises:
            DeviceError: a parameter has no register.
        """
        self._space = space
        self._by_address: dict[int, Parameter] = {}
        for p in space.parameters:
            if p.register is None:
                raise DeviceError(f"{space.name}: parameter {p.name} has no register; firmware cannot hold it")
            self._by_address[p.register.address] = p
        self.addresses = tuple(self._by_address)
        self.power_on()

    def power_on(self) -> None:
        """The defaults again."""
        self._shadow = self._space.defaults.by_name
        self.active: Mapping[str, int] = dict(self._shadow)

    def bank(self, name: Bank) -> Mapping[str, int]:
        """A bank by its name."""
        return self.active if name == "active" else self._shadow

    def checked(self, registers: wire.Registers) -> dict[str, int]:
        """Codes by name. Checked as a whole before any is used, so a refused list changes nothing.

        Raises:
            MessageError: ``bad_register`` or ``bad_code``.
        """
        codes = {}
        for address, code in registers:
            p = self._at(address)
            if not p.low_code <= code <= p.high_code:
                raise wire.MessageError("bad_code", f"{p.name}: code {code} is outside {p.low_code}..{p.high_code}")
            codes[p.name] = code
        return codes

    def write(self, codes: Mapping[str, int]) -> None:
        """Put codes that were checked into the shadow bank."""
        self._shadow.update(codes)

    def latch(self) -> dict[str, int]:
        """A frame boundary: the shadow bank becomes the active one; gives its codes."""
        latched = dict(self._shadow)
        self.active = latched
        return latched

    def pairs(self, codes: Mapping[str, int], addresses: Iterable[int]) -> wire.Registers:
        """Addresses with their codes.

        Raises:
            MessageError: ``bad_register``.
        """
        return tuple((address, codes[self._at(address).name]) for address in addresses)

    def _at(self, address: int) -> Parameter:
        if (p := self._by_address.get(address)) is None:
            raise wire.MessageError("bad_register", f"there is no register at 0x{address:04x}")
        return p
