"""Serves the emulated device over a link of the agent kit, with its faults before it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from drivers.agent.serving import ServerLink, serve_link
from sim.firmware.faults import Faults
from sim.firmware.registers import Firmware


def serve_emulated(
    firmware: Firmware,
    open_link: Callable[[], ServerLink],
    ready: Callable[[str], None] | None,
    stop: threading.Event | None,
    faults: Faults | None,
) -> None:
    """Serve a firmware until Ctrl-C, SIGTERM or ``stop``; prints one line once it listens, and the faults at the end.

    Args:
        firmware: the device.
        open_link: opens the link.
        ready: called with the URL once the device listens.
        stop: ends the loop when set.
        faults: what goes wrong; None: nothing, and frames are made while the link works.

    Raises:
        DeviceError: the link cannot be opened.
    """
    if faults is None:
        serve_link(firmware, open_link, ready, stop)
        return
    serve_link(firmware, open_link, ready, stop, partial(faults.answer, firmware))
    if faults.plan:
        print(faults.summary, flush=True)
