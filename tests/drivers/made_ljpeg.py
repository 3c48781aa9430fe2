"""Lossless JPEG (ITU-T T.81, process 14, predictor 1), written by hand for the tests."""

from __future__ import annotations

import struct

import numpy as np

# Bits of the code of each category of difference; of those of one length the lower category comes first.
_LENGTHS = {0: 2, 1: 3, 2: 3, 3: 3, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7, 10: 8, 11: 9, 12: 10, 13: 11, 14: 12}


def ljpeg(pixels: np.ndarray, components: int = 2, bits: int = 12) -> bytes:
    """The JPEG of a mosaic ``[H, W]`` of which ``components`` neighbours in a row are one sample each of as many."""
    height, width = pixels.shape[0], pixels.shape[1] // components
    samples = pixels.reshape(height, width, components).astype(int)
    predicted = np.empty_like(samples)
    predicted[:, 1:], predicted[1:, 0], predicted[0, 0] = samples[:, :-1], samples[:-1, 0], 1 << (bits - 1)
    codes = _codes()
    text = []
    for difference in (samples - predicted).ravel().tolist():
        category = abs(difference).bit_length()
        text.append(codes[category])
        if category:
            text.append(format(difference if difference > 0 else difference + (1 << category) - 1, f"0{category}b"))
    stream = "".join(text)
    stream += "1" * (-len(stream) % 8)
    coded = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")
    counts = bytes(list(_LENGTHS.values()).count(length) for length in range(1, 17))
    frame = struct.pack(">BHHB", bits, height, width, components)
    frame += b"".join(bytes([i, 0x11, 0]) for i in range(components))
    scan = bytes([components]) + b"".join(bytes([i, 0]) for i in range(components)) + b"\1\0\0"
    table = b"\0" + counts + bytes(_LENGTHS)
    parts = ((0xC3, frame), (0xC4, table), (0xDA, scan))
    head = b"".join(b"\xff" + bytes([m]) + struct.pack(">H", len(d) + 2) + d for m, d in parts)
    return b"\xff\xd8" + head + coded + b"\xff\xd9"


def _codes() -> dict[int, str]:
    codes, code, before = {}, 0, 0
    for category, length in _LENGTHS.items():
        code <<= length - before
        codes[category], code, before = format(code, f"0{length}b"), code + 1, length
    return codes
