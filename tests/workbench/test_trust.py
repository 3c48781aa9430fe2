"""Labs and records of strangers: what they name is not run before the user has said so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from drivers.frames import RawFrame
from drivers.raw.raw_files import save_npz
from workbench import cli
from workbench.lab import trust
from workbench.lab.runs import new_run

RECIPE = """
model = "r"
command = ["{{recipe}}/p.sh", "{{raw}}", "{{p}}"]
[version]
command = ["{{recipe}}/p.sh"]
[output]
file = "out.png"
kind = "png"
[[parameters]]
name = "p"
block = "b"
kind = "integer"
low = 0
high = 9
default = {default}
"""

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line as a user without any settings; gives exit code and all that was printed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(trust, "_named", set())

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(cli, "app", typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False))
        monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return code, "".join(capsys.readouterr())

    return call


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab whose device `camera` is a program that leaves a trace when it is run."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "p.sh").write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\necho 1\n")
    (lab / "p.sh").chmod(0o755)
    (lab / "isp.toml").write_text(RECIPE.format(default=1))
    (lab / "lab.toml").write_text(f'[devices]\ncamera = "command:{lab}/isp.toml"\n')
    return lab


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script is the program")
class TestProgramsOfALab:
    def test_a_list_starts_nothing(self, run: Run, lab: Path, tmp_path: Path) -> None:
        code, told = run("device", "list", "--lab", str(lab))
        assert (code, (tmp_path / "owned").exists()) == (0, False)
        assert "camera" in told
        assert "a list does not start" in told

    @pytest.mark.parametrize(
        "command",
        [
            ("device", "info", "camera"),
            ("device", "get", "camera"),
            ("device", "check", "camera"),
            ("collect", "--device", "camera", "--raws", "raws", "--captures", "1"),
        ],
    )
    def test_a_name_is_not_enough(self, run: Run, lab: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
        code, told = run(*command, "--lab", str(lab))
        assert code == 1
        assert f"would run command:{lab}/isp.toml, which you have not used before" in told
        assert not (tmp_path / "owned").exists()

    def test_said_once_it_is_remembered_until_the_recipe_changes(self, run: Run, lab: Path, tmp_path: Path) -> None:
        url = f"command:{lab}/isp.toml"
        assert run("--trust", url, "device", "info", "camera", "--lab", str(lab))[0] == 0
        assert (tmp_path / "owned").exists()
        trust._named.clear()
        assert run("device", "info", "camera", "--lab", str(lab))[0] == 0
        (lab / "isp.toml").write_text(RECIPE.format(default=2))
        assert run("device", "info", "camera", "--lab", str(lab))[0] == 1
        kept = tmp_path / "settings" / "isp-workbench" / "trusted.json"
        assert kept.stat().st_mode & 0o077 == 0

    def test_what_was_typed_is_the_users_own_word(self, run: Run, lab: Path) -> None:
        assert run("device", "info", f"command:{lab}/isp.toml")[0] == 0
        assert run("device", "info", "camera", "--lab", str(lab))[0] == 0

    def test_a_settings_folder_that_cannot_be_written_only_asks_again(
        self, run: Run, lab: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "settings").write_text("a file, no folder")
        assert run("device", "info", f"command:{lab}/isp.toml")[0] == 0
        assert run("device", "info", "camera", "--lab", str(lab))[0] == 1

    @pytest.mark.parametrize("content", ["[", "{}", "[1, [2]]", "\ufeff", ""])
    def test_damaged_settings_trust_nothing(self, run: Run, lab: Path, tmp_path: Path, content: str) -> None:
        file = tmp_path / "settings" / "isp-workbench" / "trusted.json"
        file.parent.mkdir(parents=True)
        file.write_text(content, encoding="utf-8")
        assert run("device", "info", "camera", "--lab", str(lab))[0] == 1


def test_shipped_recipes_and_other_devices_ask_nothing() -> None:
    assert not trust.runs_code("command:rawtherapee")
    assert not trust.runs_code("zmq://192.0.2.7:5555")
    assert not trust.runs_code("sim:sim20")
    assert trust.runs_code("command:rawtherapee.toml")
    assert trust.runs_code("command:../rawtherapee")


def test_a_module_that_a_record_names_is_not_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange_pkg").mkdir()
    (tmp_path / "strange_pkg" / "__init__.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    (tmp_path / "strange_pkg" / "m.py").write_text("def factory(): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    lab = tmp_path / "lab"
    save_npz(tmp_path / "a.npz", RawFrame(np.full((8, 8), 100, np.uint16), "RGGB", (0, 0, 0, 0), 4095))
    made = new_run(lab, "train", "t")
    vision = {"name": "detection", "detector": "strange_pkg.m:factory", "annotations": "a.json", "folder": "/"}
    made.update(config={"task": "detection:x", "vision": vision, "recipe": {}, "proxy": "p"})
    made.finish({"loss": 1.0})
    code, told = run("rerun", "t", "--lab", str(lab))
    assert code == 1
    assert "strange_pkg.m:factory, which you have not used before" in told
    assert not (tmp_path / "owned").exists()
    assert json.loads((lab / "runs" / "t" / "run.json").read_text())["kind"] == "train"


@pytest.mark.skipif(sys.platform == "win32", reason="a variable of XDG")
def test_a_relative_folder_of_settings_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "settings")
    monkeypatch.chdir(tmp_path)
    trust.remember("module:factory")
    assert not (tmp_path / "settings").exists()
    trusted = tmp_path / "home" / ".config" / "isp-workbench" / "trusted.json"
    assert json.loads(trusted.read_text()) == ["module:factory"]
    trust.require("module:factory", "here")


def test_a_user_without_a_home_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("APPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    trust.remember("module:factory")
    with pytest.raises(trust.TrustError, match="here would run module:factory"):
        trust.require("module:factory", "here")
