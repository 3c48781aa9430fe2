"""Opens a device from its URL. The scheme names an entry point of the group ``isp_workbench.devices``."""

from __future__ import annotations

from importlib.metadata import entry_points

from drivers.device import DEFAULT_DEADLINE_S, Device
from drivers.errors import DeviceError

GROUP = "isp_workbench.devices"


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The device behind a URL such as ``zmq://127.0.0.1:5555``, ``sim:sim20`` or ``libraw:``.

    Args:
        url: scheme, colon, and whatever the driver needs.
        deadline_s: seconds that every call to the device may take.

    Raises:
        DeviceError: the URL has no scheme or no driver knows it.
        DeviceUnreachableError: nothing answers there.
    """
    scheme, colon, _ = url.partition(":")
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not colon or scheme not in known:
        raise DeviceError(
            f"device URL {url!r}: no driver for it; known are {', '.join(f'{n}:' for n in sorted(known))}"
        )
    return known[scheme].load()(url, deadline_s)
