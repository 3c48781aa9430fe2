"""The agent: an engineer's own function as a device of the wire protocol."""

from __future__ import annotations

import copy
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from drivers import pictures
from drivers.agent import png
from drivers.agent.device_side import DEFAULT_HOLDS, DEFAULT_MAX_IN_FLIGHT, DEFAULT_MAX_PAYLOAD, DeviceSide, Made
from drivers.agent.listening import open_link
from drivers.agent.own_parameters import Several, in_registers
from drivers.agent.serving import serve_link
from drivers.errors import DeviceError, FrameError, ParameterError, WorkbenchError
from drivers.frames import RawFrame, RgbFrame, make_sure_known
from drivers.parameters import Native, Parameter, ParameterSpace
from drivers.plain_pictures import PictureOutput, PlainPicture
from drivers.protocol import wire
from drivers.raw_input import RawInput
from drivers.vectors import Statistic

DEFAULT_URL = "zmq://127.0.0.1:5599"
MOST_SETTLE = 10_000
MOST_LATE = 32
"""Frames after which codes that are still not in force are reported as they are."""
T = TypeVar("T")
Metadata = dict[str, Any]
Values = dict[str, Any]
Picture = np.ndarray | bytes
Process = Callable[[np.ndarray, Metadata, Values], Picture | tuple[Picture, Mapping[str, float]]]
Capture = Callable[[Values], tuple[Any, ...]]
_Shot = tuple[RgbFrame | PlainPicture, dict[str, float]]
ReadBack = Callable[[], Mapping[str, Native]]


class Agent:
    """A device made of parameters and one function; the function is named with a decorator.

    ``@agent.process``: ``process(mosaic, metadata, values)`` makes the picture of a RAW. ``mosaic`` is
    ``uint16 [H, W]``, in DN, read-only. ``metadata`` has ``width``, ``height``, ``cfa``, ``black_level`` (four),
    ``white_level``, ``iso``, ``exposure_s``, ``as_shot_wb`` (three) and ``colour_matrix`` (3×3); the last four may be
    None. ``values`` has the native value of every parameter by name, and of every vector what it makes. It returns
    sRGB pixels, ``uint8 [H, W, 3]``, or the bytes of a JPEG or PNG, of the mosaic's size. The output must depend on
    nothing but the RAW and the values.

    ``@agent.capture``, in its place: ``capture(values)`` photographs, and returns a mosaic, its metadata (``width`` and
    ``height`` may be left out) and the picture of that very RAW. The device is a live one then.

    ``@agent.begin_burst``, where ``raw_input`` says ``frames`` above 1, of an ISP that filters over time: called before
    the first frame of each burst, to forget what was before it.

    ``@agent.read_back``, for hardware: ``read_back()`` returns the value of every parameter by name as the hardware has
    it in force. The frame is made again until they are those that were written, 32 times at most; what is in force then
    goes out with the frame.
    """

    def __init__(
        self,
        *,
        model: str,
        firmware: str,
        parameters: Iterable[Parameter | Several],
        constraints: Iterable[str] = (),
        statistics: Iterable[Statistic] = (),
        serial: str = "1",
        echo: bool = True,
        settle: int = 0,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        raw_input: RawInput | None = None,
        output: PictureOutput | None = None,
        holds: int = DEFAULT_HOLDS,
        overlap: bool = False,
    ) -> None:
        """An agent without its function.

        Args:
            model: product name. ``firmware``: its version; raise it when the same RAW and values give another output.
            parameters: of :func:`~drivers.agent.own_parameters.continuous` and its like.
            constraints: what must hold between two, such as ``"threshold_low < threshold_high"``; sets that break one
                never reach the function.
            statistics: figures of each frame; the function returns ``(picture, {name: number})`` then.
            serial: which unit this is.
            echo: False where the hardware cannot tell which codes made a frame, and some may be late.
            settle: frames that are made again before one counts: hardware that latches late, or filters over time.
            max_payload: largest RAW taken, in bytes; ``max_in_flight``: requests that may wait for one client.
            raw_input: which RAWs the ISP takes, and how they travel; the function gets them unpacked all the same.
            output: what the function returns where that is not sRGB or a file: its bytes, rows padded, as an array or
                as ``bytes``.
            holds: bytes of RAWs that are kept in memory, so that one need not travel again with each parameter set.
            overlap: over ZeroMQ the function is called in a thread of its own, always the same, so that answers leave
                and requests arrive while it waits for the hardware.

        Raises:
            ParameterError: two parameters have one name or share a register, or a value breaks the protocol's bounds.
        """
        for what, text in (("model", model), ("firmware", firmware), ("serial", serial)):
            if not isinstance(text, str) or not 1 <= len(text) <= 128 or not text.isprintable():
                raise ParameterError(f"{what} {text!r:.60} is not a text of 1..128 printable characters")
        for what, number, low, high in (
            ("settle", settle, 0, MOST_SETTLE),
            ("max_payload", max_payload, 8, wire.MAX_PAYLOAD),
            ("max_in_flight", max_in_flight, 1, wire.MAX_IN_FLIGHT),
            ("holds", holds, 0, wire.MAX_HELD),
        ):
            if type(number) is not int or not low <= number <= high:
                raise ParameterError(f"{what} {number!r:.60} is not a whole number in {low}..{high}")
        asked = list(parameters)
        flat = [p for one in asked for p in (one.parameters if isinstance(one, Several) else (one,))]
        vectors = tuple(one.vector for one in asked if isinstance(one, Several))
        self.space = ParameterSpace(model, in_registers(flat), tuple(constraints), vectors, tuple(statistics))
        for p in self.space.parameters:
            description = "".join(c for c in p.description if c not in "\n\t")
            if not all(text.isprintable() for text in (p.unit, description, *p.choices)):
                raise ParameterError(f"{p.name}: its unit, description or choices hold control characters")
        self._names: dict[str, Any] = {"model": model, "firmware": firmware, "serial": serial}
        self._echo, self._settle = echo, settle
        self._max_payload, self._max_in_flight, self._holds = max_payload, max_in_flight, holds
        self._overlap = overlap
        self._raw_input, self._output = raw_input, output or PictureOutput()
        self._process: Process | None = None
        self._capture: Capture | None = None
        self._read_back: ReadBack | None = None
        self._begin_burst: Callable[[], object] | None = None

    def process(self, function: Process) -> Process:
        """Decorator: makes the picture of a RAW."""
        self._process = function
        return function

    def capture(self, function: Capture) -> Capture:
        """Decorator: takes a photograph and makes its picture."""
        self._capture = function
        return function

    def read_back(self, function: ReadBack) -> ReadBack:
        """Decorator: tells the values in force."""
        self._read_back = function
        return function

    def begin_burst(self, function: Callable[[], object]) -> Callable[[], object]:
        """Decorator: forgets the frames before."""
        self._begin_burst = function
        return function

    def device(self) -> DeviceSide:
        """The device, just switched on, without a link.

        Raises:
            DeviceError: it has neither a function that processes nor one that captures, or both.
        """
        if (self._process is None) == (self._capture is None):
            raise DeviceError(f"{self.space.name}: put @agent.process or @agent.capture above one function")
        if (self._raw_input is not None and self._raw_input.frames > 1) == (self._begin_burst is None):
            raise DeviceError(f"{self.space.name}: frames above 1 in raw_input and @agent.begin_burst need each other")
        isp = _OwnIsp(self.space, self._process, self._capture, self._read_back, self._settle, self._output)
        isp.begin = self._begin_burst
        return DeviceSide(
            isp,
            self.space,
            **self._names,
            max_payload=self._max_payload,
            max_in_flight=self._max_in_flight,
            echo=self._echo,
            live=self._capture is not None,
            raw_input=self._raw_input,
            output=self._output,
            holds=self._holds,
            overlap=self._overlap,
        )

    def serve(
        self,
        url: str = DEFAULT_URL,
        *,
        ready: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Serve until Ctrl-C, SIGTERM or ``stop``. A second Ctrl-C does not wait for the frame that is being made.

        Args:
            url: ``zmq://HOST:PORT`` (port 0: any free one), ``serial:///dev/ttyGS0?baud=N``, ``serial:pty`` (a new
                pseudo terminal), ``serial:pty:PATH`` or ``serial:socket://HOST:PORT``. Beyond this machine
                ``?keys=FOLDER`` encrypts ZeroMQ's link, and ``?plain=1`` says that the network is safe without.
            ready: called with the URL for clients once the device listens.
            stop: ends it when set.

        Raises:
            SystemExit: with one line: there is no function, the URL is malformed, or it cannot be listened on.
        """
        try:
            device = self.device()
            serve_link(device, lambda: open_link(url, device.max_payload), ready, stop)
        except WorkbenchError as error:
            raise SystemExit(f"error: {error}") from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None


class _OwnIsp:
    """The engineer's functions as :class:`~drivers.agent.device_side.Isp`."""

    def __init__(
        self,
        space: ParameterSpace,
        process: Process | None,
        capture: Capture | None,
        read_back: ReadBack | None,
        settle: int,
        output: PictureOutput,
    ) -> None:
        self._space, self._settle, self._output = space, settle, output
        self._functions = process, capture
        self._read_back = read_back
        self.begin: Callable[[], object] | None = None

    def power_on(self) -> None:
        """See :class:`~drivers.agent.device_side.Isp`."""

    def begin_burst(self) -> None:
        """See :class:`~drivers.agent.device_side.Isp`."""
        if self.begin is not None:
            _guarded(self.begin)

    def process(self, raw: RawFrame, latched: dict[str, int]) -> Made:
        """See :class:`~drivers.agent.device_side.Isp`."""
        process = self._functions[0]
        assert process is not None

        def once() -> _Shot:
            made = process(raw.mosaic, copy.deepcopy(raw.metadata), self._values(latched, raw.iso))
            told: Any = {}
            if self._space.statistics:
                if not isinstance(made, tuple) or len(made) != 2:
                    raise FrameError(f"{process.__name__} returned {_kind(made)}; return picture and statistics")
                made, told = made
            return _picture(made, raw, process.__name__, self._output), self._statistics(told, process.__name__)

        (picture, statistics), in_force = self._in_force(once, latched)
        return Made(picture, in_force, statistics)

    def photograph(self, latched: dict[str, int]) -> tuple[RawFrame, Made]:
        """See :class:`~drivers.agent.device_side.Isp`."""
        capture = self._functions[1]
        assert capture is not None

        parts = "mosaic, metadata and picture" + (" and statistics" if self._space.statistics else "")

        def once() -> tuple[RawFrame, _Shot]:
            taken = capture(self._values(latched, None))
            if not isinstance(taken, tuple) or len(taken) != (4 if self._space.statistics else 3):
                raise FrameError(f"{capture.__name__} returned {_kind(taken)}; return {parts}")
            make_sure_known(taken[1])
            # The camera's own buffer may be filled anew before this RAW has gone out.
            mosaic = taken[0].copy() if isinstance(taken[0], np.ndarray) else taken[0]
            raw = RawFrame.from_metadata(mosaic, taken[1], capture.__name__)
            statistics = self._statistics(taken[3] if len(taken) == 4 else {}, capture.__name__)
            return raw, (_picture(taken[2], raw, capture.__name__, self._output), statistics)

        (raw, (picture, statistics)), in_force = self._in_force(once, latched)
        return raw, Made(picture, in_force, statistics)

    def _values(self, latched: dict[str, int], iso: float | None) -> Values:
        values: Values = dict(self._space.from_codes(latched).values)
        return values | {v.name: v.value(values, iso) for v in self._space.vectors}

    def _statistics(self, told: Any, who: str) -> dict[str, float]:
        names = [s.name for s in self._space.statistics]
        if not isinstance(told, Mapping) or set(told) != set(names):
            raise FrameError(f"{who} told statistics {told!r:.80}; tell {', '.join(names)}")
        figures = {name: float(told[name]) for name in names}
        if not np.isfinite(list(figures.values())).all():
            raise FrameError(f"{who} told statistics {told!r:.80}; they are finite numbers")
        return figures

    def _in_force(self, once: Callable[[], T], latched: dict[str, int]) -> tuple[T, dict[str, int]]:
        """What a frame gives once the codes are in force and the output has settled, and the codes in force."""
        made = _guarded(once)
        if self._read_back is not None:
            for _ in range(MOST_LATE):
                if self._codes() == latched:
                    break
                made = _guarded(once)
        for _ in range(self._settle):
            made = _guarded(once)
        return made, latched if self._read_back is None else self._codes()

    def _codes(self) -> dict[str, int]:
        assert self._read_back is not None
        return _guarded(lambda: self._space.parse(self._read_back()).by_name)  # type: ignore[misc]


def _guarded(call: Callable[[], T]) -> T:
    """What a function of the engineer's gives.

    Raises:
        WorkbenchError: it failed; one line. The traceback of an error of its own goes to stderr.
    """
    try:
        return call()
    except WorkbenchError as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        raise
    except Exception as error:
        traceback.print_exc()
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise FrameError(told.removesuffix(":")) from error


def _picture(made: Any, raw: RawFrame, who: str, output: PictureOutput) -> RgbFrame | PlainPicture:
    """What the function returned, as it travels."""
    width, height = output.picture_size(raw.width, raw.height)
    if not output.is_file:
        return _plain(made, width, height, who, output)
    wanted = f"return uint8 [{height}, {width}, 3], red first, or the bytes of a JPEG or PNG"
    if isinstance(made, np.ndarray):
        if made.dtype != np.uint8 or made.shape != (height, width, 3):
            raise FrameError(f"{who} returned {_kind(made)}; {wanted}")
        return RgbFrame(png.encode(made), "image/png")
    if not isinstance(made, bytes | bytearray | memoryview):
        raise FrameError(f"{who} returned {_kind(made)}; {wanted}")
    encoded = bytes(made)
    try:
        header = pictures.read_header(encoded)
    except FrameError as error:
        raise FrameError(f"{who} returned {len(encoded)} bytes that are no picture: {error}; {wanted}") from error
    if (header.width, header.height, header.bits) != (width, height, 8):
        told = f"a {header.kind} of {header.width}×{header.height} pixels, {header.bits} bits a channel"
        raise FrameError(f"{who} returned {told}; it must have {width}×{height} and 8 bits")
    return RgbFrame(encoded, "image/png" if header.kind == "PNG" else "image/jpeg")


def _plain(made: Any, width: int, height: int, who: str, output: PictureOutput) -> PlainPicture:
    wanted = output.size(width, height)
    if isinstance(made, np.ndarray) and made.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        encoded = made.astype(made.dtype.newbyteorder("<"), copy=False).tobytes()
    elif isinstance(made, bytes | bytearray | memoryview):
        encoded = bytes(made)
    else:
        raise FrameError(f"{who} returned {_kind(made)}; return the {wanted} bytes of {output.format}")
    if len(encoded) != wanted:
        raise FrameError(f"{who} returned {len(encoded)} bytes; {output.format} of {width}×{height} has {wanted}")
    return PlainPicture(encoded)


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
