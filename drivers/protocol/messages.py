"""The wire protocol's messages as Python has them, and their bounds. PROTOCOL.md specifies them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from drivers.errors import ProtocolError
from drivers.frames import MAX_SIDE
from drivers.parameters import ParameterSpace
from drivers.plain_pictures import PLAIN, PictureOutput
from drivers.raw_input import RawInput
from drivers.registers import Bank

VERSION = 1
"""Of the messages' form, in every header."""
LATEST = 2
"""The protocol's latest version: HELLO and INFO agree on one."""
MAX_SPEAKS = 255
MAX_HEADER = 1 << 20
MAX_PAYLOAD = 2 * MAX_SIDE * MAX_SIDE
MAX_HELD = 2**40
MAX_OUTPUT = 256 << 20
MAX_METADATA = 4096
MAX_REGISTERS = 1024
MAX_IN_FLIGHT = 64
MAX_ID = 2**64 - 1
MAX_COUNT = 2**63 - 1
"""Largest frame number and device time: what a signed integer of 64 bits holds, as data bases and languages have it."""
MEDIA_TYPES = ("image/jpeg", "image/png", PLAIN)
ERROR_CODES = (
    "bad_message",
    "version",
    "unsupported",
    "too_large",
    "busy",
    "bad_raw",
    "raw_hash",
    "bad_register",
    "bad_code",
    "failed",
    "burst",
    "no_raw",
)
MAX_TEXT = 1024
Buffer = bytes | memoryview
Registers = tuple[tuple[int, int], ...]
"""Pairs of byte address and code."""


class MessageError(ProtocolError):
    """A message that cannot be taken.

    Attributes:
        code: one of :data:`ERROR_CODES`, for the answer.
        request_id: of the message, 0 where it could not be read.
    """

    def __init__(self, code: str, text: str, request_id: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Hello:
    """Who are you? Answered with :class:`Info`; ``speaks``: the latest version that the client knows."""

    id: int
    speaks: int = 1


@dataclass(frozen=True, slots=True)
class Info:
    """Who the device is and what it takes; ``max_payload`` in bytes.

    ``echo``: its frames prove the parameters in force; ``live``: it photographs, and takes no stored RAW; ``input``:
    which RAWs it takes, and how they travel; ``output``: what its pictures are; ``holds``: bytes of RAWs that it keeps.
    ``version``: of the protocol, in which this is told.
    """

    id: int
    model: str
    firmware: str
    serial: str
    boot_id: str
    max_in_flight: int
    max_payload: int
    space: ParameterSpace = field(repr=False)
    echo: bool = True
    live: bool = False
    input: RawInput = field(default_factory=RawInput)
    output: PictureOutput = field(default_factory=PictureOutput)
    holds: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class Read:
    """Read registers of a bank; no addresses means all of them. Answered with :class:`RegisterValues`."""

    id: int
    bank: Bank = "active"
    addresses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """Write registers to the shadow bank, all or none. Answered with :class:`RegisterValues` of what was written."""

    id: int
    registers: Registers


@dataclass(frozen=True, slots=True)
class RegisterValues:
    """Codes read back from a bank; ``parameters_hash`` covers the whole bank."""

    id: int
    boot_id: str
    bank: Bank
    registers: Registers
    parameters_hash: str


@dataclass(frozen=True, slots=True)
class Process:
    """Process a RAW with these registers, latched at this frame's boundary. Answered with :class:`Frame`.

    ``metadata`` is the RAW's canonical JSON, ``payload`` its mosaic as INFO's ``input`` says, empty where the device
    holds it. ``follows``: the request before it in its burst, 0: a burst begins.
    """

    id: int
    raw_hash: str
    registers: Registers
    metadata: bytes
    payload: Buffer = field(repr=False)
    follows: int = 0


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """Take a RAW of what is before a live device, with these registers. Answered with :class:`Frame` and its RAW.

    ``follows``: as of :class:`Process`.
    """

    id: int
    registers: Registers
    follows: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A processed frame and the proof of what made it; ``payload`` is the encoded image, or plain pixels.

    A device without an echo leaves ``parameters_hash`` and ``registers`` empty. A live device adds the RAW: its
    ``metadata`` (canonical JSON) and ``raw``, the mosaic as INFO's ``input`` says. ``statistics``: the figures by name
    that INFO's space announces.
    """

    id: int
    boot_id: str
    frame: int
    raw_hash: str
    parameters_hash: str
    registers: Registers
    media_type: Literal["image/jpeg", "image/png", "video/raw"]
    output_hash: str
    device_ns: int
    payload: Buffer = field(repr=False)
    metadata: bytes = b""
    raw: Buffer = field(default=b"", repr=False)
    statistics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Error:
    """A refusal; ``code`` is one of :data:`ERROR_CODES`, ``text`` for people."""

    id: int
    code: str
    text: str


FrameRequest = Process | CaptureRequest
Message = Hello | Info | Read | Write | RegisterValues | Process | CaptureRequest | Frame | Error
