"""What a DNG's tags say of its mosaic that neither LibRaw nor this reader follows: it would be read as another one."""

from __future__ import annotations

from drivers.raw.tiff_tags import Directory, FileTags, Values, one

# Tag, name, and the one value with which the mosaic is what is read.
_PLAIN: tuple[tuple[int, str, Values], ...] = (
    (50710, "CFAPlaneColor", (0, 1, 2)),
    (50711, "CFALayout", (1,)),
    (50974, "SubTileBlockSize", (1, 1)),
    (50975, "RowInterleaveFactor", (1,)),
    (52547, "ColumnInterleaveFactor", (1,)),
)
_CFA_PATTERN = 33422
_BITS, _FILL_ORDER, _SAMPLE_FORMAT = 258, 266, 339
_SIGNED, _LOWEST_BIT_FIRST = 2, 2
_OPCODE_LISTS = {51008: "OpcodeList1", 51009: "OpcodeList2"}
_OPCODES = {
    1: "WarpRectilinear",
    2: "WarpFisheye",
    3: "FixVignetteRadial",
    4: "FixBadPixelsConstant",
    5: "FixBadPixelsList",
    6: "TrimBounds",
    7: "MapTable",
    8: "MapPolynomial",
    9: "GainMap",
    10: "DeltaPerRow",
    11: "DeltaPerColumn",
    12: "ScalePerRow",
    13: "ScalePerColumn",
    14: "WarpRectilinear2",
}


def unfollowed(tags: FileTags) -> str:
    """A tag by which the pixels lie elsewhere or mean something else than what is read; empty where there is none."""
    for mosaic in tags.mosaics if tags.is_dng else ():
        for code, name, plain in _PLAIN:
            if (found := mosaic.get(code, plain)) != plain:
                return f"its {name} is {_row(found)}, read are only files where it is {_row(plain)}"
        if not set(colours := mosaic.get(_CFA_PATTERN, ())) <= {0, 1, 2}:
            return f"its CFAPattern is {_row(colours)}, read are only files of red, green and blue (0, 1 and 2)"
        bits = int(one(mosaic.get(_BITS)) or 16)
        if one(mosaic.get(_SAMPLE_FORMAT)) == _SIGNED:
            return "its pixels are signed numbers (SampleFormat 2), read are only unsigned ones"
        if bits % 8 and one(mosaic.get(_FILL_ORDER)) == _LOWEST_BIT_FIRST:
            return "its pixels begin at the lowest bit (FillOrder 2), read are only files where it is 1"
    return ""


def opcodes_left_out(mosaic: Directory) -> str:
    """What the file asks to be done to its mosaic and is not, such as ``GainMap (OpcodeList2)``; often empty."""
    told = []
    for code, name in _OPCODE_LISTS.items():
        if asked := dict.fromkeys(int(opcode) for opcode in mosaic.get(code, ())):
            told.append(f"{', '.join(_OPCODES.get(opcode, f'opcode {opcode}') for opcode in asked)} ({name})")
    return "; ".join(told)


def _row(values: Values) -> str:
    return " ".join(f"{v:g}" for v in values[:8])
