"""CURVE keys of a ZeroMQ link: encryption, and proof of who is at either end.

A key folder holds pairs in ZeroMQ's own certificate format: ``NAME.key`` is public, ``NAME.key_secret`` is not. The
pair ``device`` is the device's, every other pair is a client's. The device needs its secret and the clients' public
keys, a client its secret and the device's public key; no secret has to leave the machine on which it was made.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

import zmq.auth

from drivers.errors import DeviceError
from drivers.regular_files import read_regular

DEVICE = "device"
BENCH = "bench"
_KEY_BYTES = 65536
_said: set[Path] = set()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class KeysError(DeviceError):
    """A key folder that lacks a key, or a key file that cannot be read or written."""


@dataclass(frozen=True)
class ClientKeys:
    """What a client needs: its own pair and the device's public key, each 40 characters of Z85."""

    public: bytes
    secret: bytes = field(repr=False)
    device: bytes = b""


@dataclass(frozen=True)
class DeviceKeys:
    """What a device needs: its own pair, and the names of the clients it takes by public key."""

    public: bytes
    secret: bytes = field(repr=False)
    clients: dict[bytes, str] = field(default_factory=dict)


def new_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair; gives the public and the secret file. The secret one is readable by its owner alone.

    Raises:
        KeysError: the pair is there already, the name is odd, or the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise KeysError(f"key name {name!r} is not 1..63 letters, digits, - or _")
    paths = folder / f"{name}.key", folder / f"{name}.key_secret"
    for path in paths:
        if path.exists():
            raise KeysError(
                f"{path}: is there already and is not replaced; delete it to make a new pair, or give a --name"
            )
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        zmq.auth.create_certificates(folder, name)
    except OSError as error:
        for path in paths:  # half of a pair would be taken for one that is there already
            with contextlib.suppress(OSError):
                path.unlink()
        raise KeysError(f"{folder}: the keys cannot be written: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return paths


def client_keys(folder: Path, name: str = BENCH) -> ClientKeys:
    """The keys of the client of that name.

    Raises:
        KeysError: a key is missing or cannot be read.
    """
    public, secret = _load(folder / f"{name}.key_secret")
    device, _ = _load(folder / f"{DEVICE}.key")
    if secret is None:
        raise KeysError(
            f"{folder / name}.key_secret: holds no secret key; make a pair with `workbench keys new {folder}`"
        )
    return ClientKeys(public, secret, device)


def device_keys(folder: Path) -> DeviceKeys:
    """The device's keys and the clients that it takes: every public key in the folder but its own.

    Raises:
        KeysError: a key is missing or cannot be read.
    """
    public, secret = _load(folder / f"{DEVICE}.key_secret")
    if secret is None:
        raise KeysError(
            f"{folder / DEVICE}.key_secret: holds no secret key; make a pair with `workbench keys new {folder}`"
        )
    clients = {_load(path)[0]: path.stem for path in sorted(folder.glob("*.key")) if path.stem != DEVICE}
    if not clients:
        raise KeysError(
            f"{folder}: holds no client's public key (NAME.key); make one with `workbench keys new {folder}`"
        )
    return DeviceKeys(public, secret, clients)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: what needs no encryption."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.removesuffix(".").lower() == "localhost"


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        read_regular(path, _KEY_BYTES)
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        missing = not path.is_file()
        what = "no such key" if missing else f"not a key file: {error}"
        raise KeysError(f"{path}: {what}; make keys with `workbench keys new {path.parent}`") from error
    if len(public) != 40 or (secret is not None and len(secret) != 40):
        raise KeysError(
            f"{path}: not a key file: keys have 40 characters; make keys with `workbench keys new {path.parent}`"
        )
    if secret is not None:
        _say_if_open(path)
    return public, secret


def _say_if_open(path: Path) -> None:
    """One line on stderr, once a file, where others can read a secret key. It is used all the same: some file systems
    (of Windows, seen from Linux) show every file as open and cannot do otherwise."""
    mode = path.stat().st_mode
    if os.name != "posix" or not mode & 0o077 or path.resolve() in _said:
        return
    _said.add(path.resolve())
    with contextlib.suppress(OSError):
        print(
            f"warning: {path}: others can read this secret key (mode {stat.S_IMODE(mode):04o}); `chmod 600 {path}`, "
            "and make a new pair if somebody may have",
            file=sys.stderr,
            flush=True,
        )
