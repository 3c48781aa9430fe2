"""``workbench device share``: a device of this host for benches on others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import DAY_S


def share(
    url: Annotated[
        str, typer.Argument(metavar="DEVICE", help="URL, or a name of lab.toml, such as serial:/dev/ttyUSB0.")
    ],
    zmq: Annotated[
        str, typer.Option("--zmq", metavar="HOST:PORT", help="Where to listen; port 0 takes any free one.")
    ] = "127.0.0.1:5556",
    keys: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Encrypt the link with this key folder (workbench keys new).")
    ] = None,
    bind_any: Annotated[
        bool, typer.Option("--bind-any", help="Listen beyond this machine without keys: no encryption.")
    ] = False,
    lab: Annotated[Path, typer.Option(help="Lab folder whose lab.toml names devices.")] = Path("lab"),
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, max=DAY_S, help="Seconds to wait for the device.")
    ] = 30.0,
) -> None:
    """Give a device of this host to benches on others, as zmq://HOST:PORT, until Ctrl-C.

    Nobody else may use it meanwhile. Model, firmware, serial number and parameters are the device's, so its captures
    are the same over the share.
    """
    import threading
    from urllib.parse import urlencode

    from drivers.agent.listening import open_link
    from drivers.agent.serving import serve_link
    from drivers.agent.sharing import SharedDevice
    from workbench.lab.devices import open_devices

    options = {"keys": str(keys)} if keys else {"plain": "1"} if bind_any else {}
    address = f"zmq://{zmq}" + (f"?{urlencode(options, errors='surrogateescape')}" if options else "")
    stop = threading.Event()
    with open_devices([url], lab, deadline_s=deadline) as device:
        shared = SharedDevice(device, stop)
        serve_link(shared, lambda: open_link(address, shared.max_payload), stop=stop)
