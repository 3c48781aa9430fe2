"""The vision demo, every step over ZeroMQ with small figures."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from drivers.registry import open_device
from workbench.commands import fit_proxy, vision_demo
from workbench.errors import RunError
from workbench.judge.results import read_validation
from workbench.lab.runs import find_run
from workbench.report.words import number


def test_the_demo_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    whole = fit_proxy.fit_proxy
    monkeypatch.setattr(fit_proxy, "fit_proxy", lambda **more: whole(base_steps=2, steps=1, **more))
    for name, value in (("TRAIN_IMAGES", 18), ("TEST_IMAGES", 6), ("STEPS", 2), ("BATCH", 3)):
        monkeypatch.setattr(vision_demo, name, value)
    page = vision_demo.run_vision_demo(tmp_path / "demo", "segmentation", captures=36)
    assert page.name == "report.html"
    results = read_validation(find_run(tmp_path / "demo" / "lab", "validate"))
    assert results.task == "segmentation"
    assert results.raws == results.scenes == 6
    assert list(results.by_key) == [
        *("default", "expert", "fixed", "industry"),
        *("mean:predictor", "predicted:predictor", "declining:predictor", "clean"),
    ]
    map50 = {key: m.figures["map50"].estimate for key, m in results.by_key.items()}
    assert map50["clean"] > map50["default"]
    about = results.about
    assert about is not None
    assert about.over["fixed"]["loss"].low is not None
    gain = about.over["industry"]["map50"]
    assert gain.estimate == pytest.approx(map50["predicted:predictor"] - map50["industry"])
    assert f"over industry: mAP50 {gain.estimate:+.3f}" in capsys.readouterr().out
    text = page.read_text()
    assert "predicted over industry" in text
    assert number(gain.estimate, "+.3f") in text
    vision_demo.run_vision_demo(tmp_path / "demo", "segmentation", captures=36)
    told = capsys.readouterr().out
    assert told.count("already done") == 4
    assert find_run(tmp_path / "demo" / "lab", "validate").path.name in told
    with pytest.raises(RunError, match="holds a demo with other settings"):
        vision_demo.run_vision_demo(tmp_path / "demo", "detection", captures=36)


def test_the_device_of_a_demo_that_was_killed_ends_too() -> None:
    program = (
        "from workbench.commands.viewing_demo import emulated_device\n"
        "with emulated_device() as url: print(url, flush=True), input()"
    )
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **streams) as process:
        url = process.stdout.readline().strip()
        with open_device(url) as device:
            assert device.info().model
        host, port = url.removeprefix("zmq://").split(":")
        # Without a handshake the device would keep this line open for half a minute.
        with socket.create_connection((host, int(port)), timeout=20) as line, suppress(ConnectionResetError):
            process.kill()
            while line.recv(1024):
                pass


@pytest.mark.parametrize("end", ["terminate", "close stdin"])
def test_a_device_that_ends_with_its_starter_ends_quietly(end: str) -> None:
    command = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--zmq", "127.0.0.1:0", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"serving" in process.stdout.readline()
        process.terminate() if end == "terminate" else process.stdin.close()
        process.wait(timeout=20)
        assert process.stderr.read() == b""
