"""Serves the emulated device on a serial line: a pseudo terminal (POSIX), or a TCP port for ``socket://``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers import device_urls
from drivers.agent.serial_lines import Line, TcpLine, pty_line
from drivers.agent.serial_link import open_serial
from drivers.errors import DeviceError
from drivers.protocol.zmq_keys import is_loopback
from sim.firmware.faults import Faults
from sim.firmware.faults import load as load_faults
from sim.firmware.registers import Firmware, emulated
from sim.firmware.serving import serve_emulated


def serve(
    profile: str,
    where: str = "pty",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    faults: Path | None = None,
    pixels: Path | None = None,
    **device: Any,
) -> None:
    """Run the emulated device of a profile until Ctrl-C or SIGTERM. See :func:`serve_firmware`.

    Args:
        profile: of the emulated ISP.
        where, ready, bind_any, pixels: as :func:`serve_firmware` takes them.
        faults: TOML file of what goes wrong.
        device: options of the device, see :func:`~sim.firmware.registers.emulated`.

    Raises:
        DeviceError: ``where`` is malformed or taken, or this system has no pseudo terminals.
        FaultsError: the file is wrong.
    """
    plan = None if faults is None else load_faults(faults)
    serve_firmware(emulated(profile, **device), where, ready, bind_any=bind_any, faults=plan, pixels=pixels)


def serve_firmware(
    firmware: Firmware,
    where: str = "pty",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    stop: threading.Event | None = None,
    faults: Faults | None = None,
    pixels: Path | None = None,
) -> None:
    """Serve a firmware until Ctrl-C, SIGTERM or ``stop``; prints one line once it can be reached.

    Args:
        firmware: the device.
        where: ``pty``, a new pseudo terminal; ``pty:PATH``, one that is found at PATH; ``socket://HOST:PORT``, a TCP
            port, 0 for any free one.
        ready: called with the device's URL.
        bind_any: allow a TCP address that is not loopback: no encryption and no authentication.
        stop: ends the loop when set.
        faults: what goes wrong.
        pixels: folder that the client sees too: payloads go through it, not over the line.

    Raises:
        DeviceError: ``where`` is malformed or taken, there is no such folder, or this system has no pseudo terminals.
    """
    serve_emulated(
        firmware,
        lambda: open_serial(lambda: open_line(where, bind_any), firmware.max_payload, pixels),
        ready,
        stop,
        faults,
    )


def open_line(where: str, bind_any: bool) -> Line:
    """The line that ``where`` names.

    Raises:
        DeviceError: it is malformed or taken, not loopback without ``bind_any``, or not to be had on this system.
    """
    if (line := pty_line(where)) is not None:
        return line
    address = device_urls.listen_address(where, ("socket",))
    if address is None:
        raise DeviceError(f"serial line {where!r} is not pty, pty:PATH or socket://HOST:PORT")
    if not bind_any and not is_loopback(address[0]):
        raise DeviceError(
            f"serial line {where!r} is not loopback and has no encryption; add --bind-any if the network is yours"
        )
    return TcpLine(*address)
