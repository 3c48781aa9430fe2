"""Picture files of every kind: one reading of flag, size, depth and colours, whatever decoder turns what."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from drivers.errors import FrameError
from drivers.given_pictures import decode_upright, read_header
from drivers.jpeg_damage import SubsamplingError, whole_jpeg
from drivers.orientation import ORIENTATIONS, to_sensor

PICTURE = np.zeros((32, 48, 3), np.uint8)
PICTURE[:16, :24], PICTURE[:16, 24:], PICTURE[16:, :24] = (220, 30, 30), (30, 200, 30), (40, 40, 210)


def encoded(kind: str, picture: np.ndarray = PICTURE, flag: int | None = None, **more: Any) -> bytes:
    """A file whose stored pixels lie so that the flag turns them into the picture."""
    stored = picture if flag is None or flag not in ORIENTATIONS else to_sensor(picture, flag)
    stream = io.BytesIO()
    exif = Image.Exif()
    if flag is not None:
        exif[274] = flag
    if kind == "JPEG":
        more |= {"quality": 98, "subsampling": 0}
    Image.fromarray(stored).save(stream, kind, exif=exif, **more)
    return stream.getvalue()


@pytest.mark.parametrize("flag", [None, *ORIENTATIONS])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_kind_is_turned_upright_by_its_flag(kind: str, flag: int | None) -> None:
    data = encoded(kind, flag=flag)
    header = read_header(data)
    assert (header.kind, header.orientation, header.bits) == (kind, flag or 1, 8)
    assert header.upright_size == (48, 32)
    assert (header.width, header.height) == ((32, 48) if (flag or 1) >= 5 else (48, 32))
    found = decode_upright(data, header)
    assert np.abs(found.astype(int) - PICTURE)[4:12, 4:20].max() < 12
    assert np.abs(found.astype(int) - PICTURE).mean() < 4
    assert (header.grey, header.alpha, header.cmyk, header.space) == (False, False, False, "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pixels_as_stored_lie_as_stored(kind: str) -> None:
    data = encoded(kind, flag=6)
    found = decode_upright(data, read_header(data), turn=False)
    assert np.abs(found.astype(int) - to_sensor(PICTURE, 6)).mean() < 4


def test_a_jpeg_with_more_pictures_behind_it_is_a_jpeg() -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = 3
    first = Image.fromarray(to_sensor(PICTURE, 3))
    first.save(stream, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=98, exif=exif)
    header = read_header(stream.getvalue())
    assert (header.kind, header.upright_size, header.orientation) == ("JPEG", (48, 32), 3)
    assert np.abs(decode_upright(stream.getvalue(), header).astype(int) - PICTURE).mean() < 4


def test_a_jpegs_pixels_are_those_of_opencv() -> None:
    data = encoded("JPEG", flag=1)
    expected = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]
    assert np.array_equal(decode_upright(data, read_header(data)), expected)


@pytest.mark.parametrize("flag", [0, 9, 200])
def test_no_such_flag_is_upright(flag: int) -> None:
    assert read_header(encoded("PNG", flag=flag)).orientation == 1


def test_damaged_exif_is_none() -> None:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\1")
    assert read_header(stream.getvalue()).orientation == 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_rounded(suffix: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (32, 48, 3), dtype=np.uint16)
    data = cv2.imencode(suffix, values[..., ::-1])[1].tobytes()
    header = read_header(data)
    assert header.bits == 16
    assert np.array_equal(decode_upright(data, header), np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_opaque_is_dropped_and_transparent_refused(mode: str) -> None:
    for alpha, opaque in ((255, True), (254, False), (0, False)):
        image = Image.fromarray(PICTURE)
        stream = io.BytesIO()
        if mode == "P":
            image.quantize(8).save(stream, "PNG", transparency=bytes([255] * 7 + [alpha]))
            used = np.unique(np.asarray(Image.open(stream)))
            if alpha != 255 and 7 not in used:
                image.quantize(8).save(stream := io.BytesIO(), "PNG", transparency=bytes([alpha] * 8))
        else:
            image = image.convert(mode)
            image.putalpha(alpha)
            image.save(stream, "PNG")
        header = read_header(stream.getvalue())
        assert header.alpha
        if opaque:
            assert decode_upright(stream.getvalue(), header).shape == (32, 48, 3)
        else:
            with pytest.raises(FrameError, match="is transparent in places"):
                decode_upright(stream.getvalue(), header)


@pytest.mark.parametrize(
    ("mode", "kind", "grey", "cmyk"),
    [
        ("L", "PNG", True, False),
        ("L", "JPEG", True, False),
        ("1", "PNG", True, False),
        ("I;16", "PNG", True, False),
        ("LA", "PNG", True, False),
        ("CMYK", "JPEG", False, True),
        ("CMYK", "TIFF", False, True),
        ("P", "PNG", False, False),
        ("RGB", "TIFF", False, False),
    ],
)
def test_what_the_channels_are(mode: str, kind: str, grey: bool, cmyk: bool) -> None:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).convert("I;16" if mode == "I;16" else mode).save(stream, kind)
    header = read_header(stream.getvalue())
    assert (header.grey, header.cmyk) == (grey, cmyk)


def test_numbers_with_a_point_are_refused() -> None:
    data = cv2.imencode(".tif", np.ones((8, 8, 3), np.float32))[1].tobytes()
    with pytest.raises(FrameError):
        decode_upright(data, read_header(data))


NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)


def tiff(*pages: np.ndarray, **how: Any) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in pages:
            writer.write(page, **{"photometric": "rgb", **how})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            tiff(NOISE.transpose(2, 0, 1).astype(np.uint16) * 257, planarconfig="separate"),
            "is a TIFF of 16 bits whose colours lie in planes apart; save it as RGB",
        ),
        (tiff(NOISE, photometric="cielab"), "is a TIFF of photometric interpretation 8; save it as RGB"),
        (tiff(NOISE, NOISE[::-1]), "holds several pictures; save one"),
    ],
)
def test_a_tiff_that_would_be_read_as_another_picture_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(FrameError, match=told):
        decode_upright(data, read_header(data))


@pytest.mark.parametrize(("first", "end"), [(0.5, 0.6), (0.9, 1.0)])
def test_a_jpeg_with_a_hole_or_cut_short_is_refused(first: float, end: float) -> None:
    """OpenCV and libjpeg decode what is left, and say so nowhere."""
    whole = encoded("JPEG", NOISE)
    hole = bytearray(whole)
    hole[int(first * len(whole)) : int(end * len(whole))] = bytes(int(end * len(whole)) - int(first * len(whole)))
    for data in (bytes(hole), whole[: int(first * len(whole))]):
        with pytest.raises(FrameError, match=r"^is damaged or cut short"):
            decode_upright(data, read_header(data))
    assert decode_upright(whole, read_header(whole)).shape == NOISE.shape


def test_a_jpeg_whose_chroma_is_not_looked_through_is_read() -> None:
    grey = encoded("JPEG", np.full_like(NOISE, 128))
    scan = grey.index(b"\xff\xda")
    head = bytearray(grey[: scan + 2 + int.from_bytes(grey[scan + 2 : scan + 4], "big")])
    head[head.index(b"\xff\xc0") + 11] = 0x31  # three blocks of luma side by side to one of each chroma
    # A block without anything in it is the codes of no difference and of its end: 24×8 pixels, 16 times.
    bits = ("001010" * 3 + "0000" * 2) * 16
    data = bytes(head) + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9"
    with pytest.raises(SubsamplingError):
        whole_jpeg(data)
    assert (decode_upright(data, read_header(data)) == 128).all()


def profile(primaries: tuple[tuple[float, float], ...], name: str) -> bytes:
    """A matrix profile of gamma 2.2 with the given colourants, written by hand."""
    white = np.array([0.9642, 1.0, 0.8249])
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    d65 = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ white) / (bradford @ d65)) @ bradford
    matrix = adapt @ (columns * np.linalg.solve(columns, d65))

    def xyz(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))

    text = name.encode("utf-16-be")
    parts = {
        b"desc": b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text,
        b"wtpt": xyz(white),
        b"rXYZ": xyz(matrix[:, 0]),
        b"gXYZ": xyz(matrix[:, 1]),
        b"bXYZ": xyz(matrix[:, 2]),
        b"rTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)),
    }
    parts[b"gTRC"] = parts[b"bTRC"] = parts[b"rTRC"]
    table, body, at = b"", b"", 132 + 12 * len(parts)
    for tag, content in parts.items():
        padded = content + bytes(-len(content) % 4)
        table += tag + struct.pack(">II", at + len(body), len(content))
        body += padded
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(float(v) * 65536) for v in white))
    data = head.ljust(128, b"\0") + struct.pack(">I", len(parts)) + table + body
    return struct.pack(">I", len(data)) + data[4:]


P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_profile_that_is_not_srgb_is_named(kind: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_header(encoded(kind, icc_profile=srgb)).space == ""
    assert read_header(encoded(kind, icc_profile=profile(P3, "Display P3"))).space == "Display P3"
    assert read_header(encoded(kind, icc_profile=profile(ADOBE, "Adobe RGB (1998)"))).space == "Adobe RGB (1998)"
    assert read_header(encoded(kind, icc_profile=b"no profile at all")).space == "an unreadable colour profile"


def test_adobe_rgb_by_exif_alone_and_linear_values_by_gamma() -> None:
    exif = Image.Exif()
    exif.get_ifd(34665)[40961] = 2
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "JPEG", exif=exif)
    assert read_header(stream.getvalue()).space == "Adobe RGB (1998)"
    plain = encoded("PNG")
    for gamma, space in ((100_000, "values of gamma 1"), (45_455, "")):
        chunk = b"gAMA" + struct.pack(">I", gamma)
        with_gamma = plain[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
        assert read_header(with_gamma).space == space


@given(
    kind=st.sampled_from(["JPEG", "PNG", "TIFF"]),
    cut=st.integers(0, 1200),
    place=st.integers(0, 10**6),
    value=st.integers(0, 255),
)
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_a_picture_or_one_line(kind: str, cut: int, place: int, value: int) -> None:
    data = bytearray(encoded(kind, flag=6))
    data[place % len(data)] = value
    damaged = bytes(data[: len(data) - cut])
    try:
        header = read_header(damaged)
        if header.width * header.height < 1 << 20:
            assert decode_upright(damaged, header).ndim == 3
    except FrameError as error:
        message = str(error)
        if not message.isprintable():
            raise


def test_headers_read_in_several_threads_leave_the_programs_warnings_as_they_were() -> None:
    data, before, interval = encoded("PNG"), list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with warnings.catch_warnings():
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(read_header, [data] * 400))
            assert list(warnings.filters) == before
    finally:
        sys.setswitchinterval(interval)
