"""Frames: the RAW that goes to a device and the RGB that comes back."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from drivers import pictures
from drivers.cfa import IN_WORDS, KINDS, CfaKind, as_bayer, tile_side
from drivers.errors import FrameError
from drivers.orientation import ORIENTATIONS, UPRIGHT

MAX_SIDE = pictures.MAX_SIDE
MAX_BURST = 64
_STRIP = 1 << 16
"""Pixels of a plane that are worked on at a time."""
_KINDS: dict[str, pictures.Kind] = {"image/png": "PNG", "image/jpeg": "JPEG"}


METADATA = ("width", "height", "cfa", "black_level", "white_level", "iso", "exposure_s", "as_shot_wb", "colour_matrix")
"""The keys of :attr:`RawFrame.metadata`."""


def make_sure_known(metadata: object, more: tuple[str, ...] = ()) -> None:
    """See that metadata that an engineer's program gives have the keys of :data:`METADATA`, or some ``more``, alone.

    A key that is misspelt would be passed over, and what it says taken for not known.

    Raises:
        FrameError: one is unknown; with the nearest name.
    """
    if not isinstance(metadata, dict):
        return  # told where the frame is made
    known = [*METADATA, *more]
    for key in metadata:
        if key not in known:
            close = difflib.get_close_matches(str(key).lower(), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(METADATA)}"
            raise FrameError(f"RAW metadata: unknown key {key!r:.60}; {hint}")


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A mosaic with what a device and a predictor need to know of it.

    Attributes:
        mosaic: ``uint16 [H, W]``, both even (multiples of 4 where the CFA's tile is 4×4), in digital numbers (DN);
            read-only.
        cfa: letters of the tile that repeats, in reading order, such as ``RGGB``; :mod:`drivers.cfa` has all.
        black_level: DN of black at the four positions of the 2×2 block, in reading order; of Quad Bayer those of the
            four filters of its tile.
        white_level: DN at which the sensor saturates.
        iso: ISO speed, or None where the file does not say.
        exposure_s: exposure time in seconds, or None.
        as_shot_wb: the camera's white-balance gains (red, green, blue), green = 1, or None.
        colour_matrix: 3×3 rows, camera RGB after white balance → linear sRGB, each row summing to 1, or None.
        source: where the frame came from, for people; not part of the hash.
        orientation: Exif's flag, 1..8, that turns the scene upright. The mosaic lies as the sensor read it, whatever
            the flag; it is neither sent to a device nor part of the hash.
        earlier: of a burst, the frames of the same scene that were taken before, ``uint16 [N - 1, H, W]``, the oldest
            first; read-only. A device that filters over time gets them first; nothing else looks at them.
    """

    mosaic: np.ndarray
    cfa: str
    black_level: tuple[float, float, float, float]
    white_level: int
    iso: float | None = None
    exposure_s: float | None = None
    as_shot_wb: tuple[float, float, float] | None = None
    colour_matrix: tuple[tuple[float, float, float], ...] | None = None
    source: str = ""
    orientation: int = UPRIGHT
    earlier: np.ndarray | None = None

    def __post_init__(self) -> None:
        m = self.mosaic
        name = self.source or "RAW frame"
        if not isinstance(m, np.ndarray) or m.dtype != np.uint16 or m.ndim != 2:
            got = f"{m.dtype} {list(m.shape)}" if isinstance(m, np.ndarray) else type(m).__name__
            raise FrameError(f"{name}: mosaic must be uint16 [H, W], not {got}")
        height, width = m.shape
        if height % 2 or width % 2 or not 2 <= height <= MAX_SIDE or not 2 <= width <= MAX_SIDE:
            raise FrameError(f"{name}: size {width}×{height} must be even and within 2..{MAX_SIDE}")
        if self.cfa not in KINDS:
            raise FrameError(f"{name}: CFA pattern {self.cfa!r:.60} is not one of {IN_WORDS}")
        if height % (side := tile_side(self.cfa)) or width % side:
            raise FrameError(f"{name}: size {width}×{height} must be multiples of {side}, the tile of CFA {self.cfa}")
        if len(self.black_level) != 4:
            raise FrameError(f"{name}: black_level needs 4 values, one a CFA position, not {len(self.black_level)}")
        if self.as_shot_wb is not None and len(self.as_shot_wb) != 3:
            raise FrameError(f"{name}: as_shot_wb needs 3 gains (red, green, blue), not {len(self.as_shot_wb)}")
        if self.colour_matrix is not None and np.shape(self.colour_matrix) != (3, 3):
            raise FrameError(f"{name}: colour_matrix must be 3×3, not {np.shape(self.colour_matrix)}")
        positive = [v for v in (self.iso, self.exposure_s, *(self.as_shot_wb or ())) if v is not None]
        if not np.all(np.isfinite([*self.black_level, *positive, *np.ravel(self.colour_matrix or ())])) or any(
            v <= 0 for v in positive
        ):
            raise FrameError(f"{name}: metadata holds a value that is not a finite, positive number")
        if not 0 <= min(self.black_level) <= max(self.black_level) < self.white_level <= 65535:
            raise FrameError(
                f"{name}: black level {max(self.black_level):g} must be below white level {self.white_level} (≤ 65535)"
            )
        if self.orientation not in ORIENTATIONS or type(self.orientation) is not int:
            raise FrameError(f"{name}: orientation {self.orientation!r} is not one of Exif's 1 to 8")
        m.flags.writeable = False
        if (e := self.earlier) is not None:
            if not isinstance(e, np.ndarray) or e.dtype != np.uint16 or e.ndim != 3 or e.shape[1:] != m.shape:
                raise FrameError(f"{name}: earlier frames must be uint16 [N, {height}, {width}], as the mosaic is")
            if not 1 <= len(e) < MAX_BURST:
                raise FrameError(f"{name}: {len(e)} earlier frames; a burst has 2..{MAX_BURST} frames")
            e.flags.writeable = False

    # A frame that kept itself would stay in memory until Python next looks for circles: large ones would pile up.
    @property
    def single(self) -> RawFrame:
        """The frame without those before it."""
        return self if self.earlier is None else self._alone

    @cached_property
    def _alone(self) -> RawFrame:
        return replace(self, earlier=None)

    @property
    def burst(self) -> list[RawFrame]:
        """The frames in their order; this one alone where there are none before it."""
        before = () if self.earlier is None else self.earlier
        return [*(replace(self.single, mosaic=mosaic) for mosaic in before), self.single]

    def until(self, frame: int) -> RawFrame:
        """The burst as it was when its ``frame``-th frame, counted from 1, was the last."""
        *before, last = self.burst[:frame]
        return replace(last, earlier=np.stack([raw.mosaic for raw in before]) if before else None)

    @property
    def cfa_kind(self) -> CfaKind:
        """Bayer or another."""
        return KINDS[self.cfa]

    @property
    def bayer(self) -> RawFrame:
        """What networks, rules and figures see: itself, or a Bayer mosaic of its size, see :mod:`drivers.cfa`."""
        return self.single if self.cfa_kind == "bayer" else self._as_bayer

    @cached_property
    def _as_bayer(self) -> RawFrame:
        cfa, mosaic, black = as_bayer(self.cfa, self.mosaic, self.black_level)
        return replace(self.single, cfa=cfa, mosaic=mosaic, black_level=black)

    @property
    def height(self) -> int:
        """Rows of the mosaic."""
        return int(self.mosaic.shape[0])

    @property
    def width(self) -> int:
        """Columns of the mosaic."""
        return int(self.mosaic.shape[1])

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What a device is told beside the pixels, as plain data (the wire's RAW header, the hash and files use it)."""
        return {
            "width": self.width,
            "height": self.height,
            "cfa": self.cfa,
            "black_level": [float(b) for b in self.black_level],
            "white_level": int(self.white_level),
            "iso": None if self.iso is None else float(self.iso),
            "exposure_s": None if self.exposure_s is None else float(self.exposure_s),
            "as_shot_wb": None if self.as_shot_wb is None else [float(g) for g in self.as_shot_wb],
            "colour_matrix": None
            if self.colour_matrix is None
            else [[float(v) for v in row] for row in self.colour_matrix],
        }

    @cached_property
    def canonical_metadata(self) -> bytes:
        """:attr:`metadata` as canonical JSON: what is hashed, and what goes to a device."""
        return json.dumps(self.metadata, sort_keys=True).encode()

    @cached_property
    def hash(self) -> str:
        """Content hash, 64 hexadecimal digits: SHA-256 of the metadata's canonical JSON and the little-endian DN
        (of a burst the last frame's, then the earlier ones')."""
        digest = hashlib.sha256(self.canonical_metadata)
        digest.update(np.ascontiguousarray(self.mosaic, dtype="<u2").data)
        if self.earlier is not None:
            digest.update(np.ascontiguousarray(self.earlier, dtype="<u2").data)
        return digest.hexdigest()

    @classmethod
    def from_metadata(cls, mosaic: np.ndarray, metadata: dict[str, Any], source: str = "") -> RawFrame:
        """The frame from its pixels and :attr:`metadata`.

        Raises:
            FrameError: a field is missing, odd, or does not agree with the pixels.
        """
        if not isinstance(metadata, dict):
            raise FrameError(f"{source or 'RAW frame'}: bad RAW metadata: {type(metadata).__name__}, not a table")
        try:
            wb, matrix = metadata.get("as_shot_wb"), metadata.get("colour_matrix")
            frame = cls(
                mosaic=mosaic,
                cfa=metadata["cfa"],
                black_level=tuple(float(b) for b in metadata["black_level"]),  # type: ignore[arg-type]
                white_level=int(metadata["white_level"]),
                iso=None if metadata.get("iso") is None else float(metadata["iso"]),
                exposure_s=None if metadata.get("exposure_s") is None else float(metadata["exposure_s"]),
                as_shot_wb=None if wb is None else tuple(float(g) for g in wb),  # type: ignore[arg-type]
                colour_matrix=None if matrix is None else tuple(tuple(float(v) for v in row) for row in matrix),  # type: ignore[misc]
                source=source,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FrameError(f"{source or 'RAW frame'}: bad RAW metadata: {error!r}") from error
        if (metadata.get("width", frame.width), metadata.get("height", frame.height)) != (frame.width, frame.height):
            raise FrameError(
                f"{source or 'RAW frame'}: metadata says {metadata.get('width', '?')}×{metadata.get('height', '?')}, "
                f"the mosaic is {frame.width}×{frame.height}"
            )
        return frame

    def planes(self) -> np.ndarray:
        """The paper's RGB split (section 4.2) of :attr:`bayer`: ``float32 [3, H/2, W/2]``, red, mean green, blue.

        Black is 0 and white 1; noise below black stays negative. Any CFA order gives the same colours.
        """
        raw = self.bayer
        planes = np.empty((3, raw.height // 2, raw.width // 2), dtype=np.float32)
        # A few rows at a time, so that what is made on the way stays in the processor's cache.
        step = max(_STRIP // planes.shape[2], 1)
        for first in range(0, planes.shape[1], step):
            rows = slice(first, first + step)
            seen: set[str] = set()
            for place, colour in enumerate(raw.cfa):
                plane, quarter = planes["RGB".index(colour), rows], raw._scaled(place, rows)
                if colour in seen:  # the second green
                    plane += quarter
                    plane /= 2
                else:
                    plane[:] = quarter
                seen.add(colour)
        return planes

    def normalised(self) -> np.ndarray:
        """The mosaic of :attr:`bayer` with black at 0 and white at 1: ``float32 [H, W]``."""
        raw = self.bayer
        scaled = np.empty(raw.mosaic.shape, dtype=np.float32)
        for place in range(4):
            scaled[place // 2 :: 2, place % 2 :: 2] = raw._scaled(place)
        return scaled

    def _scaled(self, place: int, rows: slice = slice(None)) -> np.ndarray:
        """The pixels at one of the four CFA positions, black 0, white 1: ``float32 [H/2, W/2]`` or ``rows`` of it."""
        black = np.float32(self.black_level[place])
        # Two neighbours are read as one number, which is faster than to read every other one.
        pairs = np.ascontiguousarray(self.mosaic).view(np.uint32)[place // 2 :: 2][rows]
        first = place % 2 == (sys.byteorder == "big")
        quarter = (pairs & 0xFFFF if first else pairs >> 16).view(np.int32).astype(np.float32)
        quarter -= black
        quarter /= np.float32(self.white_level) - black
        return quarter


@dataclass(frozen=True, eq=False)
class RgbFrame:
    """What a device gave back: its own bytes as they came, JPEG or PNG, sRGB.

    Attributes:
        encoded: the file's bytes.
        media_type: ``image/jpeg`` or ``image/png``.
    """

    encoded: bytes
    media_type: Literal["image/jpeg", "image/png"] = "image/jpeg"

    @cached_property
    def pixels(self) -> np.ndarray:
        """``uint8 [H, W, 3]``, red first, sRGB, as they lie in the file: an orientation in its Exif is ignored.

        Raises:
            FrameError: the bytes are not an image, or one of more than :data:`~drivers.pictures.MAX_PIXELS`.
        """
        try:
            return pictures.decode(self.encoded)
        except FrameError as error:
            raise FrameError(
                f"the device's output ({len(self.encoded)} bytes) does not decode as {self.media_type}: {error}"
            ) from error

    def check(self, width: int, height: int) -> None:
        """Make sure that this is a whole picture of the RAW's size, as a device has to give it.

        Its kind is as declared, it has 8 bits a channel, and it is not cut short or damaged. Grey and palettes are let
        through (:attr:`pixels` has three channels of them), and so is an alpha channel that is opaque everywhere.

        Args:
            width: pixels of the RAW.
            height: rows of the RAW.

        Raises:
            FrameError: it is not; one line that begins with "the output" and gives one reason.
        """
        try:
            pictures.check(self.encoded, _KINDS[self.media_type], width, height)
        except FrameError as error:
            raise FrameError(f"the output is no {_KINDS[self.media_type]} picture of the RAW: {error}") from error

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the bytes, 64 hexadecimal digits."""
        return hashlib.sha256(self.encoded).hexdigest()

    @classmethod
    def from_pixels(cls, pixels: np.ndarray) -> RgbFrame:
        """A lossless PNG frame from ``uint8 [H, W, 3]`` sRGB pixels, for devices that give pixels and no file."""
        import cv2

        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise FrameError(f"RGB pixels must be uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}")
        ok, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not ok:
            raise FrameError("the RGB pixels could not be encoded as PNG")
        return cls(data.tobytes(), "image/png")
