"""Serves the emulated device over ZeroMQ: one ROUTER socket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers import device_urls
from drivers.agent.zmq_link import RouterLink
from drivers.errors import DeviceError
from drivers.protocol.zmq_keys import DeviceKeys, device_keys, is_loopback
from sim.firmware.faults import Faults
from sim.firmware.faults import load as load_faults
from sim.firmware.registers import Firmware, emulated
from sim.firmware.serving import serve_emulated


def serve(
    profile: str,
    endpoint: str = "127.0.0.1:5555",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    keys: Path | None = None,
    faults: Path | None = None,
    **device: Any,
) -> None:
    """Run the emulated device of a profile until Ctrl-C or SIGTERM. See :func:`serve_firmware`.

    Args:
        profile: of the emulated ISP.
        endpoint, ready, bind_any: as :func:`serve_firmware` takes them.
        keys: key folder; the link is encrypted then, and takes only the clients whose public keys lie there.
        faults: TOML file of what goes wrong.
        device: options of the device, see :func:`~sim.firmware.registers.emulated`.

    Raises:
        DeviceError: the endpoint is malformed, not loopback, or taken.
        FaultsError: the file is wrong.
    """
    plan = None if faults is None else load_faults(faults)
    pair = None if keys is None else device_keys(keys)
    serve_firmware(emulated(profile, **device), endpoint, ready, bind_any=bind_any, faults=plan, keys=pair)


def serve_firmware(
    firmware: Firmware,
    endpoint: str = "127.0.0.1:5555",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    stop: threading.Event | None = None,
    faults: Faults | None = None,
    keys: DeviceKeys | None = None,
) -> None:
    """Serve a firmware until Ctrl-C, SIGTERM or ``stop``; prints one line once it listens, and the faults at the end.

    Args:
        firmware: the device.
        endpoint: ``HOST:PORT``, with or without ``zmq://``; port 0 takes any free one.
        ready: called with the URL once the device listens.
        bind_any: allow an address that is not loopback without keys: no encryption and no authentication.
        stop: ends the loop when set.
        faults: what goes wrong.
        keys: encrypt the link, and take only these clients; who is refused is named on stdout.

    Raises:
        DeviceError: the endpoint is malformed, not loopback, or taken.
    """
    address = parse_endpoint(endpoint, bind_any=bind_any or keys is not None)
    serve_emulated(firmware, lambda: RouterLink(*address, firmware.max_payload, keys), ready, stop, faults)


def parse_endpoint(endpoint: str, *, bind_any: bool = False) -> tuple[str, int]:
    """Host and port of ``[zmq://]HOST:PORT``.

    Raises:
        DeviceError: malformed, or not loopback without ``bind_any``.
    """
    address = device_urls.listen_address(endpoint if "://" in endpoint else f"zmq://{endpoint}", ("zmq", "tcp"))
    if address is None:
        raise DeviceError(f"endpoint {endpoint!r} is not HOST:PORT, such as 127.0.0.1:5555")
    if not bind_any and not is_loopback(address[0]):
        raise DeviceError(
            f"endpoint {endpoint!r} is not loopback and the link has no encryption; give it --keys, add "
            "--bind-any if the network is yours, or listen on 127.0.0.1"
        )
    return address
