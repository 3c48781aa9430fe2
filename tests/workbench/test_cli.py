"""The ``workbench`` command as a whole: what it lists, what it imports, how it ends and what it says of bad input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from sim_lab import make_lab, picture

from drivers.raw.raw_files import save_npz
from workbench import cli
from workbench.commands import COMMANDS, register
from workbench.console.versions import workbench_version

Workbench = Callable[..., tuple[int, str, str]]
HEAVY = ("torch", "optuna", "sqlalchemy", "alembic", "numpy", "cv2", "scipy", "skimage", "matplotlib", "rawpy", "zmq")


@pytest.fixture
def workbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Workbench:
    """Runs a command line through ``main`` in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(cli, "app", typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False))
        monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def error_line(result: tuple[int, str, str]) -> str:
    """The one line of a foreseen error."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1, err
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    assert "Traceback" not in err
    return lines[0]


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom workbench import cli\nsys.argv = ['workbench', *sys.argv[1:]]\n"
        "try:\n    cli.main()\nfinally:\n"
        f"    print('loaded:', *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    told = subprocess.run([sys.executable, "-c", script, "--help"], text=True, capture_output=True, timeout=60)
    assert told.returncode == 0
    assert told.stderr.split() == ["loaded:"]
    for command in COMMANDS:
        assert f" {command} " in told.stdout


def test_the_list_says_of_a_command_what_the_command_says() -> None:
    whole, listed = typer.Typer(), typer.Typer()
    register(whole)
    register(listed, ["--help"])
    commands = typer.main.get_group(whole).commands
    assert {name: command.get_short_help_str(999) for name, command in commands.items()} == COMMANDS
    assert list(typer.main.get_group(listed).commands) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(workbench: Workbench, command: str) -> None:
    code, out, err = workbench(command, "--help")
    assert (code, err) == (0, "")
    usage = next(line for line in out.splitlines() if "Usage:" in line)
    assert f" {command} " in usage


@pytest.mark.parametrize(
    "arguments",
    [
        ("unknown",),
        ("collect",),
        ("collect", "--device", "sim:sim20", "--raws", "x", "--captures", "0"),
        ("train", "--recipe", "slow"),
        ("fit-proxy", "--steps", "many"),
        ("device", "info"),
        ("train", "--nothing"),
    ],
)
def test_bad_usage_is_exit_code_2(workbench: Workbench, arguments: tuple[str, ...]) -> None:
    code, out, err = workbench(*arguments)
    assert code == 2
    assert "Usage:" in err
    assert "Traceback" not in out + err


def test_done_is_exit_code_0(workbench: Workbench) -> None:
    code, out, err = workbench("device", "info", "sim:sim20", "--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["space"]["parameters"]) == 20


def test_the_version_is_that_which_records_name(workbench: Workbench) -> None:
    assert workbench("--version") == (0, f"isp-workbench {workbench_version()}\n", "")


def test_commands_draw_where_the_environment_names_a_window_system_that_is_not_here() -> None:
    """As a notebook does: the kernel's own backend of matplotlib is handed on to what its cells start."""
    code = (
        "import sys; from workbench import cli; sys.argv = ['workbench', '--version']\n"
        "try: cli.main()\nfinally: import workbench.draw.style"
    )
    environment = os.environ | {"MPLBACKEND": "of-another-environment"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_no_device_there(workbench: Workbench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"zmq://127.0.0.1:{free.getsockname()[1]}"
    assert url in error_line(workbench("device", "info", url, "--deadline", "0.3"))


@pytest.mark.parametrize("url", ["nothing:", "sim20", "sim:sim99", "zmq://", "zmq://nowhere"])
def test_bad_device_urls(workbench: Workbench, url: str) -> None:
    assert url in error_line(workbench("device", "info", url, "--deadline", "0.3"))


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    folder = tmp_path / "raws"
    folder.mkdir()
    for i in range(4):
        save_npz(folder / f"{i}.npz", picture(i)[0])
    return folder


COLLECT = ("collect", "--device", "sim:sim20", "--raws", "raws", "--captures", "4")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tone]\ngama = 1.0\n", "unknown parameter 'gama'"),
        ("[tone]\ngamma = 99.0\n", "parameter gamma: 99 is outside"),
        ("[tone]\ngamma = 'high'\n", "parameter gamma: 'high' is not a number"),
        ("gamma = \n", "not valid TOML"),
        ("[white_balance]\ngamma = 1.0\n", "gamma belongs in"),
    ],
)
def test_bad_parameter_files(workbench: Workbench, raws: Path, text: str, told: str) -> None:
    Path("bad.toml").write_text(text)
    line = error_line(workbench(*COLLECT, "--design", "around", "--around", "bad.toml"))
    assert "bad.toml: " in line
    assert told in line
    assert not Path("lab").exists()


def test_missing_parameter_file(workbench: Workbench, raws: Path) -> None:
    line = error_line(workbench(*COLLECT, "--design", "around", "--around", "none.toml"))
    assert "none.toml: cannot read the parameter file" in line


@pytest.mark.parametrize("content", [b"", b"no RAW at all", b"PK\x03\x04" + bytes(50), b"II*\x00" + bytes(80)])
@pytest.mark.parametrize("name", ["odd.npz", "odd.dng", "odd.nef"])
def test_unreadable_raw(workbench: Workbench, raws: Path, name: str, content: bytes) -> None:
    (raws / name).write_bytes(content)
    assert name in error_line(workbench(*COLLECT))


def test_wrong_sidecar(workbench: Workbench, raws: Path) -> None:
    (raws / "dump.raw").write_bytes(bytes(2 * 64 * 48))
    (raws / "dump.toml").write_text(
        'width = 64\nheight = 64\nbits = 12\ncontainer = "u16"\nendianness = "little"\n'
        'cfa = "RGGB"\nblack_level = 64\nwhite_level = 4095\n'
    )
    line = error_line(workbench(*COLLECT))
    assert "dump.raw" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("dataset", "info"),
        ("dataset", "verify"),
        ("fit-proxy",),
        ("train",),
        ("tune", "--device", "sim:sim20"),
        ("validate", "--device", "sim:sim20"),
        ("report",),
    ],
)
def test_missing_lab(workbench: Workbench, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "nowhere" in error_line(workbench(*arguments, "--lab", "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_predict_without_a_run(workbench: Workbench, raws: Path) -> None:
    assert "no finished train run" in error_line(workbench("predict", "raws/0.npz"))
    assert "none.npz" in error_line(workbench("predict", "none.npz"))


def test_damaged_weights(workbench: Workbench, raws: Path) -> None:
    from workbench.lab.runs import new_run

    run = new_run(Path("lab"), "train", "x")
    run.finish({})
    (run.path / "weights.safetensors").write_bytes(b"no weights")
    assert "not a weights file" in error_line(workbench("predict", "raws/0.npz"))


def test_a_device_that_the_lab_does_not_know(workbench: Workbench, tmp_path: Path) -> None:
    make_lab(tmp_path / "lab", captures=4)
    assert "no captures of other/1" in error_line(workbench("fit-proxy", "--identity", "other/1"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_exit_code_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"zmq://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "workbench.cli", "device", "info", url, "--deadline", "60"]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # The driver has connected, so the command waits for an answer that never comes.
            connection, _ = silent.accept()
            with connection:
                # As a person would: again, if a busy machine lost the first in the middle of connecting.
                for _ in range(30):
                    process.send_signal(signal.SIGINT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        out, err = process.communicate(timeout=2)
                        break
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
