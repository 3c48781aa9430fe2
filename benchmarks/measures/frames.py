"""Made-up frames: RAWs with the noise of a sensor, and the JPEGs of devices that answer without looking."""

from __future__ import annotations

from functools import cache

import numpy as np

from drivers.frames import RawFrame

MP12 = (4096, 3072)
HD = (1920, 1080)
SMALL = (128, 128)


def raw(size: tuple[int, int], seed: int = 0) -> RawFrame:
    """A RAW of ``(width, height)``: slow waves of light with shot noise, 12 bits, ISO 100 to 1600."""
    width, height = size
    random = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height, dtype=np.float32)[:, None], np.linspace(0, 1, width, dtype=np.float32)
    light = 1200 + 700 * np.sin(random.uniform(5, 40) * x + 3 * y) + 600 * np.cos(random.uniform(5, 40) * y)
    light += np.sqrt(light.clip(1)) * random.standard_normal((height, width), dtype=np.float32)
    dn = np.rint(light + 64).clip(0, 4095).astype(np.uint16)
    return RawFrame(
        dn,
        "RGGB",
        (64.0,) * 4,
        4095,
        iso=100.0 * 2 ** (seed % 5),
        exposure_s=0.01,
        as_shot_wb=(2.0, 1.0, 1.5),
        colour_matrix=((1.6, -0.4, -0.2), (-0.3, 1.5, -0.2), (0.0, -0.5, 1.5)),
    )


def reference(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """What such a RAW might become, ``uint8 [H, W, 3]``."""
    planes = raw(size, seed).planes().clip(0, 1) ** 0.45
    pixels: np.ndarray = np.rint(255 * planes.repeat(2, 1).repeat(2, 2).transpose(1, 2, 0)).astype(np.uint8)
    return pixels


@cache
def jpeg(size: tuple[int, int]) -> bytes:
    """A JPEG of ``(width, height)``."""
    import cv2

    ok, data = cv2.imencode(".jpg", reference(size), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert ok
    return data.tobytes()


def remarked(picture: bytes, remark: bytes) -> bytes:
    """The JPEG with a comment, so that its bytes are its own."""
    return picture[:2] + b"\xff\xfe" + (len(remark) + 2).to_bytes(2, "big") + remark + picture[2:]
