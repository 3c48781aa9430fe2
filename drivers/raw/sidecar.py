"""The sidecar of a headerless dump: what describes its pixels."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivers.cfa import KINDS
from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.frames import MAX_SIDE
from drivers.orientation import UPRIGHT
from drivers.packing import BITS, Packing, row_bytes
from drivers.regular_files import read_toml
from drivers.validation_text import short

MOST_LINEAR = (1 << 24) - 1
_FULL = 65535
Level = Annotated[float, Field(ge=0, le=MOST_LINEAR, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Code = Annotated[int, Field(ge=0, le=_FULL, strict=True)]
Linear = Annotated[int, Field(ge=0, le=MOST_LINEAR, strict=True)]
Container = Literal["u8", "u16", "raw10", "raw12", "raw14"]

_FORMS = {
    "width": f"a whole number, 2 to {MAX_SIDE}",
    "height": f"a whole number, 2 to {MAX_SIDE}",
    "container": '"u8", "u16", "raw10", "raw12" or "raw14"',
    "stride": "a whole number of bytes from one row to the next",
    "bits": "a whole number, 1 to 16",
    "endianness": '"little" or "big"',
    "cfa": '"RGGB", "BGGR", "GRBG" or "GBRG"; "M" (mono), or the tile of Quad Bayer, RGB-IR or RCCB in reading order',
    "black_level": "one number, or four in reading order of the 2×2 block, each 0 to 65535 (with knees 16777215)",
    "white_level": "a whole number, 1 to 65535 (with knees 16777215)",
    "knees": f"2 to 64 pairs [stored value, linear value], linear values 0 to {MOST_LINEAR}",
    "offset": "a whole number of bytes, 0 or more",
    "iso": "a number above 0",
    "exposure_s": "a number of seconds above 0",
    "as_shot_wb": "three numbers above 0, [red, green, blue]",
    "orientation": "a whole number, 1 to 8, as in Exif",
}


def _known(cfa: str) -> str:
    if cfa not in KINDS:
        raise ValueError("no pattern")
    return cfa


class Sidecar(BaseModel):
    """What a sidecar says; see :mod:`drivers.raw.headerless` for the keys.

    Of a companded dump ``black_level``, ``white_level`` and the knees' second values are linear DN of up to 24 bits;
    :attr:`black_levels` and :attr:`white` are what the frame has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: int = Field(ge=2, le=MAX_SIDE, strict=True)
    height: int = Field(ge=2, le=MAX_SIDE, strict=True)
    container: Container
    bits: int = Field(ge=1, le=16, strict=True)
    endianness: Literal["little", "big"] | None = None
    stride: int | None = Field(default=None, ge=1, strict=True)
    cfa: Annotated[str, Field(strict=True), AfterValidator(_known)]
    black_level: Level | tuple[Level, Level, Level, Level]
    white_level: int = Field(ge=1, le=MOST_LINEAR, strict=True)
    knees: Annotated[list[tuple[Code, Linear]], Field(min_length=2, max_length=64)] | None = None
    offset: int = Field(default=0, ge=0, strict=True)
    iso: Positive | None = None
    exposure_s: Positive | None = None
    as_shot_wb: tuple[Positive, Positive, Positive] | None = None
    orientation: int = Field(default=UPRIGHT, ge=1, le=8, strict=True)

    @model_validator(mode="after")
    def _check(self) -> Sidecar:
        if self.container == "u16" and self.endianness is None:
            raise ValueError('container "u16" needs endianness = "little" or "big"')
        if self.bits > (8 if self.container == "u8" else BITS[self.packing]):
            raise ValueError(f'bits = {self.bits} does not fit container "{self.container}"')
        if self.stride is not None and self.stride < self.row_bytes:
            raise ValueError(f"stride = {self.stride} is less than the {self.row_bytes} bytes of a row")
        if self.knees is not None:
            self._check_knees(self.knees)
        elif self.white_level > self.largest:
            raise ValueError(f"white_level = {self.white_level} does not fit bits = {self.bits} (≤ {self.largest})")
        black = max(self.black_level) if isinstance(self.black_level, tuple) else self.black_level
        if black >= self.white_level:
            raise ValueError(f"black_level = {black:g} is not below white_level = {self.white_level}")
        return self

    def _check_knees(self, knees: list[tuple[int, int]]) -> None:
        for before, after in itertools.pairwise(knees):
            if before[0] >= after[0] or before[1] >= after[1]:
                raise ValueError(f"knees: {list(after)} after {list(before)}: both values must rise")
        if (knees[0][0], knees[-1][0]) != (0, self.largest):
            raise ValueError(
                f"knees go from stored value {knees[0][0]} to {knees[-1][0]}, they must go from 0 to {self.largest} "
                f"(bits = {self.bits})"
            )
        if self.white_level > knees[-1][1]:
            raise ValueError(f"white_level = {self.white_level} lies above the last knee's linear value {knees[-1][1]}")

    @property
    def packing(self) -> Packing:
        """How pixels lie in a row; of ``u16`` as far as byte order is not concerned."""
        return "u16" if self.container == "u8" else self.container

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without padding."""
        return self.width if self.container == "u8" else row_bytes(self.packing, self.width)

    @property
    def size(self) -> int:
        """Bytes of the file; the last row is padded like the others."""
        return self.offset + (self.stride or self.row_bytes) * self.height

    @property
    def largest(self) -> int:
        """Largest stored value that the bit depth allows."""
        return (1 << self.bits) - 1

    @property
    def scale(self) -> float:
        """Linear DN to one of the frame's: 1, but for a companded dump whose linear values need more than 16 bits."""
        return 1.0 if self.knees is None else max(1.0, self.knees[-1][1] / _FULL)

    @property
    def black_levels(self) -> tuple[float, float, float, float]:
        """Black level at the four positions of the 2×2 block, in the frame's DN."""
        b = self.black_level
        four = b if isinstance(b, tuple) else (b, b, b, b)
        return four if self.knees is None else tuple(v / self.scale for v in four)  # type: ignore[return-value]

    @property
    def white(self) -> int:
        """White level in the frame's DN."""
        return self.white_level if self.knees is None else round(self.white_level / self.scale)

    def linear(self, stored: np.ndarray) -> np.ndarray:
        """``uint16 [H, W]``, linear in the light, of stored values: straight lines between the knees, rounded once."""
        if self.knees is None:
            return stored
        codes, values = zip(*self.knees, strict=True)
        table = np.interp(np.arange(self.largest + 1), codes, values) / self.scale
        looked_up: np.ndarray = np.rint(table).astype(np.uint16)[stored]
        return looked_up


def has_sidecar(path: Path) -> bool:
    """Whether a dump has a sidecar."""
    return any(candidate.exists() for candidate in _sidecars(path))


def find_sidecar(path: Path) -> Path:
    """The sidecar of a headerless dump.

    Raises:
        FrameError: it has none.
    """
    candidates = _sidecars(path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FrameError(
        f"{shown(path)}: a headerless dump needs a sidecar {shown(candidates[0].name)} with width, height, container, "
        "endianness, bits, cfa, black_level and white_level; write one"
    )


def passed_over(path: Path) -> Path | None:
    """A second sidecar of a dump that says otherwise than the one that counts; None where there is none.

    The shorter name may be that of another dump's sidecar, where there is one beside it.
    """
    first, second = _sidecars(path)
    if not (first.exists() and second.exists()) or any(
        other.exists() for other in (path.with_suffix(suffix) for suffix in (".raw", ".bin")) if other != path
    ):
        return None
    try:
        return None if read_toml(first) == read_toml(second) else second
    except (OSError, ValueError):
        return second


def _sidecars(path: Path) -> list[Path]:
    return [path.with_name(path.name + ".toml"), path.with_suffix(".toml")]


def read_sidecar(path: Path) -> Sidecar:
    """What a sidecar says.

    Raises:
        FrameError: it cannot be read, or a key in it is unknown or odd.
    """
    name = shown(path)
    try:
        document = read_toml(path)
    except OSError as error:
        raise FrameError(f"{name}: cannot read the sidecar: {error.strerror or error}") from error
    except ValueError as error:
        raise FrameError(f"{name}: not valid TOML: {shown(error)}") from error
    for key in document:
        if key not in Sidecar.model_fields:
            close = difflib.get_close_matches(key, Sidecar.model_fields, n=1)
            known = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(Sidecar.model_fields)}"
            raise FrameError(f"{name}: unknown key {short(key)} in the sidecar; {known}")
    try:
        return Sidecar.model_validate(document)
    except ValidationError as error:
        raise FrameError(f"{name}: {_fault(error, document)}") from error


def _fault(error: ValidationError, document: dict[str, Any]) -> str:
    """The first fault in words: the key, its value and what it must be."""
    first = error.errors()[0]
    if not first["loc"]:
        return shown(first["msg"].removeprefix("Value error, "))
    key = str(first["loc"][0])
    if key not in document:
        return f"{key}: missing; it is {_FORMS[key]}"
    return f"{key} = {short(document[key])}: must be {_FORMS[key]}"
