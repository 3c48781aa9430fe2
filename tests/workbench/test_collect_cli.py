"""``workbench collect`` and ``workbench dataset`` as a user runs them; in a process of their own to be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from fake_isp import FakeIsp, make_raw

from drivers import registry
from drivers.device import Device
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench import cli
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify

# The commands alone, so that these tests do not wait for the imports of others.
RUNNER = """
import typer, workbench.cli as cli, drivers.registry as registry
from workbench.commands import dataset
from workbench.commands.collect import collect
from fake_isp import FakeIsp

opened = registry.open_device
registry.open_device = lambda url, deadline_s=30.0: (
    FakeIsp(int(url[5:]) if url[5:] else None) if url.startswith("fake:") else opened(url, deadline_s)
)

def register():
    cli.app.command()(collect)
    cli.app.add_typer(dataset.app, name="dataset")

cli._register = register
cli.main()
"""
HERE = Path(__file__).resolve().parent


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-c", RUNNER, *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@dataclass(frozen=True)
class Here:
    """The folder of a test, in which commands are run through ``main``."""

    path: Path
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def workbench(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.patch.setattr(cli, "app", typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False))
        self.patch.setattr(sys, "argv", ["workbench", *arguments])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = self.capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    def collect(self, *arguments: str, device: str = "fake:") -> tuple[int, str, str]:
        return self.workbench("collect", "--device", device, "--raws", "raws", *arguments)

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    (tmp_path / "raws").mkdir()
    for i in range(6):
        save_npz(tmp_path / "raws" / f"{i}.npz", make_raw(i))
    opened = registry.open_device

    def open_device(url: str, deadline_s: float = 30.0) -> Device:
        fake = url.startswith("fake:")
        return FakeIsp(int(url[5:]) if url[5:] else None) if fake else opened(url, deadline_s)

    monkeypatch.setattr(registry, "open_device", open_device)
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, monkeypatch, capsys)


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    return lines[0]


def test_collect_extend_and_look(place: Here) -> None:
    code, out, err = place.collect("--captures", "40", "--json", device="sim:sim20")
    assert code == 0, err
    first = json.loads(out)
    assert (first["captures"], first["new"], first["raws"]) == (40, 40, 6)
    code, out, _ = place.collect("--captures", "40", device="sim:sim20")
    assert (code, out) == (0, "complete: 40 of 40 captures, nothing to do\n")
    code, out, _ = place.collect("--captures", "50", "--json", device="sim:sim20")
    assert (code, json.loads(out)["new"]) == (0, 10)
    code, out, _ = place.workbench("dataset", "info", "--json")
    info = json.loads(out)
    assert (code, info["captures"], sum(info["raws"].values())) == (0, 50, 6)
    assert info["devices"][0]["purposes"] == {"collect": 50}
    assert info["digest"] != first["digest"]
    with Dataset.open(place / "lab") as dataset:
        test = {raw.hash for raw in dataset.raws(Split.TEST)}
        assert all(capture.raw_hash not in test for capture in dataset.captures())
        outputs = {capture.output_hash for capture in dataset.captures()}
        assert len(outputs) > 40
        assert dataset.captures()[0].rgb().pixels.shape == (16, 16, 3)
        broken = dataset.blobs.path(dataset.captures()[0].output_hash, "jpg")
    assert place.workbench("dataset", "verify")[0] == 0
    assert "50 captures" in place.workbench("dataset", "export", "out")[1]
    assert len(list((place / "out" / "captures").iterdir())) == 50
    broken.write_bytes(b"")
    code, out, err = place.workbench("dataset", "verify", "--json")
    assert (code, len(json.loads(out)["problems"])) == (1, 1)
    assert "1 problem found" in one_line(err)


def test_around_a_point(place: Here) -> None:
    (place / "good.toml").write_text("[gain]\ngain = 2.0\n")
    around = ("--design", "around", "--around", "good.toml", "--spread", "0.05", "--captures", "20")
    code, _, err = place.collect(*around)
    assert code == 0, err
    with Dataset.open(place / "lab") as dataset:
        gains = np.array([capture.codes["gain"] for capture in dataset.captures()]) / 256
    assert len(gains) == 20
    assert np.abs(gains - 2.0).max() <= 0.05 * 4 + 1 / 256
    (place / "bad.toml").write_text("[gain]\ngain = 9.0\n")
    code, _, err = place.collect("--design", "around", "--around", "bad.toml", "--captures", "20")
    assert code == 1
    assert "bad.toml: parameter gain: 9 is outside 0..4" in one_line(err)


def test_device_gone_in_mid_campaign(place: Here) -> None:
    code, _, err = place.collect("--captures", "100", device="fake:70")
    assert code == 1
    assert "gone; 70 of the 100 captures to make are kept, the same command goes on" in one_line(err)
    code, out, _ = place.collect("--captures", "100", "--json")
    assert (code, json.loads(out)["new"]) == (0, 30)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_and_the_same_command_goes_on(place: Here) -> None:
    command = ("collect", "--device", "sim:sim20", "--raws", "raws", "--captures", "3000", "--seed", "4")
    process = start(place.path, *command)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("read RAWs: 6 of 6"):
            break
    with Dataset.open(place / "lab") as dataset:
        while not dataset.captures():
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping at the next safe point" in err
    assert err.splitlines()[-1] == f"stopped: every reported capture is kept; go on with: workbench {' '.join(command)}"
    with Dataset.open(place / "lab") as dataset:
        kept = len(dataset.captures())
        assert 0 < kept < 3000
        assert verify(dataset).problems == []
    code, out, _ = place.collect("--captures", str(kept + 5), "--seed", "4", "--json", device="sim:sim20")
    assert (code, json.loads(out)["new"]) == (0, 5)


def test_bad_input_is_one_line(place: Here) -> None:
    (place / "raws" / "bad.npz").write_bytes(b"no RAW")
    code, _, err = place.collect("--captures", "4")
    assert code == 1
    assert "bad.npz" in one_line(err)
    (place / "raws" / "bad.npz").unlink()
    (place / "file").write_text("")
    code, _, err = place.collect("--captures", "4", "--lab", "file/lab")
    assert code == 1
    assert "cannot be written" in one_line(err)
    code, _, err = place.workbench("dataset", "info", "--lab", "nowhere")
    assert code == 1
    assert "nowhere: no data set here" in one_line(err)
    code, _, err = place.collect("--captures", "4", device="nothing:")
    assert code == 1
    assert "no driver" in one_line(err)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_full_disk_keeps_what_was_reported(place: Here) -> None:
    # A limit on the size of files makes the system refuse to write the database in earnest.
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))\n" + RUNNER
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    command = [sys.executable, "-c", limited, "collect", "--device", "fake:", "--raws", "raws", "--captures", "2000"]
    done = subprocess.run(command, cwd=place.path, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert "the disk refused" in one_line(done.stderr) or "cannot be written" in one_line(done.stderr)
    with Dataset.open(place / "lab") as dataset:
        assert verify(dataset).problems == []
        kept = len(dataset.captures())
        assert 0 < kept < 2000
    code, out, _ = place.collect("--captures", "2000", "--json")
    assert (code, json.loads(out)["new"]) == (0, 2000 - kept)
