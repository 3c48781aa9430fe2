from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drivers.protocol.zmq_keys import client_keys, device_keys
from workbench.commands import device
from workbench.commands.keys import app


def test_new_keys_serve_both_sides(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    result = CliRunner().invoke(app, ["new", str(folder)])
    assert result.exit_code == 0
    assert device_keys(folder).clients == {client_keys(folder).public: "bench"}
    assert client_keys(folder).secret.decode() not in result.output
    assert f"--keys {folder}" in result.output


def test_one_more_client(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["new", str(tmp_path)])
    result = CliRunner().invoke(app, ["new", str(tmp_path), "--name", "spare", "--json"])
    made = json.loads(result.output)["keys"]
    assert list(made) == ["spare"]
    assert sorted(device_keys(tmp_path).clients.values()) == ["bench", "spare"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size are POSIX's")
def test_what_could_not_be_written_whole_is_not_there(tmp_path: Path) -> None:
    """Else the same command, once there is room, would take the half of it for what is there already."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    asks = ((app, ["new", str(tmp_path / "keys")]), (device.app, ["new", str(tmp_path / "isp.py")]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        refused = [CliRunner().invoke(command, words) for command, words in asks]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all("cannot be written: File too large" in str(result.exception) for result in refused)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [CliRunner().invoke(command, words).exit_code for command, words in asks] == [0, 0]
