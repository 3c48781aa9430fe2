from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from drivers.protocol.zmq_keys import client_keys, device_keys
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
