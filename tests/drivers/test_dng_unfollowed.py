"""What a DNG asks for and the reader does not follow is refused or told, never read as something else."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from made_dng import BYTE, SHORT, flat, made_dng

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.camera_files import load_camera_file
from drivers.raw.raw_notes import RawNote

UNDEFINED, SSHORT = 7, 8


def read(tags: dict[int, Any], exif: dict[int, Any] | None = None, order: str = "<") -> tuple[RawFrame, dict[str, str]]:
    notes: list[RawNote] = []
    frame = load_camera_file(io.BytesIO(made_dng(flat(), tags, exif, order=order)), "x.dng", notes)
    return frame, {note.kind: note.text for note in notes}


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({50710: (BYTE, [2, 1, 0])}, "CFAPlaneColor is 2 1 0, read are only files where it is 0 1 2"),
        ({50711: (SHORT, [9])}, "CFALayout is 9"),
        ({33422: (BYTE, [3, 4, 4, 5])}, "CFAPattern is 3 4 4 5, read are only files of red, green and blue"),
        ({50974: (SHORT, [2, 2])}, "SubTileBlockSize is 2 2"),
        ({50975: (SHORT, [2])}, "RowInterleaveFactor is 2"),
        ({52547: (SHORT, [2])}, "ColumnInterleaveFactor is 2"),
        ({339: (SHORT, [2])}, "signed numbers"),
        ({258: (SHORT, [12]), 266: (SHORT, [2])}, "lowest bit"),
        ({258: (SHORT, [14])}, "take 16 bits each, but its BitsPerSample is 14"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_layout_that_is_not_followed_is_refused(tags: dict[int, Any], told: str, order: str) -> None:
    with pytest.raises(FrameError, match=told) as caught:
        read(tags, order=order)
    assert "\n" not in str(caught.value)


def test_the_plain_values_of_these_tags_are_read() -> None:
    plain = {50710: (BYTE, [0, 1, 2]), 50711: (SHORT, [1]), 50975: (SHORT, [1]), 339: (SHORT, [1])}
    raw, notes = read(plain)
    assert (raw.cfa, notes) == ("RGGB", {})


def listed(*opcodes: int) -> bytes:
    """An opcode list whose opcodes have 8 bytes each; big-endian in any file."""
    return struct.pack(">I", len(opcodes)) + b"".join(struct.pack(">IIII8x", o, 0x01030000, 0, 8) for o in opcodes)


@pytest.mark.parametrize("order", ["<", ">"])
def test_opcodes_that_are_left_out_are_told(order: str) -> None:
    lists = {51008: (UNDEFINED, listed(7)), 51009: (UNDEFINED, listed(9, 9, 99)), 51022: (UNDEFINED, listed(1))}
    raw, notes = read(lists, order=order)
    assert "asks for MapTable (OpcodeList1); GainMap, opcode 99 (OpcodeList2), which is not done" in notes["opcodes"]
    assert raw.hash == read({})[0].hash


@pytest.mark.parametrize("data", [b"", b"\0", listed(9)[:11], b"\xff" * 40, listed()])
def test_a_damaged_opcode_list_is_no_obstacle(data: bytes) -> None:
    assert read({51009: (UNDEFINED, data)})[0].hash == read({})[0].hash


def test_a_negative_iso_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, notes = read({}, {34855: (SHORT, [65436])})
    assert raw.iso == 65436
    monkeypatch.setitem(made_dng.__globals__["_LETTERS"], SSHORT, "h")
    raw, notes = read({}, {34855: (SSHORT, [-100])})
    assert raw.iso is None
    assert "ISO -100" in notes["iso"]
