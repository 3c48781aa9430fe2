"""RAW files, sidecars and folders as strangers leave them: pipes, bombs, odd names, other suffixes."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_dng import LONG, SHORT, flat, made_dng

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.raw_files import CAMERA_SUFFIXES, is_raw_file, load_raw, save_npz
from drivers.raw.raw_notes import RawNote

SIDE = (
    'width = 64\nheight = 48\ncontainer = "u16"\nendianness = "little"\nbits = 12\ncfa = "RGGB"\n'
    "black_level = 64\nwhite_level = 4095\n"
)


def refusal(path: Path) -> str:
    with pytest.raises(FrameError) as caught:
        load_raw(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    text.encode()
    return text


def noisy(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(100, 900, (height, width), dtype=np.uint16)


def dump(folder: Path, sidecar: str | bytes, mosaic: np.ndarray | None = None) -> Path:
    path = folder / "a.raw"
    path.write_bytes((noisy() if mosaic is None else mosaic).astype("<u2").tobytes())
    data = sidecar if isinstance(sidecar, bytes) else sidecar.encode()
    (folder / "a.raw.toml").write_bytes(data)
    return path


# Dumps and sidecars


@pytest.mark.parametrize(("width", "height"), [(64, 47), (63, 48), (63, 47), (65, 49)])
def test_an_odd_dump_is_cut_to_whole_blocks_as_a_camera_file_is(tmp_path: Path, width: int, height: int) -> None:
    mosaic = noisy(height, width)
    sidecar = SIDE.replace("width = 64", f"width = {width}").replace("height = 48", f"height = {height}")
    notes: list[RawNote] = []
    raw = load_raw(dump(tmp_path, sidecar, mosaic), notes)
    np.testing.assert_array_equal(raw.mosaic, mosaic[: height // 2 * 2, : width // 2 * 2])
    assert [n.kind for n in notes] == ["odd_size"]
    (tmp_path / "a.dng").write_bytes(made_dng(mosaic))
    np.testing.assert_array_equal(load_raw(tmp_path / "a.dng").mosaic, raw.mosaic)


def test_a_second_sidecar_that_says_otherwise_is_noted(tmp_path: Path) -> None:
    path = dump(tmp_path, SIDE)
    for text, beside, told in (
        (SIDE.replace("RGGB", "BGGR"), None, ["a.raw.toml describes it; a.toml says otherwise and does not count"]),
        ("# the same\n" + SIDE, None, []),
        ("no TOML", None, ["a.raw.toml describes it; a.toml says otherwise and does not count"]),
        (SIDE.replace("RGGB", "BGGR"), "a.bin", []),  # whose sidecar it may be
    ):
        (tmp_path / "a.toml").write_text(text, encoding="utf-8")
        if beside:
            (tmp_path / beside).write_bytes(path.read_bytes())
        notes: list[RawNote] = []
        assert load_raw(path, notes).cfa == "RGGB"
        assert [n.text for n in notes] == told


@pytest.mark.parametrize("key", ["width", "height"])
def test_a_dump_of_one_row_is_refused(tmp_path: Path, key: str) -> None:
    assert f"{key} = 1: must be a whole number, 2 to" in refusal(
        dump(tmp_path, SIDE.replace(f"{key} = {64 if key == 'width' else 48}", f"{key} = 1"))
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("black_level = 64", "black_level = [64, 64]", "black_level = [64, 64]: must be one number, or four"),
        ("black_level = 64", 'black_level = "64"', "black_level = '64': must be one number, or four"),
        ("black_level = 64", "black_level = [64, 64, 64, true]", "must be one number, or four"),
        ("black_level = 64", "black_level = -1", "black_level = -1: must be one number"),
        ("black_level = 64", "black_level = nan", "black_level = nan: must be"),
        ("black_level = 64", "", "black_level: missing; it is one number, or four"),
        ("cfa", "as_shot_wb = [2, 1]\ncfa", "as_shot_wb = [2, 1]: must be three numbers above 0, [red, green, blue]"),
        ("cfa", "as_shot_wb = [2, 1, 1, 1]\ncfa", "must be three numbers"),
        ("cfa", "as_shot_wb = 2\ncfa", "as_shot_wb = 2: must be three numbers"),
        ("cfa", "as_shot_wb = [2, 0, 1]\ncfa", "must be three numbers above 0"),
        ("cfa", 'iso = "fast"\ncfa', "iso = 'fast': must be a number above 0"),
        ("cfa", "iso = true\ncfa", "iso = True: must be a number above 0"),
        ("cfa", "exposure_s = inf\ncfa", "exposure_s = inf: must be a number of seconds above 0"),
        ("cfa", "orientation = 9\ncfa", "orientation = 9: must be a whole number, 1 to 8"),
        ("bits = 12", 'bits = "12"', "bits = '12': must be a whole number, 1 to 16"),
        ("width = 64", "width = [64]", "width = [64]: must be a whole number"),
        ("height = 48", "height = {a = 1}", "height = {'a': 1}: must be a whole number"),
        ('cfa = "RGGB"', 'cfa = "rggb"', "cfa = 'rggb': must be \"RGGB\""),
        ("white_level = 4095", "white_level = 4095.5", "white_level = 4095.5: must be a whole number"),
        ("cfa", f"as_shot_wb = {[1] * 500}\ncfa", "must be three numbers"),
        ("cfa", '"\\u001b[31m" = 1\ncfa', "unknown key '\\x1b[31m'"),
    ],
)
def test_a_wrong_value_is_told_with_what_it_must_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in refusal(dump(tmp_path, SIDE.replace(old, new, 1)))


def test_a_sidecar_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert load_raw(dump(tmp_path, b"\xef\xbb\xbf" + SIDE.encode())).white_level == 4095


@pytest.mark.parametrize(
    "data", [b"a = " + b"[" * 100_000, b"\xff\xfe" + SIDE.encode("utf-16-le"), b"\x00" * 50, b"width: 64", b"["]
)
def test_a_sidecar_that_is_no_toml_is_one_line(tmp_path: Path, data: bytes) -> None:
    assert "a.raw.toml: not valid TOML" in refusal(dump(tmp_path, data))


@settings(
    max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.binary(max_size=60), st.integers(0, len(SIDE)))
def test_any_bytes_in_a_sidecar_make_a_frame_or_one_line(tmp_path: Path, junk: bytes, at: int) -> None:
    data = SIDE.encode()
    path = dump(tmp_path, data[:at] + junk + data[at + len(junk) :])
    try:
        load_raw(path)
    except FrameError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["a.npz", "a.dng", "a.raw", "a.bin", "a.tif"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "no regular file" in refusal(tmp_path / name)
    assert not is_raw_file(tmp_path / name) or not name.endswith("tif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_as_a_sidecar_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = dump(tmp_path, SIDE)
    (tmp_path / "a.raw.toml").unlink()
    os.mkfifo(tmp_path / "a.raw.toml")
    assert "a.raw.toml: cannot read the sidecar: is a named pipe" in refusal(path)


def test_a_device_file_is_refused(tmp_path: Path) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero")
    (tmp_path / "a.npz").symlink_to("/dev/zero")
    assert "no regular file" in refusal(tmp_path / "a.npz")


# .npz


GOOD: dict[str, Any] = {"cfa": "RGGB", "black_level": 0, "white_level": 255}


def archive(path: Path, members: dict[str, bytes], compressed: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def npy(array: object, **changes: object) -> bytes:
    """An array as ``.npy``, its header changed."""
    buffer = io.BytesIO()
    values = np.asarray(array)
    header = np.lib.format.header_data_from_array_1_0(values) | changes
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + values.tobytes()


def good_members() -> dict[str, bytes]:
    return {f"{key}.npy": npy(value) for key, value in GOOD.items()}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((30000, 30000), "claims 30000×30000"),
        ((32768, 32768), "claims 32768×32768"),
        ((10**9, 10**9), "at most 32768"),
        ((1 << 62, 2), "at most 32768"),
        ((4, 4, 4), "uint16 [H, W]"),
        ((), "uint16 [H, W]"),
    ],
)
def test_a_mosaic_that_claims_to_be_large_takes_no_memory(tmp_path: Path, shape: tuple[Any, ...], message: str) -> None:
    members = {**good_members(), "mosaic.npy": npy(np.zeros(50_000, np.uint16), shape=shape)}
    path = archive(tmp_path / "a.npz", members)
    tracemalloc.start()
    try:
        assert message in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = npy(np.zeros(0, np.uint16), shape=(8192, 8192))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, data in good_members().items():
            file.writestr(name, data)
        with file.open("mosaic.npy", "w", force_zip64=True) as member:
            member.write(header)
            for _ in range(128):
                member.write(bytes(1 << 20))
    assert "it is not unpacked" in refusal(path)


def test_a_compressed_npz_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", mosaic=noisy(), **{**GOOD, "white_level": 1023})
    np.testing.assert_array_equal(load_raw(tmp_path / "a.npz").mosaic, noisy())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cfa", np.array(["RGGB"] * 4)),
        ("cfa", b"RGGB"),
        ("cfa", "R" * 10_000),
        ("cfa", 3),
        ("iso", "400"),
        ("iso", True),
        ("iso", np.datetime64("2020-01-01")),
        ("iso", 1 + 2j),
        ("iso", [400, 800]),
        ("exposure_s", np.zeros(50_000)),
        ("white_level", "1023"),
        ("white_level", 1022.5),
        ("white_level", np.nan),
        ("black_level", np.full(4, "64")),
        ("black_level", np.zeros((2, 2))),
        ("colour_matrix", np.zeros((3, 3), [("a", "u1")])),
        ("colour_matrix", np.eye(4)),
        ("as_shot_wb", [2, 1]),
        ("as_shot_wb", [[2, 1, 1]]),
        ("mosaic", np.array([[object()]])),
        ("mosaic", np.zeros((4, 4), ">u2")),
        ("\x1b[31m", 1),
    ],
)
def test_metadata_of_another_type_is_one_line(tmp_path: Path, key: str, value: object) -> None:
    members = {"mosaic": noisy(), **GOOD, "white_level": 1023, key: value}
    np.savez(tmp_path / "a.npz", **members)
    text = refusal(tmp_path / "a.npz")
    assert text.isprintable()


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | st.binary()
SMALL = np.full((4, 4), 100, np.uint16)


@settings(
    max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.sampled_from([*GOOD, "iso", "exposure_s", "as_shot_wb", "colour_matrix", "orientation"]),
    scalars | st.lists(st.floats() | st.integers(-9, 9), max_size=9),
)
def test_any_value_of_any_key_makes_a_frame_or_one_line(tmp_path: Path, key: str, value: object) -> None:
    members = {"mosaic": SMALL, **GOOD, key: np.asarray(value)}
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, **members)
    try:
        assert len(load_raw(tmp_path / "a.npz").hash) == 64
    except FrameError as error:
        assert "\n" not in str(error)  # noqa: PT017


# Names and suffixes


@pytest.mark.parametrize("suffix", [".npz", ".dng", ".raw"])
@pytest.mark.parametrize("stem", [b"\xff\xfe", b"caf\xe9", b"\x1b[31m", "naïve ☃".encode()])
def test_any_file_name_is_read_and_told(tmp_path: Path, suffix: str, stem: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + stem + suffix.encode()))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    assert "0 bytes" in refusal(path)
    if suffix == ".npz":
        save_npz(path, RawFrame(noisy(), "RGGB", (64.0,) * 4, 1023))
    elif suffix == ".dng":
        path.write_bytes(made_dng(noisy()))
    else:
        path.write_bytes(noisy().astype("<u2").tobytes())
        path.with_suffix(".toml").write_text(SIDE, encoding="utf-8")
    raw = load_raw(path)
    np.testing.assert_array_equal(raw.mosaic, noisy())
    raw.source.encode()
    assert raw.source.isprintable()


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    assert "no file can have that name" in refusal(Path("a\0b.npz"))


@pytest.mark.parametrize("suffix", [".rwl", ".gpr", ".fff", ".cs1", ".tif", ".TIFF", ".iiq", ".ari", ".drf"])
def test_every_suffix_that_libraw_opens_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(made_dng(flat()))
    assert is_raw_file(path)
    assert load_raw(path).hash == load_raw(path.rename(tmp_path / "a.dng")).hash
    assert {".x3f", ".rw1", ".cap", ".eip", ".dcs", ".bay"} <= CAMERA_SUFFIXES


@pytest.mark.parametrize("suffix", [".tif", ".tiff"])
def test_a_tiff_that_is_a_picture_is_no_raw(tmp_path: Path, suffix: str) -> None:
    import cv2

    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    assert not is_raw_file(path)
    refusal(path)
    path.write_bytes(b"II*\0")
    assert not is_raw_file(path)


def test_a_camera_file_under_a_dumps_suffix_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(made_dng(flat()))
    assert load_raw(path).black_level == (64.0,) * 4
    (tmp_path / "a.raw.toml").write_text(SIDE, encoding="utf-8")
    assert "bytes, but a.raw.toml says" in refusal(path)


@pytest.mark.parametrize(
    "pixels",
    [
        {256: (LONG, [0])},
        {256: (LONG, [1 << 30]), 257: (LONG, [1 << 30])},
        {256: (LONG, [30000]), 257: (LONG, [30000])},
        {277: (SHORT, [0])},
    ],
)
def test_a_dng_of_an_impossible_size_is_one_line(tmp_path: Path, pixels: dict[Any, Any]) -> None:
    (tmp_path / "a.dng").write_bytes(made_dng(flat(), pixels))
    refusal(tmp_path / "a.dng")
