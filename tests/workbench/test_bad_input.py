"""Bad input as a user meets it: the command's own entry point, one clear line on stderr and exit code 1."""

from __future__ import annotations

import errno
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from fake_isp import make_raw

from drivers.raw.raw_files import save_npz
from sim.profiles import expert, space
from workbench import cli
from workbench.errors import StoppedError

CHART = "width = 64\nheight = 48\ncontainer = 'u8'\nbits = 8\ncfa = 'RGGB'\nblack_level = 0\nwhite_level = 255\n"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stderr: str


class Bench:
    """A folder in which commands are given, in this process but through the command's own entry point."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self._capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)

    def run(self, *arguments: str) -> Done:
        app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
        self._patch.setattr(cli, "app", app)
        self._patch.setattr(sys, "argv", ["workbench", *arguments])
        self._capsys.readouterr()
        try:
            cli.main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        assert isinstance(code, int)
        return Done(code, self._capsys.readouterr().err)

    def refusal(self, *arguments: str) -> str:
        """The one line with which a command refuses; lines of progress may stand before it."""
        done = self.run(*arguments)
        *before, last = done.stderr.splitlines()
        assert done.code == 1, done.stderr
        assert last.startswith("error: ")
        assert not [line for line in before if not line.startswith(("read RAWs: ", "collect: "))]
        return last


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with two RAWs and a data set of four captures."""
    (tmp_path / "raws").mkdir()
    for i in range(2):
        save_npz(tmp_path / "raws" / f"{i}.npz", make_raw(i))
    bench = Bench(tmp_path, monkeypatch, capsys)
    done = bench.run("collect", "--device", "sim:sim20", "--raws", "raws", "--captures", "4")
    assert done.code == 0, done.stderr
    return bench


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("red_gain = ", "red_gain = 9.5 #"), "parameter red_gain: 9.5 is outside 0.5..4 ×"),
        (("red_gain = ", "red_gian = "), "unknown parameter 'red_gian' for sim20; did you mean 'red_gain'?"),
        (("[tone]", "[tone"), "not valid TOML"),
    ],
)
def test_wrong_parameters(bench: Bench, change: tuple[str, str], told: str) -> None:
    (bench.folder / "set.toml").write_text(space("sim20").to_toml(expert("sim20")).replace(*change), encoding="utf-8")
    around = ("--raws", "raws", "--captures", "4", "--design", "around", "--around", "set.toml")
    for command in (("tune", "--expert", "set.toml"), ("collect", *around)):
        line = bench.refusal(*command, "--device", "sim:sim20")
        assert told in line
        assert "set.toml" in line


def test_other_schema_versions(bench: Bench) -> None:
    def version(text: str) -> None:
        connection = sqlite3.connect(bench.folder / "lab" / "dataset.sqlite")
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (text,))
        connection.close()

    version("9999")
    assert "made by a newer workbench" in bench.refusal("dataset", "info")
    assert "made by a newer workbench" in bench.refusal("fit-proxy")
    version("0000")
    assert "run workbench dataset upgrade" in bench.refusal("validate", "--device", "sim:sim20")
    assert "no migration of this workbench leads on" in bench.refusal("dataset", "upgrade")
    assert not list((bench.folder / "lab").glob("dataset-*.sqlite"))
    version("mine")
    assert "no workbench made" in bench.refusal("dataset", "info")


def test_wrong_files(bench: Bench) -> None:
    (bench.folder / "notes.txt").write_text("no RAW", encoding="utf-8")
    assert "not a RAW kind" in bench.refusal("predict", "notes.txt")
    assert "no finished train run" in bench.refusal("predict", "raws/0.npz")
    (bench.folder / "raws" / "frame.raw").write_bytes(np.zeros(64 * 40, np.uint8).tobytes())
    collect = ("collect", "--device", "sim:sim20", "--raws", "raws", "--captures", "8")
    assert "needs a sidecar frame.raw.toml" in bench.refusal(*collect)
    (bench.folder / "raws" / "frame.raw.toml").write_text(CHART, encoding="utf-8")
    assert "2560 bytes, but frame.raw.toml says 64×48 u8 = 3072 bytes" in bench.refusal(*collect)
    (bench.folder / "raws" / "frame.raw").unlink()
    (bench.folder / "raws" / "cut.dng").write_bytes(b"II*\0" + bytes(100))
    assert "cut.dng: LibRaw cannot read it" in bench.refusal(*collect)
    (bench.folder / "none").mkdir()
    assert "none: holds no RAW file" in bench.refusal(*collect[:3], "--raws", "none", "--captures", "8")


def test_what_fails_before_it_begins_is_told_by_its_error_alone(bench: Bench) -> None:
    for command in (
        ("fit-proxy", "--lab", "nowhere"),
        ("validate", "--device", "sim:sim20", "--expert", "nowhere.toml"),
        ("collect", "--device", "other://x", "--raws", "raws", "--captures", "8"),
        ("report",),
        ("train",),
    ):
        assert len(bench.run(*command).stderr.splitlines()) == 1


def test_wrong_usage_is_exit_code_2(bench: Bench) -> None:
    for command in (("colect",), ("collect",), ("collect", "--captures", "many"), ("predict", "--lab")):
        done = bench.run(*command)
        assert done.code == 2
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free some space and run"),
        (OSError(errno.EROFS, "Read-only file system", "out/a.npz"), "out/a.npz: Read-only file system; make it writ"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: OSError, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", refuse)
    monkeypatch.setattr(cli, "_register", lambda: None)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    line = capsys.readouterr().err
    assert line.startswith(f"error: {told}")
    assert line.count("\n") == 1


def test_ctrl_c_while_a_stopped_command_closes_what_it_had_open_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: object) -> None:
        try:
            raise StoppedError("go on with: workbench collect")
        finally:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stopped)
    monkeypatch.setattr(cli, "_register", lambda: None)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "stopped: go on with: workbench collect\n"
