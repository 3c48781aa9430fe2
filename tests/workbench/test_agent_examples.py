"""Shipped agents, and the start that ``workbench device new`` writes: run as programs, checked as devices."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from drivers.agent import PictureOutput
from drivers.agent.kit import DEFAULT_URL
from drivers.frames import RawFrame
from drivers.protocol import wire
from drivers.registry import open_device
from workbench.commands import device
from workbench.commands.device_new import AgentFileError

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = ROOT / "tests" / "drivers" / "stand_ins"
RUN = CliRunner()
SLOW_MACHINE = "A header above 1 MiB is refused"  # is skipped where the machine is too busy for it
ONE_CLIENT = {"Three parts are refused", "An empty header is refused", "No client gets another's answers"}
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("-m", "module", "zmq://127.0.0.1:0")`` runs Python with these words; gives the URL that it serves."""
    with contextlib.ExitStack() as closing:

        def begin(*words: str) -> str:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, STAND_INS)))}
            agent = closing.enter_context(
                subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment)
            )
            closing.callback(agent.kill)
            assert agent.stdout is not None
            told = agent.stdout.readline()
            assert told.startswith("serving "), told
            return told.split(" at ")[1].split()[0]

        yield begin


def checked(url: str, *options: str) -> dict[str, str]:
    """What `device check` skips, with the reasons; all else passes."""
    result = RUN.invoke(device.app, ["check", url, "--json", "--deadline", "60", *options], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert [r for r in told["requirements"] if r["outcome"] == "fail"] == []
    return {r["title"]: r["reason"] for r in told["requirements"] if r["outcome"] == "skipped"}


# ---- workbench device new --------------------------------------------------------------------------------------------


def new(*words: str) -> str:
    result = RUN.invoke(device.app, ["new", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_start_that_is_written_passes_the_check_as_it_is(start: Start, tmp_path: Path) -> None:
    told = new(str(tmp_path / "night_isp.py"))
    assert f"python {tmp_path / 'night_isp.py'}" in told
    assert f"workbench device check {DEFAULT_URL}" in told
    url = start(str(tmp_path / "night_isp.py"), "zmq://127.0.0.1:0")
    with open_device(url, 30) as opened:
        assert opened.info().model == "night-isp"
    assert set(checked(url)) <= {SLOW_MACHINE}


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo terminals")
def test_it_passes_the_check_on_a_line_too(start: Start, tmp_path: Path) -> None:
    new(str(tmp_path / "isp.py"))
    assert set(checked(start(str(tmp_path / "isp.py"), "serial:pty"))) <= {SLOW_MACHINE, *ONE_CLIENT}


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "isp.py"
    path.write_text("mine")
    with pytest.raises(AgentFileError, match=r"isp\.py: is there already and is not replaced"):
        new(str(path))
    assert path.read_text() == "mine"
    with pytest.raises(AgentFileError, match="cannot be written: No such file"):
        new(str(tmp_path / "none" / "isp.py"))
    for name in ("isp", "my isp.py", 'is"p.py', ".py"):
        assert RUN.invoke(device.app, ["new", str(tmp_path / name)]).exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["isp.py"]


def test_new_as_json_and_the_url_that_the_file_serves(tmp_path: Path) -> None:
    told = json.loads(new(str(tmp_path / "a-b_c.py"), "--json"))
    assert told == {"file": str(tmp_path / "a-b_c.py"), "model": "a-b-c", "url": DEFAULT_URL}
    text = (tmp_path / "a-b_c.py").read_text()
    assert f'else "{DEFAULT_URL}"' in text
    assert "my_isp" not in text


# ---- examples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy_isp", "opencv_isp"])
def test_an_example_passes_the_check(start: Start, name: str) -> None:
    assert set(checked(start("-m", f"drivers.agent.examples.{name}", "zmq://127.0.0.1:0"))) <= {SLOW_MACHINE}


def picture() -> RawFrame:
    """Edges, colours and noise, as an ISP has to do with them: 32×32, 10 bits."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:32, :32]
    light = 100 + 300 * ((x // 8 + y // 8) % 2) + 8 * x
    cfa = np.tile([[0.6, 1.0], [1.0, 0.8]], (16, 16))
    mosaic = np.clip(64 + light * cfa + rng.normal(0, 12, (32, 32)), 0, 1023).astype(np.uint16)
    matrix = ((1.6, -0.4, -0.2), (-0.3, 1.5, -0.2), (0.0, -0.5, 1.5))
    return RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=400.0, as_shot_wb=(1.7, 1.0, 1.25), colour_matrix=matrix)


@pytest.mark.parametrize("name", ["start", "numpy_isp", "opencv_isp"])
def test_each_parameter_of_an_example_does_something(name: str) -> None:
    module: Any = importlib.import_module(f"drivers.agent.examples.{name}")
    space, raw = module.agent.space, picture()

    def made(**values: Any) -> bytes:
        parameters = space.parse(values, partial=True)
        return bytes(module.process(raw.mosaic, raw.metadata, dict(parameters.values)))

    # What another parameter switches off would do nothing.
    words = ("choice", "bool")
    start = {p.name: p.from_code(p.low_code if p.kind in words else p.high_code - 1) for p in space.parameters}
    assert made(**start) == made(**start)
    for p in space.parameters:
        other = p.from_code(p.high_code if p.kind in words else p.low_code)
        assert made(**{**start, p.name: other}) != made(**start), p.name


@pytest.mark.parametrize("name", ["start", "numpy_isp", "opencv_isp"])
@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_an_example_knows_the_order_of_the_colours(name: str, cfa: str) -> None:
    """A RAW of one strong red comes out red, whatever the order; the smallest RAW there is comes out too."""
    module: Any = importlib.import_module(f"drivers.agent.examples.{name}")
    device_side = module.agent.device()
    for side in (2, 32):
        quad = np.reshape([900 if c == "R" else 100 for c in cfa], (2, 2))
        mosaic = np.tile(quad, (side // 2, side // 2)).astype(np.uint16)
        raw = RawFrame(mosaic, cfa, (64.0,) * 4, 1023)
        answer = device_side.handle(wire.process_request(1, raw, ()))
        assert isinstance(answer, wire.Frame), answer
        red, green, blue = wire.picture(answer, PictureOutput(), side, side).pixels[side // 2, side // 2].tolist()
        assert red > green + 50
        assert red > blue + 50


def test_the_live_camera_with_a_stand_in_for_it(start: Start) -> None:
    url = start("-m", "drivers.agent.examples.live_camera", "zmq://127.0.0.1:0")
    skipped = checked(url)
    assert all("live" in reason or "echo" in reason or title == SLOW_MACHINE for title, reason in skipped.items())
    with open_device(f"{url}?settle=0", 30) as opened:
        info = opened.info()
        assert (info.live, info.echo) == (True, False)
        shots = []
        for brightness in (0.5, -0.5):
            values = {"red_gain": 4, "blue_gain": 2, "brightness": brightness}
            shots.append(opened.capture(info.space.parse(values, partial=True)))
    for (raw, capture), level in zip(shots, (178, 78), strict=True):
        assert (raw.width, raw.height, raw.cfa) == (32, 24, "GRBG")
        assert (raw.black_level, raw.white_level, raw.iso, raw.exposure_s) == ((256.0,) * 4, 4095, 200.0, 0.01)
        assert raw.as_shot_wb == (1.9, 1.0, 1.6)
        assert capture.rgb.pixels[3, 3].tolist() == [level * 4 // 8, level // 4, level * 2 // 8]
    assert shots[0][0].hash != shots[1][0].hash
