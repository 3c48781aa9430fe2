"""Outputs are looked at before memory is taken, refused with one reason, and decoded as they lie."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from drivers import pictures
from drivers.errors import FrameError
from drivers.frames import RgbFrame

WIDTH, HEIGHT = 40, 24


def scene() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 6, y * 10, x + y], axis=-1).astype(np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int = WIDTH,
    height: int = HEIGHT,
    bits: int = 8,
    colours: int = 2,
    before: bytes = b"",
    rows: bytes | None = None,
) -> bytes:
    """A PNG written by hand, so that its header can say anything."""
    if rows is None:
        rows = b"".join(b"\0" + row.tobytes() for row in scene())
    ihdr = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def pillow(mode: str, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def jpeg(progressive: bool = False) -> bytes:
    return pillow("RGB", "JPEG", quality=95, progressive=progressive)


def with_frame(precision: int = 8, height: int = HEIGHT, width: int = WIDTH, sampling: int = 0x11) -> bytes:
    """A JPEG whose frame header says something else."""
    encoded = jpeg()
    at = encoded.index(b"\xff\xc0")
    return (
        encoded[: at + 4]
        + struct.pack(">BHHB", precision, height, width, 3)
        + bytes([encoded[at + 10], sampling])
        + encoded[at + 12 :]
    )


def exif(flag: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, flag, 0, 0)


def with_app1(encoded: bytes, content: bytes) -> bytes:
    return encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + encoded[2:]


def frame(encoded: bytes) -> RgbFrame:
    return RgbFrame(encoded, "image/png" if encoded.startswith(b"\x89") else "image/jpeg")


def refusal(rgb: RgbFrame) -> str:
    with pytest.raises(FrameError) as caught:
        rgb.check(WIDTH, HEIGHT)
    message = str(caught.value)
    assert message.startswith("the output is no ")
    assert "\n" not in message
    return message


BOMB = png(30_000, 30_000, 1, 0, rows=b"\0" * 50)

REFUSED = {
    "empty": (RgbFrame(b"", "image/png"), "it is empty"),
    "text": (RgbFrame(b"hello", "image/png"), "does not start as PNG does (68 65 6c 6c 6f)"),
    "another kind": (RgbFrame(jpeg(), "image/png"), "does not start as PNG"),
    "PNG called JPEG": (RgbFrame(png(), "image/jpeg"), "does not start as JPEG"),
    "another size": (
        frame(png(rows=b"".join(b"\0" + r.tobytes() for r in scene()[:20]), height=20)),
        "40×20 pixels, not",
    ),
    "turned": (frame(cv2.imencode(".jpg", scene().swapaxes(0, 1))[1].tobytes()), "24×40 pixels, not 40×24"),
    "PNG bomb": (frame(BOMB), "30000×30000 pixels, not 40×24"),
    "JPEG bomb": (frame(with_frame(height=65520, width=65520)), "65520×65520"),
    "no size": (frame(png(0, 0)), "0×0 pixels"),
    "12 bits": (frame(with_frame(precision=12)), "12 bits a channel: write 8"),
    "odd subsampling": (frame(with_frame(sampling=0x31)), "subsampling is not read"),
    "JPEG without a height": (frame(with_frame(height=0)), "40×0 pixels"),
    "16 bits": (
        frame(cv2.imencode(".png", scene().astype(np.uint16) * 257)[1].tobytes()),
        "16 bits a channel: write 8",
    ),
    "CMYK": (frame(pillow("CMYK", "JPEG")), "4 channels, such as CMYK"),
    "half transparent": (
        frame(cv2.imencode(".png", np.dstack([scene(), scene()[:, :, :1]]))[1].tobytes()),
        "without alpha",
    ),
    "transparent colour": (frame(pillow("RGB", transparency=tuple(map(int, scene()[0, 0])))), "without alpha"),
    "PNG header only": (frame(png()[:20]), "PNG header is cut short"),
    "PNG without end": (frame(png()[:-12]), "cut short: "),
    "half a PNG": (frame(png()[: len(png()) // 2]), "cut short: "),
    "PNG with too few rows": (frame(png(rows=bytes(500))), "it is damaged"),
    "PNG without pixels": (frame(png()[:33] + chunk(b"IEND", b"")), "without a chunk IDAT"),
    "JPEG header only": (frame(jpeg()[:30]), "without a JPEG's size"),
    "half a JPEG": (frame(jpeg()[: len(jpeg()) * 3 // 4]), "cut short (Premature end"),
    "half a JPEG with an end": (frame(jpeg()[: len(jpeg()) * 3 // 4] + b"\xff\xd9"), "damaged or cut short"),
    "JPEG without end": (frame(jpeg()[:-2]), "cut short"),
    "zeros from the middle on": (frame(jpeg()[:-60] + bytes(58) + b"\xff\xd9"), "damaged"),
    "half a progressive JPEG": (frame(jpeg(True)[: len(jpeg(True)) * 3 // 4] + b"\xff\xd9"), "damaged"),
    "scans without end": (frame(jpeg(True)[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 200 + b"\xff\xd9"), "scans"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_output_that_is_no_picture_of_the_raw_is_refused_with_a_reason(name: str) -> None:
    rgb, reason = REFUSED[name]
    assert reason in refusal(rgb)


def test_one_changed_bit_of_a_png_is_seen() -> None:
    encoded = bytearray(png())
    encoded[60] ^= 1
    assert "the checksum of chunk IDAT" in refusal(frame(bytes(encoded)))


def test_an_animation_is_refused() -> None:
    stream = io.BytesIO()
    first = Image.fromarray(scene())
    first.save(stream, "PNG", save_all=True, append_images=[Image.fromarray(255 - scene())])
    assert "animated" in refusal(frame(stream.getvalue()))


@pytest.mark.parametrize("encoded", [BOMB, REFUSED["JPEG bomb"][0].encoded])
def test_a_huge_picture_takes_no_memory_whoever_reads_it(encoded: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            frame(encoded).check(WIDTH, HEIGHT)
        with pytest.raises(FrameError, match="pixels, more than"):
            _ = frame(encoded).pixels
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoded", "pixels"),
    [
        (png(), scene()),
        (pillow("RGBA"), scene()),
        (pillow("L"), np.repeat(np.asarray(Image.fromarray(scene()).convert("L"))[:, :, None], 3, axis=2)),
        (pillow("LA"), np.repeat(np.asarray(Image.fromarray(scene()).convert("L"))[:, :, None], 3, axis=2)),
        (pillow("P"), np.asarray(Image.fromarray(scene()).convert("P").convert("RGB"))),
        (pillow("1"), np.asarray(Image.fromarray(scene()).convert("1").convert("RGB"))),
        (jpeg(), np.asarray(Image.open(io.BytesIO(jpeg())))),
        (jpeg(True), np.asarray(Image.open(io.BytesIO(jpeg(True))))),
        (jpeg() + bytes(100), np.asarray(Image.open(io.BytesIO(jpeg())))),
        (pillow("L", "JPEG"), np.asarray(Image.open(io.BytesIO(pillow("L", "JPEG"))).convert("RGB"))),
    ],
)
def test_every_form_that_is_let_through_has_three_channels(encoded: bytes, pixels: np.ndarray) -> None:
    frame(encoded).check(WIDTH, HEIGHT)
    np.testing.assert_array_equal(frame(encoded).pixels, pixels)


@pytest.mark.parametrize("flag", range(1, 9))
def test_an_outputs_orientation_is_ignored_in_jpeg_and_png_alike(flag: int) -> None:
    for plain, turned in (
        (jpeg(), with_app1(jpeg(), b"Exif\0\0" + exif(flag))),
        (png(), png(before=chunk(b"eXIf", exif(flag)))),
    ):
        frame(turned).check(WIDTH, HEIGHT)
        np.testing.assert_array_equal(frame(turned).pixels, frame(plain).pixels)


def cicp(primaries: int, curve: int, full: int) -> bytes:
    return chunk(b"cICP", bytes([primaries, curve, 0, full]))


def corners(red_x: float, red_y: float) -> bytes:
    values = (0.3127, 0.3290, red_x, red_y, 0.30, 0.60, 0.15, 0.06)
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in values)))


def test_an_output_whose_colours_are_not_srgb_is_refused() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    adobe = Image.Exif()
    adobe.get_ifd(34665)[40961] = 2
    gamma = [chunk(b"gAMA", struct.pack(">I", value)) for value in (100_000, 45_455)]
    late = pillow("RGB", "JPEG", icc_profile=b"none")
    for _ in range(5):
        late = late[:2] + b"\xff\xed\xff\xff" + bytes(65533) + late[2:]
    for encoded, space in (
        (pillow("RGB", "JPEG", icc_profile=srgb), ""),
        (pillow("RGB", "PNG", icc_profile=srgb), ""),
        (png(before=gamma[1]), ""),
        (pillow("RGB", "JPEG", exif=adobe), "Adobe RGB (1998)"),
        (pillow("RGB", "JPEG", icc_profile=b"none"), "an unreadable colour profile"),
        (late, "an unreadable colour profile"),
        (png(before=gamma[0]), "values of gamma 1"),
        (png(before=chunk(b"tEXt", b"a\0" + bytes([65]) * 300_000) + gamma[0]), "values of gamma 1"),
        (png(before=cicp(1, 13, full=1)), ""),
        (png(before=cicp(2, 2, full=1)), ""),
        (png(before=cicp(1, 1, full=1) + gamma[0]), ""),  # which counts before any other chunk
        (png(before=cicp(12, 13, full=1)), "full range, H.273's primaries 12 and curve 13 (cICP)"),
        (png(before=cicp(1, 16, full=1)), "full range, H.273's primaries 1 and curve 16 (cICP)"),
        (png(before=cicp(1, 13, full=0)), "limited range, H.273's primaries 1 and curve 13 (cICP)"),
        (png(before=corners(0.64, 0.33)), ""),
        (png(before=corners(0.68, 0.32)), "primaries of their own (cHRM, red at 0.68, 0.32)"),
        (png(before=gamma[1] + corners(0.68, 0.32)), "primaries of their own (cHRM, red at 0.68, 0.32)"),
        (png(before=chunk(b"sRGB", b"\0") + corners(0.68, 0.32)), ""),
    ):
        frame = RgbFrame(encoded, "image/jpeg" if encoded.startswith(b"\xff\xd8") else "image/png")
        if not space:
            frame.check(WIDTH, HEIGHT)
            continue
        with pytest.raises(FrameError, match=re.escape(f"its colours are in {space}: write sRGB")):
            frame.check(WIDTH, HEIGHT)


def test_data_that_was_stored_before_still_decodes() -> None:
    deep = cv2.imencode(".png", scene().astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(frame(deep).pixels, scene()[:, :, ::-1])
    cut = frame(jpeg()[: len(jpeg()) * 3 // 4] + b"\xff\xd9")
    assert cut.pixels.shape == (HEIGHT, WIDTH, 3)


MATERIAL = [png(), pillow("P"), pillow("LA"), jpeg(), jpeg(True), pillow("L", "JPEG"), b""]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(MATERIAL)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case 1:
                del data[at : at + draw(st.integers(0, 200))]
            case 2:
                data[at:at] = draw(st.binary(max_size=20))
            case _:
                data[at : at + 2] = b"\xff" + draw(st.binary(min_size=1, max_size=1))
    return bytes(data)


def outcome(use: Callable[[], np.ndarray | None]) -> np.ndarray | str | None:
    """What came, or the message of the foreseen error."""
    try:
        return use()
    except FrameError as error:
        return str(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated() | st.binary(max_size=100), st.booleans())
def test_any_bytes_are_a_picture_or_a_frame_error(data: bytes, as_png: bool) -> None:
    rgb = RgbFrame(data, "image/png" if as_png else "image/jpeg")
    checked = outcome(lambda: rgb.check(WIDTH, HEIGHT))
    if isinstance(checked, str):
        assert "\n" not in checked
    else:
        assert rgb.pixels.shape == (HEIGHT, WIDTH, 3)
        assert rgb.pixels.dtype == np.uint8
    pixels = outcome(lambda: pictures.decode(data, 4 * WIDTH * HEIGHT))
    if isinstance(pixels, np.ndarray):
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)
        assert pixels.size <= 3 * 4 * WIDTH * HEIGHT


_ANY = st.integers(0, 2**32 - 1) | st.integers(0, 100)


@settings(max_examples=100, deadline=None)
@given(_ANY, _ANY, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60))
def test_any_png_header_is_read_or_refused(width: int, height: int, bits: int, colours: int, rows: bytes) -> None:
    encoded = png(width, height, bits, colours, rows=rows)
    assert isinstance(outcome(lambda: frame(encoded).check(WIDTH, HEIGHT)), str)  # 60 bytes are too few rows
    outcome(lambda: pictures.decode(encoded, 2**16))
