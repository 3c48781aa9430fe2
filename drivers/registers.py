"""Devices whose registers can be read back and written beside their frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from drivers.errors import DeviceError
from drivers.parameter import Parameter, Register
from drivers.parameters import ParameterSpace

Bank = Literal["active", "shadow"]
"""In force, or for the next frame."""


class RegisterMap:
    """Where a space's parameters are: a word for each register, of the codes of its parameters.

    Attributes:
        addresses: of every register, in the order of the space.
    """

    def __init__(self, space: ParameterSpace) -> None:
        """The registers of a space.

        Raises:
            DeviceError: a parameter has none.
        """
        self._at: dict[int, list[tuple[Parameter, Register]]] = {}
        for p in space.parameters:
            if p.register is None:
                raise DeviceError(f"{space.name}: parameter {p.name} has no register; firmware cannot hold it")
            self._at.setdefault(p.register.address, []).append((p, p.register))
        self.addresses = tuple(self._at)
        # A register that one parameter has whole holds its code as it is: of most devices all of them.
        self._whole = {a: f[0][0].name for a, f in self._at.items() if len(f) == 1 and f[0][1].bits is None}

    def at(self, address: int) -> list[Parameter]:
        """The parameters of a register; none where there is no register."""
        return [p for p, _ in self._at.get(address, ())]

    def words(self, codes: Mapping[str, int]) -> dict[int, int]:
        """Words by address of codes by name; of registers of which no parameter is named there is none.

        Raises:
            KeyError: a register is named in part.
        """
        words = {}
        for address, fields in self._at.items():
            if (name := self._whole.get(address)) is not None:
                if name in codes:
                    words[address] = codes[name]
            elif any(p.name in codes for p, _ in fields):
                words[address] = self.word(address, codes)
        return words

    def word(self, address: int, codes: Mapping[str, int]) -> int:
        """The word of one register, of codes by name.

        Raises:
            KeyError: there is no such register, or not all of its parameters are named.
        """
        name = self._whole.get(address)
        return sum(r.put(codes[p.name]) for p, r in self._at[address]) if name is None else codes[name]

    def codes(self, words: Mapping[int, int]) -> dict[str, int]:
        """Codes by name of words by address.

        Raises:
            KeyError: there is no such register.
        """
        codes = {}
        for address, word in words.items():
            if (name := self._whole.get(address)) is not None:
                codes[name] = word
            else:
                codes.update((p.name, r.take(word)) for p, r in self._at[address])
        return codes


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
