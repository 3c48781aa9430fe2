"""The vision demo, every step over ZeroMQ with small figures."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from drivers.registry import open_device
from workbench.commands import fit_proxy, vision_demo
from workbench.commands.task_options import TaskName
from workbench.errors import RunError
from workbench.judge import vision_validation
from workbench.lab.runs import find_run


def test_the_demo_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    whole = fit_proxy.fit_proxy
    monkeypatch.setattr(fit_proxy, "fit_proxy", lambda **more: whole(base_steps=2, steps=1, **more))
    for name, value in (("TRAIN_IMAGES", 18), ("TEST_IMAGES", 6), ("STEPS", 2), ("BATCH", 3)):
        monkeypatch.setattr(vision_demo, name, value)
    monkeypatch.setattr(vision_validation, "RESAMPLES", 100)
    page = vision_demo.run_vision_demo(tmp_path / "demo", TaskName.segmentation, captures=36)
    assert page.name == "report.html"
    results = json.loads((page.parent / "results.json").read_text())
    assert results["kind"] == "segm"
    assert results["raws"] == results["scenes"] == 6
    assert [m["key"] for m in results["methods"]] == [
        *("default", "expert", "fixed", "industry"),
        *("mean:predictor", "predicted:predictor", "declining:predictor", "clean"),
    ]
    by_key = {m["key"]: m for m in results["methods"]}
    assert by_key["clean"]["map50"]["estimate"] > by_key["default"]["map50"]["estimate"]
    assert by_key["predicted:predictor"]["gain_over_fixed"]["loss"]["low"] is not None
    gain = by_key["predicted:predictor"]["gain_over_industry"]["map50"]
    assert gain["estimate"] == pytest.approx(
        by_key["predicted:predictor"]["map50"]["estimate"] - by_key["industry"]["map50"]["estimate"]
    )
    line = f"predicted (image + metadata) over industry: mAP50 {gain['estimate']:+.3f}"
    assert line in capsys.readouterr().out
    assert line in page.read_text()
    vision_demo.run_vision_demo(tmp_path / "demo", TaskName.segmentation, captures=36)
    told = capsys.readouterr().out
    assert told.count("already done") == 4
    assert find_run(tmp_path / "demo" / "lab", "validate-vision").path.name in told
    with pytest.raises(RunError, match="holds a demo with other settings"):
        vision_demo.run_vision_demo(tmp_path / "demo", TaskName.detection, captures=36)


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
