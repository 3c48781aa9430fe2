"""The two banks of registers of a device, and the rules by which they change (PROTOCOL.md, sections 4 and 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drivers.parameters import ParameterSpace
from drivers.protocol import wire
from drivers.registers import Bank, RegisterMap


class Banks:
    """Codes by parameter name, twice: ``active``, of the last frame, and ``shadow``, for the next one.

    Attributes:
        addresses: of every register, in the order of the space.
    """

    def __init__(self, space: ParameterSpace) -> None:
        """Both hold the defaults.

        Raises:
            DeviceError: a parameter has no register.
        """
        self._space = space
        self._map = RegisterMap(space)
        self.addresses = self._map.addresses
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
        self._check(address for address, _ in registers)
        codes = self._map.codes(dict(registers))
        for address, word in registers:
            for p in self._map.at(address):
                if not p.low_code <= (code := codes[p.name]) <= p.high_code:
                    raise wire.MessageError("bad_code", f"{p.name}: code {code} is outside {p.low_code}..{p.high_code}")
            if self._map.word(address, codes) != word:
                raise wire.MessageError("bad_code", f"register 0x{address:04x}: {word} has bits that are no field's")
        together = {**self._shadow, **codes}
        if (broken := self._space.relations.broken([together[name] for name in self._space.names])) is not None:
            raise wire.MessageError("bad_code", broken)
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
        addresses = tuple(addresses)
        self._check(addresses)
        words = self._map.words(codes)
        return tuple((address, words[address]) for address in addresses)

    def _check(self, addresses: Iterable[int]) -> None:
        for address in addresses:
            if not self._map.at(address):
                raise wire.MessageError("bad_register", f"there is no register at 0x{address:04x}")
