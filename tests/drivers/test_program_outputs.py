"""What a program leaves in its output's place: pictures of every form by one rule, and everything else in one line."""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.device import FrameFailedError
from drivers.errors import DeviceError, FrameError
from drivers.frames import RawFrame
from drivers.programs import program_outputs
from drivers.programs.command_device import CommandDevice
from drivers.registry import open_device

WIDTH, HEIGHT = 16, 8
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")


def scene(kind: type = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return pixels if kind is np.uint8 else pixels.astype(np.uint16) * 257


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def ppm(largest: int, values: np.ndarray, magic: str = "P6") -> bytes:
    header = f"{magic}\n# made by hand\n{WIDTH} {HEIGHT}\n{largest}\n".encode()
    if magic == "P3":
        return header + " ".join(map(str, values.ravel())).encode()
    return header + values.astype("u1" if largest < 256 else ">u2").tobytes()


def refusal(data: bytes, kind: program_outputs.Kind) -> str:
    with pytest.raises(FrameError) as caught:
        program_outputs.pixels_of(data, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


OPAQUE = np.dstack([scene(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
CLEAR = np.dstack([scene(), scene()[:, :, 0]])
GREY = scene()[:, :, 0]
TEN_BITS = (scene().astype(np.uint32) * 1023 + 127) // 255

READ: dict[str, Any] = {
    "rgb": ("tiff", tiff(scene(), photometric="rgb"), scene()),
    "16 bits": ("tiff", tiff(scene(np.uint16), photometric="rgb"), scene()),
    "big-endian": ("tiff", tiff(scene(np.uint16), photometric="rgb", byteorder=">"), scene()),
    "BigTIFF": ("tiff", tiff(scene(), photometric="rgb", bigtiff=True), scene()),
    "compressed": ("tiff", tiff(scene(), photometric="rgb", compression="zlib"), scene()),
    "planes": ("tiff", tiff(scene().transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), scene()),
    "opaque": ("tiff", tiff(OPAQUE, photometric="rgb", extrasamples=["unassalpha"]), scene()),
    "grey": ("tiff", tiff(GREY, photometric="minisblack"), np.repeat(GREY[:, :, None], 3, axis=2)),
    "P6": ("ppm", ppm(255, scene()), scene()),
    "P6 of 16 bits": ("ppm", ppm(65535, scene(np.uint16)), scene()),
    "P6 of 10 bits": ("ppm", ppm(1023, TEN_BITS), scene()),
    "P6 with a line feed behind it": ("ppm", ppm(255, scene()) + b"\n", scene()),
    "P3": ("ppm", ppm(255, scene(), "P3"), scene()),
    "P3 of 10 bits": ("ppm", ppm(1023, TEN_BITS, "P3"), scene()),
    "PNG of 16 bits": ("png", cv2.imencode(".png", scene(np.uint16)[:, :, ::-1])[1].tobytes(), scene()),
    "opaque PNG": ("png", cv2.imencode(".png", OPAQUE[:, :, [2, 1, 0, 3]])[1].tobytes(), scene()),
}


@pytest.mark.parametrize("name", READ)
def test_every_form_that_is_read_gives_what_was_written(name: str) -> None:
    kind, data, pixels = READ[name]
    assert program_outputs.size_of(data, kind) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(program_outputs.pixels_of(data, kind), pixels)


@pytest.mark.parametrize("flag", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiffs_orientation_is_ignored(flag: int, kind: type) -> None:
    data = tiff(scene(kind), photometric="rgb", extratags=[(274, 3, 1, flag, True)])
    np.testing.assert_array_equal(program_outputs.pixels_of(data, "tiff"), scene())


REFUSED = {
    "float": (tiff(scene() / np.float32(255), photometric="rgb"), "floating-point"),
    "signed": (tiff(scene().astype(np.int16), photometric="rgb"), "signed"),
    "32 bits": (tiff(scene().astype(np.uint32), photometric="rgb"), "32 bits a channel"),
    "CMYK": (tiff(OPAQUE, photometric="separated"), "photometric interpretation 5"),
    "Lab": (tiff(scene(), photometric="cielab"), "photometric interpretation 8"),
    "white is zero": (tiff(GREY, photometric="miniswhite"), "photometric interpretation 0"),
    "planes of 16 bits": (
        tiff(scene(np.uint16).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "planes apart",
    ),
    "transparent": (tiff(CLEAR, photometric="rgb", extrasamples=["unassalpha"]), "without alpha"),
    "five channels": (
        tiff(np.dstack([CLEAR, GREY]), photometric="rgb", extrasamples=["unspecified", "unspecified"]),
        "channels",
    ),
    "another space": (tiff(scene(), photometric="rgb", iccprofile=b"none"), "an unreadable colour profile: write sRGB"),
    "two pictures": (tiff(np.stack([scene(), scene()]), photometric="rgb"), "several pictures"),
    "half": (tiff(scene(), photometric="rgb")[:-150], "damaged"),
    "directory only": (b"II*\0\x08\0\0\0", "directory is damaged"),
    "nothing": (b"", "directory is damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tiff_that_would_be_read_wrong_is_refused(name: str) -> None:
    data, reason = REFUSED[name]
    assert reason in refusal(data, "tiff")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P6 16 8", "header is broken"),
        (b"P6 16 0 255\n", "16×0 pixels"),
        (b"P6 16 8 70000\n", "70000 as the largest"),
        (b"P6 16 8 255\n" + bytes(100), "100 of 384 values"),
        (ppm(1023, scene(np.uint16)), "its header says 0 to 1023"),
        (ppm(100, scene(), "P3"), "its header says 0 to 100"),
        (b"P3 16 8 255\n1 2 three", "no number"),
        (b"P3 16 8 255\n-1 " + b"1 " * 383, "values of -1"),
        (b"P6 " + b"9" * 5000, "header is broken"),
        (b"P6 32768 32768 255\n", "of 3,221,225,472 values"),
        (b"P6\r\n16 8\r\n255\r\n" + scene().tobytes(), "it holds more than the 16×8 pixels"),
        (b"P6 16 8 255\n" + np.pad(scene(), ((0, 0), (0, 1), (0, 0)), "edge").tobytes(), "it holds more than"),
        (ppm(255, scene()) * 2, "it holds more than"),
        (ppm(255, scene(), "P3") + b" 7", "it holds more than"),
    ],
)
def test_a_ppm_that_is_none_is_refused(data: bytes, reason: str) -> None:
    assert reason in refusal(data, "ppm")


def test_a_tiff_of_a_huge_picture_is_refused_by_its_header() -> None:
    data = bytearray(tiff(np.zeros((1, 1), np.uint8), photometric="minisblack"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for tag in (256, 257):
            where = file.pages.first.tags[tag]
            struct.pack_into("<I" if where.dtype == 4 else "<H", data, where.valueoffset, 40_000)
    assert program_outputs.size_of(bytes(data), "tiff") == (40_000, 40_000)
    assert "more than is read" in refusal(bytes(data), "tiff")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([(kind, data) for kind, data, _ in READ.values()]),
    st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=3)), max_size=5),
    st.integers(0, 700),
)
def test_any_bytes_are_a_picture_or_a_frame_error(picture: tuple[Any, ...], changes: list[Any], length: int) -> None:
    kind, whole = picture
    data = bytearray(whole[:length] if length < 600 else whole)
    for at, what in changes:
        data[at : at + len(what)] = what
    try:
        width, height = program_outputs.size_of(bytes(data), kind)
        if width * height > 100_000:
            return
        pixels = program_outputs.pixels_of(bytes(data), kind)
    except FrameError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape == (height, width, 3)


RECIPE = """
model = "script"
command = ["{recipe}/program", "{output}", "{p}", "{raw}"]
raw = "u16"
time_limit_s = LIMIT
[output]
file = "out.png"
kind = "png"
[[parameters]]
name = "p"
block = "b"
kind = "integer"
low = 0
high = 9
default = 1
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a shell script as the program and gives the failure's message."""

    def of(script: str, limit_s: float = 60, extra: str = "") -> str:
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(extra + RECIPE.replace("LIMIT", str(limit_s)))
        raw = RawFrame(np.full((HEIGHT, WIDTH), 99, np.uint16), "RGGB", (64.0,) * 4, 1023)
        with open_device(f"command:{recipe}") as device, pytest.raises(FrameFailedError) as caught:
            device.process(raw, device.info().space.defaults)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return of


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('mkfifo "$1"', "out.png cannot be read: is a named pipe"),
        ('mkdir "$1"', "out.png cannot be read: is a folder"),
        ('ln -s /dev/zero "$1"', "out.png cannot be read: is a character device"),
        ('mkfifo p; ln -s p "$1"', "is a named pipe"),
        ('ln -s "$1" "$1"', "out.png cannot be read"),
        ('ln -s nowhere "$1"', "wrote no out.png"),
        ('truncate -s 200M "$1"', "has 209,715,200 bytes, at most"),
        (': > "$1"', "does not start as png"),
        ('head -c 3000000 /dev/zero > "$1"; sleep 600', "at most 1,056,768 may be, and was ended"),
        ("head -c 3000000 /dev/zero; sleep 600", "at most 1,056,768 may be, and was ended"),
        ("head -c 3000000 /dev/zero >&2; sleep 600", "and was ended"),
        ("cd tmp; mkdir a; head -c 3000000 /dev/zero > a/b; sleep 600", "and was ended"),
    ],
)
def test_what_is_no_bounded_file_is_never_waited_for(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr("drivers.programs.command_device._FOLDER_BYTES", 2**20)
    assert reason in run(script)


def test_a_socket_in_the_outputs_place_is_refused(run: Callable[..., str]) -> None:
    code = 'import socket, sys; socket.socket(socket.AF_UNIX).bind("out.png")'
    assert "is a socket" in run(f"exec {sys.executable} -S -c '{code}'")


def test_a_program_that_ignores_signals_is_ended_at_its_limit(run: Callable[..., str]) -> None:
    assert "did not end within 0.5 s" in run("trap '' TERM INT HUP; while :; do sleep 1; done", 0.5)


def test_what_a_program_leaves_running_is_ended_with_it(run: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        # The child tells that it is there before the program ends.
        child = f'import socket; s = socket.create_connection(("127.0.0.1", {port})); open("up", "w"); s.recv(1)'
        run(f"{sys.executable} -S -c '{child}' & while [ ! -e up ]; do sleep 0.05; done")
        link = server.accept()[0]
        with link:
            link.settimeout(60)
            assert link.recv(1) == b""


VERSION = '[version]\ncommand = ["{recipe}/program", "version"]\npattern = %r\n'


@pytest.mark.parametrize("pattern", [r"(a|aa)+$", r"((((a{1,99}){1,99}){1,99}){1,99})b", r"^(([a])+.)+[A-Z]([a])+$"])
def test_a_pattern_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setattr("drivers.programs.recipes._MATCH_S", 0.2)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nprintf '%s!' {'a' * 9000}\n")
    program.chmod(0o755)
    recipe = tmp_path / "recipe.toml"
    head, _, rest = RECIPE.replace("LIMIT", "9").partition("[output]")
    recipe.write_text(head + VERSION % pattern + "[output]" + rest)
    with open_device(f"command:{recipe}") as device, pytest.raises(DeviceError, match=r"version\.pattern .* too long"):
        device.info()


@pytest.mark.parametrize("pattern", ["(", "a" * 2000, r"(?P<n>a)(?P=m)", "[z-a]"])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    recipe = tmp_path / "recipe.toml"
    head, _, rest = RECIPE.replace("LIMIT", "9").partition("[output]")
    recipe.write_text(head + VERSION % pattern + "[output]" + rest)
    with pytest.raises(DeviceError, match=r"version\.pattern"):
        open_device(f"command:{recipe}")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_pipe, "is a named pipe"),
        (Path.mkdir, "is a folder"),
        (lambda p: p.symlink_to("/dev/zero"), "is a character device"),
        (lambda p: p.write_bytes(b"model = " + b"[" * 50_000), "not valid TOML"),
        (lambda p: p.write_bytes(b"x" * (5 << 20)), "at most"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "not UTF-8"),
    ],
)
def test_a_recipe_that_is_no_recipe_is_refused(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    make(tmp_path / "recipe.toml")
    with pytest.raises(DeviceError) as caught:
        open_device(f"command:{tmp_path / 'recipe.toml'}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("\ufeff" + RECIPE.replace("LIMIT", "9"), encoding="utf-8")
    plain = tmp_path / "plain.toml"
    plain.write_text(RECIPE.replace("LIMIT", "9"), encoding="utf-8")
    with open_device(f"command:{recipe}") as one, open_device(f"command:{plain}") as other:
        assert isinstance(one, CommandDevice)
        assert isinstance(other, CommandDevice)
        assert one.recipe.hash == other.recipe.hash
