from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.protocol.zmq_keys import KeysError, client_keys, device_keys, new_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("device", "bench", "spare"):
        new_keys(tmp_path / "keys", name)
    return tmp_path / "keys"


def test_the_two_sides_know_each_other(folder: Path) -> None:
    device, bench, spare = device_keys(folder), client_keys(folder), client_keys(folder, "spare")
    assert bench.device == spare.device == device.public
    assert device.clients == {bench.public: "bench", spare.public: "spare"}
    assert len({device.secret, bench.secret, spare.secret}) == 3


def test_secrets_are_not_shown(folder: Path) -> None:
    device, bench = device_keys(folder), client_keys(folder)
    assert device.secret.decode() not in repr(device)
    assert bench.secret.decode() not in repr(bench)
    assert "key_secret" not in "".join(p.name for p in folder.glob("*.key"))
    for path in folder.glob("*.key"):
        assert bench.secret not in path.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_only_the_owner_reads_a_secret(folder: Path) -> None:
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.key_secret")} == {0}


def test_the_device_does_without_the_secrets_of_its_clients(folder: Path) -> None:
    (folder / "bench.key_secret").unlink()
    assert "bench" in device_keys(folder).clients.values()
    with pytest.raises(KeysError, match=r"bench\.key_secret: no such key; make keys with `workbench keys new"):
        client_keys(folder)


def test_a_pair_is_never_replaced(folder: Path) -> None:
    before = client_keys(folder)
    with pytest.raises(KeysError, match="is there already and is not replaced"):
        new_keys(folder, "bench")
    assert client_keys(folder) == before


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.key", "ä", "x" * 64])
def test_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysError, match=r"is not 1\.\.63 letters"):
        new_keys(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "metadata\n", 'curve\n    public-key = "short"\n', "\x00\xff"])
def test_a_file_that_is_no_key_is_one_clear_line(folder: Path, text: str) -> None:
    (folder / "device.key").write_text(text)
    with pytest.raises(KeysError, match=r"device\.key: not a key file"):
        client_keys(folder)


def test_a_folder_without_clients(tmp_path: Path) -> None:
    new_keys(tmp_path, "device")
    with pytest.raises(KeysError, match="holds no client's public key"):
        device_keys(tmp_path)
