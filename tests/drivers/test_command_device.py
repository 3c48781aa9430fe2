from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Capture, Failure, FrameFailedError
from drivers.errors import DeviceError, DeviceUnreachableError, ParameterError
from drivers.frames import RawFrame
from drivers.programs import recipes
from drivers.programs.command_device import CommandDevice
from drivers.registry import open_device

# A tiny ISP: pixel = min(DN · gain, 255) from a bare mosaic and a JSON file of settings; `act` makes it misbehave.
FAKE = r"""
import json, os, pathlib, shutil, socket, subprocess, sys
if sys.argv[1] == "--version":
    print("fake isp, version 1.2.3 (debug)")
    sys.exit(3)
if sys.argv[1] == "connect":
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as link:
        link.recv(1)
here, raw, settings, output, width, height = sys.argv[1:7]
here = pathlib.Path(here)
s = json.load(open(settings))
act = s["act"]
(here / "seen.json").write_text(json.dumps({"settings": s, "arguments": sys.argv[1:], "env": dict(os.environ),
    "cwd": os.getcwd(), "files": sorted(os.listdir("."))}))
print("fake isp at work")
if act == "fail":
    print("first line\nno such tuning: 7", file=sys.stderr)
    sys.exit(9)
if act == "hang":
    port = os.environ["FAKE_PORT"]
    subprocess.Popen([sys.executable, "-S", __file__, "connect", port])
    with socket.create_connection(("127.0.0.1", int(port))) as link:
        link.recv(1)
if act == "wait":
    for _ in range(6000):
        if (here / "go").exists():
            break
        import time; time.sleep(0.01)
    else:
        sys.exit("nobody came")
if act == "signal":
    (here / "go").write_text("")
if act == "nothing":
    sys.exit(0)
if act == "canned":
    shutil.copy(here / "canned", output)
    sys.exit(0)
width, height = int(width), int(height)
dn = pathlib.Path(raw).read_bytes()
pixels = bytearray()
for i in range(0, 2 * width * height, 2):
    value = min(int((dn[i] + 256 * dn[i + 1]) * s["gain"]), 255)
    pixels += bytes([value, 7 if s["flag"] else 0, s["level"]])
data = b"P6 %d %d 255\n" % (width, height) + pixels
pathlib.Path(output).write_bytes(data[:20] if act == "corrupt" else data)
"""

RECIPE = """
model = "fake"
command = ["PYTHON", "-S", "{recipe}/isp.py", "{recipe}", "{raw}", "{settings}", "{output}", "{width}", "{height}",
    "--black={black_0},{black_3}", "{cfa}", "{white}", "{iso}", "{extra}", "{{{level}}}"]
raw = "u16"
time_limit_s = 60

[version]
command = ["PYTHON", "-S", "{recipe}/isp.py", "--version"]
pattern = 'version ([0-9.]+)'

[output]
file = "out.ppm"
kind = "ppm"

[settings]
file = "s.json"
template = '{"gain": $gain, "flag": $flag, "level": $level, "act": "$act", "dollar": "$$5"}'

[text.parameters]
gain = ".3f"
extra = { none = "", some = "--extra" }

[[parameters]]
name = "gain"
block = "exposure"
kind = "continuous"
low = 0.01
high = 2
step = 0.001
default = 0.1

[[parameters]]
name = "flag"
block = "tone"
kind = "bool"
default = false

[[parameters]]
name = "level"
block = "tone"
kind = "integer"
low = 0
high = 255
default = 9

[[parameters]]
name = "extra"
block = "tone"
kind = "choice"
choices = ["none", "some"]
default = "none"

[[parameters]]
name = "act"
block = "tone"
kind = "choice"
choices = ["ok", "fail", "hang", "wait", "signal", "nothing", "canned", "corrupt"]
default = "ok"
""".replace("PYTHON", sys.executable.replace("\\", "/"))


def small_raw(height: int = 6, width: int = 8, seed: int = 0) -> RawFrame:
    mosaic = np.random.default_rng(seed).integers(64, 1000, (height, width)).astype(np.uint16)
    return RawFrame(mosaic, "GRBG", (64, 64, 64, 65.5), 1023, iso=400)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., CommandDevice]]:
    """Opens a device of the fake ISP; each (old, new) changes the recipe's text."""
    opened: list[CommandDevice] = []

    def open_it(*changes: tuple[str, str], deadline_s: float = 60.0) -> CommandDevice:
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "isp.py").write_text(FAKE)
        (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
        device = open_device(f"command:{tmp_path / 'recipe.toml'}", deadline_s)
        assert isinstance(device, CommandDevice)
        opened.append(device)
        return device

    yield open_it
    for device in opened:
        device.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds the calls' temporary folders."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def seen(tmp_path: Path) -> dict[Any, Any]:
    return dict(json.loads((tmp_path / "seen.json").read_text()))


def error_of(
    device: CommandDevice, kind: type[Exception] = DeviceError, raw: RawFrame | None = None, **changes: Any
) -> str:
    with pytest.raises(kind) as caught:
        device.process(raw or small_raw(), device.info().space.defaults.replace(**changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_frame_goes_through_the_program_and_comes_back(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    device, raw = make(), small_raw()
    parameters = device.info().space.defaults.replace(gain=0.2, flag=True, level=33)
    capture = device.process(raw, parameters)
    red = np.minimum(np.floor(raw.mosaic * 0.2), 255)
    np.testing.assert_array_equal(capture.rgb.pixels[..., 0], red)
    assert np.all(capture.rgb.pixels[..., 1] == 7)
    assert np.all(capture.rgb.pixels[..., 2] == 33)
    assert capture.raw_hash == raw.hash
    assert capture.parameters_in_force == parameters.by_name
    assert capture.boot_id == device.info().boot_id
    assert 0 < capture.device_s <= capture.total_s
    again = device.process(raw, parameters)
    assert again.frame == capture.frame + 1
    assert again.rgb.hash == capture.rgb.hash


def test_values_are_written_as_the_recipe_says(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    device = make(('"flag": $flag', '"flag": $flag, "word": "${flag}y"'), ("[text.parameters]", "[text.parameters]\n"))
    device.process(small_raw(), device.info().space.defaults.replace(gain=0.25, level=5))
    got = seen(tmp_path)
    assert got["settings"] == {
        "gain": 0.25,
        "flag": False,
        "word": "falsey",
        "level": 5,
        "act": "ok",
        "dollar": "$5",
    }
    assert got["arguments"][4:] == ["8", "6", "--black=64,65.5", "GRBG", "1023", "400", "{5}"]
    device.process(small_raw(), device.info().space.defaults.replace(extra="some"))
    assert seen(tmp_path)["arguments"][-2:] == ["--extra", "{9}"]


def test_words_of_the_programs_own_language(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    device = make(
        ("[text.parameters]", '[text]\ntrue = "1"\nfalse = "0"\nnumber = ".4e"\n[text.parameters]'),
        ('gain = ".3f"\n', 'act = { ok = "fine", fail = "fail", hang = "h", wait = "w", signal = "s", nothing = "n", '
         'canned = "c", corrupt = "k" }\n'),
    )  # fmt: skip
    recipe = device.recipe
    values = recipe.values(recipe.space.defaults.replace(flag=True, gain=0.123))
    assert values == {"gain": "1.2300e-01", "flag": "1", "level": "9", "extra": "", "act": "fine"}


def test_each_call_has_a_folder_of_its_own_that_is_removed(
    make: Callable[..., CommandDevice], tmp_path: Path, temporary: Path
) -> None:
    device = make()
    space = device.info().space
    device.process(small_raw(), space.defaults)
    first = seen(tmp_path)
    assert "raw.bin" in first["files"]
    assert "s.json" in first["files"]
    device.process(small_raw(), space.defaults)
    assert seen(tmp_path)["cwd"] != first["cwd"]
    error_of(device, act="fail")
    assert Path(first["cwd"]).parent == temporary.resolve()
    assert list(temporary.iterdir()) == []


def test_the_callers_settings_do_not_reach_the_program(
    make: Callable[..., CommandDevice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RT_SETTINGS", "/home/someone/rt")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/someone/.config")
    device = make(("time_limit_s = 60", 'time_limit_s = 60\nenvironment = { LICENCE = "port@host" }'))
    device.process(small_raw(), device.info().space.defaults)
    got = seen(tmp_path)
    assert "RT_SETTINGS" not in got["env"]
    assert got["env"]["LC_ALL"] == "C"
    assert got["env"]["LICENCE"] == "port@host"
    for name in ("HOME", "XDG_CONFIG_HOME", "APPDATA", "TMPDIR"):
        assert got["env"][name].startswith(got["cwd"])


def test_nothing_passes_through_a_shell(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    device = make(('"{extra}"', '"{extra}; touch {recipe}/shell $HOME `id` * > x"'))
    device.process(small_raw(), device.info().space.defaults)
    assert seen(tmp_path)["arguments"][-2].startswith("; touch ")
    assert not (tmp_path / "shell").exists()


def test_identity_is_the_programs_version_and_the_recipe(make: Callable[..., CommandDevice]) -> None:
    device = make()
    one = device.info()
    assert one.model == "fake"
    assert one.firmware == f"1.2.3 recipe {device.recipe.hash[:12]}"
    assert make(('model = "fake"', '# a remark\nmodel   =   "fake"')).info().identity == one.identity
    assert make((" $level", " 1$level")).info().identity != one.identity
    assert make(("version ([0-9.]+)", "version ([0-9]+)")).info().identity != one.identity
    assert make().info().boot_id != one.boot_id


def test_without_a_version_command_the_program_file_is_the_version(make: Callable[..., CommandDevice]) -> None:
    start, end = RECIPE.index("[version]"), RECIPE.index("[output]")
    assert make((RECIPE[start:end], "")).info().firmware.startswith("sha256:")


def test_a_version_that_does_not_come(make: Callable[..., CommandDevice]) -> None:
    with pytest.raises(DeviceError, match=r"said nothing that matches 'build .*version 1\.2\.3"):
        make(("version ([0-9.]+)", "build ([0-9.]+)")).info()


def test_exit_code_and_last_words_are_told(make: Callable[..., CommandDevice]) -> None:
    message = error_of(make(), act="fail")
    assert "exit code 9" in message
    assert "stderr ends with 'no such tuning: 7'" in message
    assert "stdout ends with 'fake isp at work'" in message
    assert "first line" not in message


def test_a_program_that_writes_nothing(make: Callable[..., CommandDevice]) -> None:
    assert "wrote no out.ppm" in error_of(make(), act="nothing")


def test_output_that_is_cut_off(make: Callable[..., CommandDevice]) -> None:
    message = error_of(make(), act="corrupt")
    assert "out.ppm (20 bytes) does not decode as ppm" in message


def test_output_of_another_kind(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    (tmp_path / "canned").write_bytes(b"GIF89a")
    assert "does not start as ppm does; check output.kind" in error_of(make(), act="canned")


def test_output_too_large_to_read(
    make: Callable[..., CommandDevice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.programs.command_device._OUTPUT_BYTES", 0)
    (tmp_path / "canned").write_bytes(b"P6 " + b" " * 1000)
    assert "has 1,003 bytes, at most" in error_of(make(), act="canned")


def test_a_missing_program_is_named(make: Callable[..., CommandDevice]) -> None:
    device = make(
        (f'command = ["{sys.executable}", "-S", "{{recipe}}/isp.py", "{{recipe}}"', 'command = ["no-such-isp"')
    )
    assert "no program 'no-such-isp': install it" in error_of_info(device)


def test_a_missing_version_program_is_named(make: Callable[..., CommandDevice]) -> None:
    device = make(
        (f'command = ["{sys.executable}", "-S", "{{recipe}}/isp.py", "--version"', 'command = ["no-such-version"')
    )
    assert "no program 'no-such-version', which tells the version" in error_of_info(device)


def error_of_info(device: CommandDevice) -> str:
    with pytest.raises(DeviceUnreachableError) as caught:
        device.info()
    return str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="any file may be run on Windows")
def test_a_program_that_does_not_start(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    device = make(
        (f'command = ["{sys.executable}", "-S", "{{recipe}}/isp.py", "{{recipe}}"', 'command = ["{recipe}/broken"')
    )
    assert "does not start" in error_of(device, DeviceUnreachableError)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def hanging(make: Callable[..., CommandDevice], listener: socket.socket, limit_s: float) -> CommandDevice:
    port = listener.getsockname()[1]
    new = f'time_limit_s = {limit_s}\nenvironment = {{ FAKE_PORT = "{port}" }}'
    return make(("time_limit_s = 60", new))


def assert_both_end(listener: socket.socket) -> None:
    """The program and its child hold a connection each, which ends with them."""
    links = [listener.accept()[0] for _ in range(2)]
    for link in links:
        with link:
            link.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert link.recv(1) == b""


def test_at_the_time_limit_the_program_and_its_child_are_ended(
    make: Callable[..., CommandDevice], listener: socket.socket, temporary: Path
) -> None:
    device = hanging(make, listener, 5)
    message = error_of(device, FrameFailedError, act="hang")
    assert "did not end within 5 s" in message
    assert "time_limit_s" in message
    assert_both_end(listener)
    assert list(temporary.iterdir()) == []
    assert device.process(small_raw(), device.info().space.defaults).rgb.pixels.shape == (6, 8, 3)


def test_close_ends_what_runs(make: Callable[..., CommandDevice], listener: socket.socket) -> None:
    device = hanging(make, listener, 600)
    parameters = device.info().space.defaults.replace(act="hang")
    errors: list[Exception] = []

    def work() -> None:
        try:
            device.process(small_raw(), parameters)
        except DeviceError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    links = [listener.accept()[0] for _ in range(2)]
    device.close()
    thread.join(60)
    assert not thread.is_alive()
    assert "the device was closed" in str(errors[0])
    for link in links:
        link.close()
    device.close()


def test_a_consumer_that_stops_leaves_nothing_running(
    make: Callable[..., CommandDevice], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    device = hanging(make, listener, 600)
    space = device.info().space
    stream = device.process_many([(small_raw(), space.defaults), (small_raw(), space.defaults.replace(act="hang"))])
    assert isinstance(stream, Generator)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("command")]


def test_several_at_once_come_back_in_order(
    make: Callable[..., CommandDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    device = make()
    base = device.info().space.defaults
    assert device.info().max_in_flight == 2
    # The first ends only after the second has run: they run at the same time.
    acts = ["wait", "signal", "ok", "ok", "ok"]
    jobs = [(small_raw(seed=i), base.replace(act=act, level=i)) for i, act in enumerate(acts)]
    captures = [c for c in device.process_many(iter(jobs)) if isinstance(c, Capture)]
    assert [c.raw_hash for c in captures] == [raw.hash for raw, _ in jobs]
    assert [int(c.rgb.pixels[0, 0, 2]) for c in captures] == list(range(5))
    assert sorted(c.frame for c in captures) == [1, 2, 3, 4, 5]


def test_a_failure_among_many_comes_at_its_place_and_the_rest_goes_on(make: Callable[..., CommandDevice]) -> None:
    device = make()
    base = device.info().space.defaults
    sets = [base, base.replace(act="fail"), base.replace(act="nothing"), base, base.replace(act="corrupt"), base]
    results = list(device.process_many((small_raw(), s) for s in sets))
    assert [isinstance(r, Failure) for r in results] == [False, True, True, False, True, False]
    failures = [r for r in results if isinstance(r, Failure)]
    assert [f.code for f in failures] == ["failed", "failed", "output"]
    assert "exit code 9" in failures[0].reason
    assert {f.raw_hash for f in failures} == {small_raw().hash}
    assert [f.parameters for f in failures] == [sets[1], sets[2], sets[4]]
    with pytest.raises(FrameFailedError, match="exit code 9") as caught:
        device.process(small_raw(), sets[1])
    assert sets[1].hash[:12] in str(caught.value)
    assert str(caught.value).startswith(device.url)


def test_parameters_of_another_device_are_refused(make: Callable[..., CommandDevice]) -> None:
    other = recipes.load("dcraw_emu").space.defaults
    with pytest.raises(DeviceError, match="not this recipe's"):
        make().process(small_raw(), other)


PICTURE = np.random.default_rng(3).integers(0, 256, (6, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "depth"), [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("ppm", 8), ("ppm", 16)]
)
def test_outputs_without_loss(make: Callable[..., CommandDevice], tmp_path: Path, kind: str, depth: int) -> None:
    stored = PICTURE[..., ::-1] if depth == 8 else PICTURE[..., ::-1].astype(np.uint16) * 257
    (tmp_path / "canned").write_bytes(cv2.imencode("." + kind, stored)[1].tobytes())
    device = make(('kind = "ppm"', f'kind = "{kind}"'))
    capture = device.process(small_raw(), device.info().space.defaults.replace(act="canned"))
    assert capture.rgb.media_type == "image/png"
    np.testing.assert_array_equal(capture.rgb.pixels, PICTURE)


def test_sixteen_bits_are_rounded(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    stored = np.full((6, 8, 3), 128, np.uint16)
    stored[0, 0] = 129
    (tmp_path / "canned").write_bytes(cv2.imencode(".tiff", stored)[1].tobytes())
    device = make(('kind = "ppm"', 'kind = "tiff"'))
    pixels = device.process(small_raw(), device.info().space.defaults.replace(act="canned")).rgb.pixels
    assert pixels[0, 0].tolist() == [1, 1, 1]
    assert pixels[1:].max() == 0


def test_a_floating_point_tiff_is_refused(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    (tmp_path / "canned").write_bytes(cv2.imencode(".tiff", np.zeros((6, 8, 3), np.float32))[1].tobytes())
    assert "does not decode as tiff" in error_of(make(('kind = "ppm"', 'kind = "tiff"')), act="canned")


def test_a_jpeg_is_kept_as_it_came(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    (tmp_path / "canned").write_bytes(data)
    device = make(('kind = "ppm"', 'kind = "jpeg"'))
    rgb = device.process(small_raw(), device.info().space.defaults.replace(act="canned")).rgb
    assert rgb.encoded == data
    assert rgb.media_type == "image/jpeg"


def test_an_output_of_another_size(make: Callable[..., CommandDevice], tmp_path: Path) -> None:
    (tmp_path / "canned").write_bytes(cv2.imencode(".ppm", PICTURE[..., ::-1])[1].tobytes())
    raw = small_raw(10, 14)
    message = error_of(make(), raw=raw, act="canned")
    assert "is 8×6, the RAW is 14×10" in message
    assert "output.size" in message
    device = make(('kind = "ppm"', 'kind = "ppm"\nsize = "pad"'))
    pixels = device.process(raw, device.info().space.defaults.replace(act="canned")).rgb.pixels
    np.testing.assert_array_equal(pixels[2:8, 3:11], PICTURE)
    np.testing.assert_array_equal(pixels[0, 3:11], PICTURE[0])
    assert "is 8×6, the RAW is 4×4" in error_of(device, raw=small_raw(4, 4), act="canned")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{width}", "{widht}", "unknown placeholder 'widht'"),
        ("$gain", "$gian", "settings.template: unknown placeholder 'gian'"),
        ("$gain", "$5", "settings.template line 1: a $ without a name"),
        ("{width}", "{width!r}", "a name in braces and nothing more"),
        ("{width}", "{width:5}", "a name in braces and nothing more"),
        ("{width}", "{width", "'{width'"),
        ("{width}", "{}", "a name in braces and nothing more"),
        ('"{extra}", ', "", "parameter 'extra' reaches neither"),
        ('"{raw}", ', "", "does not name {raw}"),
        ('"{settings}", ', "", "does not name {settings}"),
        ('model = "fake"', "", "model: missing"),
        ('kind = "ppm"', "", "output.kind: missing"),
        ('kind = "ppm"', 'kind = "gif"', "output.kind = 'gif': must be 'png', 'jpeg'"),
        ('file = "out.ppm"', 'file = "../out.ppm"', "output.file"),
        ('file = "out.ppm"', 'file = "s.json"', "three file names"),
        ('raw = "u16"', 'raww = "u16"', "raww: unknown key; did you mean 'raw'"),
        ('raw = "u16"', 'hash = "u16"', "hash: a recipe has no such key"),
        ("time_limit_s = 60", "time_limit_s = 0", "time_limit_s"),
        ("high = 255", "high = 0", "low 0.0 must be below high 0.0"),
        ('name = "level"', 'name = "gain"', "parameter named twice: gain"),
        ('name = "level"', 'name = "white"', "has the name of a placeholder"),
        ('gain = ".3f"', 'gain = ".1f"', "two values of the parameter are written alike"),
        ('gain = ".3f"', 'gain = "%d"', "needs a number format"),
        ('gain = ".3f"', 'gian = ".3f"', "there is no parameter 'gian'"),
        ('some = "--extra"', 'more = "--extra"', "needs one word for each of none, some"),
        ("([0-9.]+)", "([0-9.]+", "version.pattern"),
        ("[output]", "[output", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_told_when_it_is_opened(
    make: Callable[..., CommandDevice], old: str, new: str, words: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        make((old, new))
    message = str(caught.value)
    assert words in message
    assert "recipe.toml" in message
    assert "\n" not in message


@given(st.text(alphabet=st.sampled_from("{}$!:[]. ag\\n\0é"), max_size=12), st.booleans())
def test_any_text_opens_or_is_told(text: Any, in_settings: Any) -> None:
    document = tomllib.loads(RECIPE)
    if in_settings:
        document["settings"]["template"] += text
    else:
        document["command"].append(text)
    try:
        recipe = recipes.from_dict(document, Path("x.toml"))
    except DeviceError:
        return
    recipe.settings_text(small_raw(), recipe.space.defaults)
    recipe.arguments(small_raw(), recipe.space.defaults, Path())


def test_a_zero_byte_in_an_argument(make: Callable[..., CommandDevice]) -> None:
    device = make(('"{extra}", ', '"{extra}", "\\u0000", '))
    assert "does not start: embedded null byte" in error_of(device, DeviceUnreachableError)


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no recipe 'photoshop': shipped are dcraw_emu, rawtherapee"):
        open_device("command:photoshop")
    with pytest.raises(DeviceError, match="cannot read the recipe"):
        open_device(f"command:{tmp_path}/none.toml")
    (tmp_path / "latin.toml").write_bytes(b'model = "\xff"')
    with pytest.raises(DeviceError, match="not UTF-8"):
        open_device(f"command:{tmp_path}/latin.toml")


def test_values_out_of_range_never_reach_the_program(make: Callable[..., CommandDevice]) -> None:
    with pytest.raises(ParameterError):
        make().info().space.defaults.replace(level=256)


# The shipped recipes, with the programs where they are installed.

BLOCKS = {
    "rawtherapee": {"noise_reduction", "demosaic", "white_balance", "exposure", "sharpening", "tone", "colour"},
    "dcraw_emu": {"noise_reduction", "demosaic", "white_balance", "exposure", "tone"},
}
# Parameters that act only while another one is on are measured with that one on.
ACTIVE: dict[str, Any] = {
    "rawtherapee": {
        "impulse_denoise": True,
        "denoise_luma": 40,
        "denoise_chroma": 40,
        "sharpen_amount": 200,
    },
    "dcraw_emu": {"demosaic": "dcb", "exposure_shift": 2.0},
}
COUNTS = {"rawtherapee": 20, "dcraw_emu": 10}
PROGRAMS = {"rawtherapee": "rawtherapee-cli", "dcraw_emu": "dcraw_emu"}


@pytest.mark.parametrize("name", COUNTS)
def test_a_shipped_recipe_opens_without_its_program(name: Any) -> None:
    recipe = recipes.load(name)
    assert len(recipe.space) >= COUNTS[name]
    assert BLOCKS[name] <= set(recipe.space.blocks)
    assert all(p.description for p in recipe.parameters)


def photograph(height: int = 96, width: int = 144) -> RawFrame:
    """Shades, edges, fringes, noise, hot pixels and lines, none of it clipped: something for every parameter to do."""
    y, x = np.mgrid[0:height, 0:width] / height
    rgb = np.stack([0.1 + 0.2 * x, 0.25 + 0.2 * y, 0.3 - 0.1 * x * y], axis=-1)
    rgb *= np.where(np.sin(40 * x * y) > 0, 1.0, 0.5)[..., None]
    rgb[height // 2 :, width // 2 :] *= (0.3, 0.15, 0.4)
    rgb[10:40, 10:40] *= 2.2
    mosaic = np.empty((height, width))
    for i, c in enumerate("RGGB"):
        mosaic[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, "RGB".index(c)]
    rng = np.random.default_rng(11)
    mosaic += rng.normal(0, 1, mosaic.shape) * np.sqrt(5e-4 * mosaic) + rng.normal(0, 0.005, (height, 1))
    mosaic[rng.integers(0, height, 30), rng.integers(0, width, 30)] = 0.93
    dn = np.clip(np.round(256 + mosaic * (4095 - 256)), 0, 3900).astype(np.uint16)
    return RawFrame(
        dn, "RGGB", (256,) * 4, 4095, iso=800, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5),
        colour_matrix=((1.6, -0.4, -0.2), (-0.2, 1.5, -0.3), (0.0, -0.5, 1.5)),
    )  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_every_parameter_of_a_shipped_recipe_changes_the_output(name: Any) -> None:
    if shutil.which(PROGRAMS[name]) is None:
        pytest.skip(f"{PROGRAMS[name]} is not installed")
    raw = photograph()
    with open_device(f"command:{name}") as device:
        space = device.info().space
        base = space.defaults.replace(**ACTIVE[name])
        ends = [base.replace(**{p.name: p.from_code(c)}) for p in space.parameters for c in (p.low_code, p.high_code)]
        captures = [c for c in device.process_many((raw, p) for p in [base, base, *ends]) if isinstance(c, Capture)]
    assert captures[0].rgb.pixels.shape == (raw.height, raw.width, 3)
    np.testing.assert_array_equal(captures[0].rgb.pixels, captures[1].rgb.pixels)
    without = [
        p.name
        for p, low, high in zip(space.parameters, captures[2::2], captures[3::2], strict=True)
        if np.array_equal(low.rgb.pixels, high.rgb.pixels)
    ]
    assert without == []
