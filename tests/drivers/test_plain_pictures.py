"""Pictures without a file around, against a reading pixel by pixel, OpenCV and ffmpeg; and on their way."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drivers.agent import Agent, PictureOutput, continuous
from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.protocol import wire

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
YUV = ("nv12", "p010", "i420", "i010")


def number(data: bytes, at: int, output: PictureOutput) -> int:
    """The value at an index of a row."""
    if output.depth == 8:
        return data[at]
    value = int.from_bytes(data[2 * at : 2 * at + 2], "little")
    return value // 64 if output.format == "p010" else value


def shares(values: list[int], output: PictureOutput, *, chroma: bool = False) -> list[float]:
    """What values mean by BT.601's and 709's equations for any depth."""
    step, top = 2 ** (output.depth - 8), 2**output.depth - 1
    if chroma:
        return [(v - 128 * step) / (224 * step if output.range == "limited" else top) for v in values]
    return [(v - 16 * step) / (219 * step) if output.range == "limited" else v / top for v in values]


def one_pixel(data: bytes, output: PictureOutput, width: int, height: int, y: int, x: int) -> list[float]:
    """Red, green and blue at one place, 0..255, before rounding."""
    stride = output.stride(width)
    row = data[y * stride : (y + 1) * stride]
    if output.format == "rgb":
        colour = shares([number(row, 3 * x + c, output) for c in range(3)], output)
    else:
        (luma,) = shares([number(row, x, output)], output)
        colour = [luma] * 3
    if output.format in YUV:
        after = data[stride * height :]
        if output.format in ("nv12", "p010"):
            line = after[y // 2 * stride : (y // 2 + 1) * stride]
            pair = [number(line, x // 2 * 2, output), number(line, x // 2 * 2 + 1, output)]
        else:
            half = stride // 2
            planes = after[: half * height // 2], after[half * height // 2 :]
            pair = [number(p[y // 2 * half : (y // 2 + 1) * half], x // 2, output) for p in planes]
        cb, cr = shares(pair, output, chroma=True)
        kr, kb = WEIGHTS[str(output.matrix)]
        kg = 1 - kr - kb
        green = luma - 2 * kb * (1 - kb) / kg * cb - 2 * kr * (1 - kr) / kg * cr
        colour = [luma + 2 * (1 - kr) * cr, green, luma + 2 * (1 - kb) * cb]
    return [255 * min(max(c, 0.0), 1.0) for c in colour]


@st.composite
def pictures(draw: st.DrawFn) -> tuple[PictureOutput, bytes, int, int]:
    kind = draw(st.sampled_from(["rgb", "mono", *YUV]))
    told: dict[str, Any] = {"format": kind, "range": draw(st.sampled_from(["full", "limited"]))}
    if kind in YUV:
        told["matrix"] = draw(st.sampled_from(sorted(WEIGHTS)))
    else:
        told["bits"] = draw(st.sampled_from([8, 10, 12, 14, 16]))
    output = PictureOutput(**told, row_multiple=draw(st.sampled_from([1, 2, 16])))
    width, height = draw(st.sampled_from([2, 4, 6])), draw(st.sampled_from([2, 4]))
    size = output.size(width, height)
    if output.depth == 8:
        return output, draw(st.binary(min_size=size, max_size=size)), width, height
    most = 65535 if output.format == "p010" else 2**output.depth - 1
    values = draw(arrays(np.dtype("<u2"), size // 2, elements=st.integers(0, most)))
    return output, values.tobytes(), width, height


@settings(max_examples=150, deadline=None)
@given(pictures())
def test_every_format_is_read_as_pixel_by_pixel(made: tuple[PictureOutput, bytes, int, int]) -> None:
    output, data, width, height = made
    pixels = output.pixels(data, width, height)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (height, width, 3)
    expected = [[one_pixel(data, output, width, height, y, x) for x in range(width)] for y in range(height)]
    assert np.abs(pixels - np.array(expected)).max() <= 0.5 + 1e-3


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (6, 4), elements=st.integers(16, 235)), st.sampled_from(["nv12", "i420"]))
def test_bt601_of_limited_range_is_opencvs(data: np.ndarray, kind: Any) -> None:
    code = {"nv12": cv2.COLOR_YUV2RGB_NV12, "i420": cv2.COLOR_YUV2RGB_I420}[kind]
    pixels = PictureOutput(kind, matrix="bt601", range="limited").pixels(data.tobytes(), 4, 4)
    assert np.abs(pixels.astype(int) - cv2.cvtColor(data, code)).max() <= 1  # it has whole numbers of 20 bits


@pytest.mark.parametrize("range_told", ["full", "limited"])
@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
@pytest.mark.parametrize("kind", YUV)
def test_yuv_is_what_swscale_makes_of_it(kind: Any, matrix: Any, range_told: Any) -> None:
    """Away from where chroma changes, which swscale may interpolate."""
    if (ffmpeg := shutil.which("ffmpeg")) is None:
        pytest.skip("ffmpeg is absent (Debian: apt-get install ffmpeg)")
    output, (width, height) = PictureOutput(kind, matrix=matrix, range=range_told), (32, 16)
    step, shift = 2 ** (output.depth - 8), 6 if kind == "p010" else 0
    luma = np.random.default_rng(0).integers(40 * step, 216 * step, (height, width))
    blue, red = (
        np.repeat([[a * step, b * step]], height // 2, 0).repeat(width // 4, 1) for a, b in ((96, 150), (140, 110))
    )
    chroma = np.stack([blue, red], 2) if kind in ("nv12", "p010") else np.stack([blue, red])
    values = np.concatenate([luma.ravel(), chroma.ravel()]) << shift
    data = values.astype("u1" if output.depth == 8 else "<u2").tobytes()
    form = {"nv12": "nv12", "p010": "p010le", "i420": "yuv420p", "i010": "yuv420p10le"}[kind]
    scale = f"scale=in_color_matrix={matrix}:in_range={range_told}:out_range=full:flags=accurate_rnd+full_chroma_int"
    command = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", form, "-s", f"{width}x{height}", "-i", "-"]
    command += ["-vf", f"{scale},format=gbrp16le,format=rgb24", "-f", "rawvideo", "-"]
    made = subprocess.run(command, input=data, capture_output=True, timeout=60, check=True).stdout
    theirs = np.frombuffer(made, np.uint8).reshape(height, width, 3).astype(int)
    apart = np.abs(output.pixels(data, width, height) - theirs)
    assert np.delete(apart, range(width // 2 - 4, width // 2 + 4), axis=1).max() <= 2


def test_white_black_and_a_primary() -> None:
    limited = PictureOutput("nv12", matrix="bt709", range="limited")
    assert limited.pixels(bytes([235] * 4 + [128] * 2), 2, 2).tolist() == [[[255] * 3] * 2] * 2
    assert limited.pixels(bytes([16] * 4 + [128] * 2), 2, 2).tolist() == [[[0] * 3] * 2] * 2
    assert limited.pixels(bytes([63] * 4 + [102, 240]), 2, 2)[0, 0].tolist() == [255, 1, 0]  # 8 bits are coarse
    assert PictureOutput("mono", bits=10).pixels(np.full(4, 1023, "<u2").tobytes(), 2, 2).min() == 255


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"format": "yv12"}, "format 'yv12' is not one of file, rgb, mono, nv12"),
        ({"format": "nv12", "range": "full"}, "matrix None is not right: it is one of bt601, bt709, bt2020"),
        ({"format": "nv12", "matrix": "bt601"}, "range None of nv12 is not right: YUV says full or limited"),
        ({"format": "rgb", "matrix": "bt601"}, "matrix 'bt601' is not right: it is for YUV alone, not for rgb"),
        ({"format": "rgb", "bits": 17}, "bits 17 is not right: it is 8..16"),
        ({"format": "p010", "matrix": "bt601", "range": "full", "bits": 10}, "for rgb and mono alone, not for p010"),
        ({"range": "full"}, "range 'full' of file is not right"),
        ({"format": "mono", "row_multiple": 3}, "row_multiple 3 is not 1 or an even number up to 4096"),
        ({"format": "mono", "row_multiple": 8192}, "row_multiple 8192"),
        ({"format": {}}, "format {} is not one of"),
        ({"format": "rgb", "range": {}}, "range {}"),
        (7, "output 7 is not a map"),
    ],
)
def test_an_odd_output_of_info_is_one_line(told: Any, text: str) -> None:
    (part,) = wire.encode(device(PictureOutput()).handle(wire.Hello(1)))
    with pytest.raises(wire.MessageError) as caught:
        wire.decode([msgpack.packb({**msgpack.unpackb(part), "output": told})])
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_above_the_bits_and_another_size_are_one_line() -> None:
    output = PictureOutput("rgb", bits=10)
    with pytest.raises(FrameError, match=r"^the output holds the value 1024, 10 bits go to 1023$"):
        output.pixels(np.full(12, 1024, "<u2").tobytes(), 2, 2)
    with pytest.raises(FrameError, match=r"^the output has 23 bytes, rgb of 2×2 pixels in rows of 12 bytes has 24$"):
        output.pixels(bytes(23), 2, 2)


# ---- on the wire -----------------------------------------------------------------------------------------------------

RAW = RawFrame(np.arange(24, dtype=np.uint16).reshape(4, 6), "GRBG", (1.0, 2.0, 3.0, 4.0), 1023, iso=200.0)
NV12 = PictureOutput("nv12", matrix="bt709", range="limited", row_multiple=16)


def device(output: PictureOutput, made: Any = None) -> Any:
    agent = Agent(model="plain", firmware="1", parameters=[continuous("gain", 1, 2, step=1 / 16)], output=output)
    agent.process(lambda *_: made)
    return agent.device()


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: np.frombuffer(data, np.uint8)])
def test_a_plain_picture_crosses_the_wire(kind: Any) -> None:
    data = bytes([120] * 64 + [100, 140] * 16)
    served = device(NV12, kind(data))
    info = wire.decode(wire.encode(served.handle(wire.Hello(1, wire.LATEST))))
    assert isinstance(info, wire.Info)
    assert info.output == NV12
    answer = wire.decode(wire.encode(served.handle(wire.process_request(2, RAW, ()))))
    assert isinstance(answer, wire.Frame)
    assert (answer.media_type, bytes(answer.payload)) == ("video/raw", data)
    rgb = wire.picture(answer, info.output, RAW.width, RAW.height)
    rgb.check(RAW.width, RAW.height)
    np.testing.assert_array_equal(rgb.pixels, NV12.pixels(data, 6, 4))


def test_sixteen_bits_are_little_endian_whatever_the_array_is() -> None:
    values = np.arange(72, dtype=np.uint16).reshape(4, 6, 3)
    output = PictureOutput("rgb", bits=12)
    for made in (values, values.astype(">u2")):
        answer = device(output, made).handle(wire.process_request(2, RAW, ()))
        assert isinstance(answer, wire.Frame), answer
        assert bytes(answer.payload) == values.astype("<u2").tobytes()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (bytes(95), "returned 95 bytes; nv12 of 6×4 has 96"),
        (np.zeros(96, np.float32), "returned float32 [96]; return the 96 bytes of nv12"),
        (None, "returned NoneType; return the 96 bytes of nv12"),
    ],
)
def test_what_is_no_such_picture_is_a_failed_frame(made: Any, text: str) -> None:
    answer = device(NV12, made).handle(wire.process_request(2, RAW, ()))
    assert isinstance(answer, wire.Error)
    assert (answer.code, text in answer.text) == ("failed", True)


def test_what_is_not_as_info_says_is_refused_in_one_line() -> None:
    answer = device(NV12, bytes(96)).handle(wire.process_request(2, RAW, ()))
    assert isinstance(answer, wire.Frame)
    with pytest.raises(FrameError, match=r"^the output is video/raw, but INFO tells no format of pixels$"):
        wire.picture(answer, PictureOutput(), 6, 4)
    png = device(PictureOutput(), np.zeros((4, 6, 3), np.uint8)).handle(wire.process_request(2, RAW, ()))
    assert isinstance(png, wire.Frame)
    with pytest.raises(FrameError, match=r"^the output is image/png, INFO says nv12 \(video/raw\)$"):
        wire.picture(png, NV12, 6, 4)
