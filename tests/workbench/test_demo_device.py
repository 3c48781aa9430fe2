"""The device of a demo ends with its demo."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from drivers.registry import open_device


def test_the_device_of_a_demo_that_was_killed_ends_too() -> None:
    program = (
        "from workbench.commands.demo_device import emulated_device\n"
        "with emulated_device() as url: print(url, flush=True), input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
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
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"serving" in process.stdout.readline()
        process.terminate() if end == "terminate" else process.stdin.close()
        process.wait(timeout=20)
        assert process.stderr.read() == b""
