"""The reference agent of docs/agent, compiled and asked over a pseudo terminal."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from sim_lab import picture
from typer.testing import CliRunner

from drivers.device import Capture
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol.serial_device import SerialDevice
from drivers.raw.raw_files import save_npz
from drivers.registry import open_device
from workbench.commands import device
from workbench.commands.collect import collect

SOURCE = Path(__file__).resolve().parents[2] / "docs" / "agent" / "agent.c"
RUN = CliRunner()
Start = Callable[..., str]

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo terminals")


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    path = tmp_path_factory.mktemp("agent") / "agent"
    options = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-O2"]
    built = subprocess.run(
        [compiler, *options, str(SOURCE), "-o", str(path)], capture_output=True, text=True, timeout=120
    )
    assert (built.returncode, built.stderr) == (0, "")
    return path


def terminal() -> tuple[int, int]:
    import tty

    master, slave = os.openpty()
    tty.setraw(slave)
    return master, slave


@pytest.fixture
def start(binary: Path) -> Iterator[Start]:
    """Starts an agent behind a terminal, or behind a line that damages one byte in so many; gives its URL."""
    with contextlib.ExitStack() as closing:

        def begin(damage: int = 0) -> str:
            # The agent's end stays open here as well: the client may come and go.
            master, slave = terminal()
            closing.callback(os.close, slave)
            closing.callback(os.close, master)
            pipe = subprocess.PIPE
            agent = subprocess.Popen([binary], stdin=pipe if damage else master, stdout=pipe if damage else master)
            closing.callback(agent.wait, 10)
            closing.callback(agent.kill)
            if damage:
                stop = threading.Event()
                relay = threading.Thread(target=carry, args=(agent, master, damage, stop))
                relay.start()
                closing.callback(relay.join, 10)
                closing.callback(stop.set)
            return f"serial://{os.ttyname(slave)}?baud=1000000"

        yield begin


def carry(agent: subprocess.Popen[bytes], master: int, damage: int, stop: threading.Event) -> None:
    """Bytes between the terminal and the agent, some of them with another bit."""
    assert agent.stdin is not None
    assert agent.stdout is not None
    chance = random.Random(1)
    ways = {master: agent.stdin.fileno(), agent.stdout.fileno(): master}
    while not stop.is_set():
        for source in select.select(list(ways), [], [], 0.05)[0]:
            data = bytearray(os.read(source, 256))
            for i in range(len(data)):
                if chance.randrange(damage) == 0:
                    data[i] ^= 1 << chance.randrange(8)
            os.write(ways[source], data)
    agent.stdin.close()
    agent.stdout.close()


def invoke(command: Callable[..., None], *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)
    result = RUN.invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_passes_the_check(start: Start) -> None:
    result = RUN.invoke(device.app, ["check", start(), "--json", "--deadline", "60"], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert told["fail"] == 0
    skipped = {r["title"] for r in told["requirements"] if r["outcome"] == "skipped"}
    assert skipped <= {
        "A RAW that is held gives the same picture without its pixels",
        "A request without pixels of a RAW that is not held is refused",
        "Three parts are refused",
        "An empty header is refused",
        "No client gets another's answers",
        "A header above 1 MiB is refused",  # where the machine is too slow for it
    }
    assert told["pass"] == len(told["requirements"]) - len(skipped)


def test_collect_with_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "raws").mkdir()
    for i in range(2):
        save_npz(tmp_path / "raws" / f"{i}.npz", picture(i)[0])
    options = ("--raws", str(tmp_path / "raws"), "--captures", "8", "--lab", str(tmp_path / "lab"), "--json")
    told = json.loads(invoke(collect, "--device", start(), *options))
    assert told["new"] == 8
    # Another start of the device: the same captures are there, and nothing is asked again.
    again = json.loads(invoke(collect, "--device", start(), *options))
    assert (again["new"], again["digest"]) == (0, told["digest"])


def expected(raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
    """What the agent's ISP must give, in whole numbers: ``uint8 [H, W, 3]``."""
    black = np.rint(np.tile(np.array(raw.black_level).reshape(2, 2), (raw.height // 2, raw.width // 2))).astype(int)
    black += int(parameters["black_offset"])
    gains = {"R": parameters["red_gain"], "G": 1.0, "B": parameters["blue_gain"]}
    pattern = np.array([gains[c] for c in raw.cfa]).reshape(2, 2)
    gain = np.rint(256 * np.tile(pattern, (raw.height // 2, raw.width // 2))).astype(int)
    exposure = round(256 * float(parameters["exposure"]))
    value = np.maximum(raw.mosaic.astype(int) - black, 0) * gain * exposure * 65535
    value = np.minimum(value // ((raw.white_level - black) << 16), 65535)
    if parameters["curve"] == "square_root":
        value = np.floor(np.sqrt(value * 65535)).astype(int)
    places = {c: [i for i in range(4) if raw.cfa[i] == c] for c in "RGB"}
    planes = [sum(value[i // 2 :: 2, i % 2 :: 2] for i in places[c]) // len(places[c]) for c in "RGB"]
    if parameters["monochrome"]:
        planes = [(planes[0] + 2 * planes[1] + planes[2]) // 4] * 3
    return np.stack([np.kron(plane * 255 // 65535, np.ones((2, 2), int)) for plane in planes], 2).astype(np.uint8)


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_its_output_is_that_of_its_parameters(start: Start, cfa: str) -> None:
    mosaic = np.random.default_rng(3).integers(0, 1024, (34, 46), dtype=np.uint16)
    raw = RawFrame(mosaic, cfa, (64.0, 63.0, 66.0, 65.0), 1023, as_shot_wb=(2.0, 1.0, 1.5))
    with open_device(start(), 30) as opened:
        space = opened.info().space
        assert {p.kind for p in space.parameters} == {"continuous", "integer", "choice", "bool"}
        for unit in (0.0, 0.2, 0.45, 0.55, 1.0):
            parameters = space.from_unit(np.full(len(space), unit))
            np.testing.assert_array_equal(opened.process(raw, parameters).rgb.pixels, expected(raw, parameters))


def test_a_bad_line_costs_time_only(start: Start) -> None:
    raw = RawFrame(np.random.default_rng(4).integers(0, 1024, (32, 32), dtype=np.uint16), "RGGB", (64.0,) * 4, 1023)
    with open_device(start(damage=4000), 60) as opened:
        assert isinstance(opened, SerialDevice)
        space = opened.info().space
        sets = [space.from_unit(np.full(len(space), i / 11)) for i in range(12)]
        captures = [
            c for c in opened.process_many([(raw, parameters) for parameters in sets]) if isinstance(c, Capture)
        ]
    assert [c.frame for c in captures] == list(range(1, 13))
    for parameters, capture in zip(sets, captures, strict=True):
        np.testing.assert_array_equal(capture.rgb.pixels, expected(raw, parameters))


def test_garbage_does_not_stop_it(start: Start) -> None:
    url = start()
    path = url.removeprefix("serial://").partition("?")[0]
    garbage = random.Random(5).randbytes(50_000)
    line = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(line, b"\0" + garbage + b"\0")
    finally:
        os.close(line)
    with open_device(url, 30) as opened:
        assert opened.info().model == "reference-agent"
