"""Opens a device from its URL. The scheme names an entry point of the group ``isp_workbench.devices``."""

from __future__ import annotations

from importlib.metadata import entry_points

from drivers import device_urls
from drivers.device import DEFAULT_DEADLINE_S, Device
from drivers.errors import DeviceError

GROUP = "isp_workbench.devices"


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The device behind a URL such as ``zmq://127.0.0.1:5555``, ``sim:sim20`` or ``libraw:?deadline=120``.

    Args:
        url: scheme, colon, and whatever the driver needs. ``deadline=SECONDS`` after the question mark is for every
            driver: it takes the place of ``deadline_s``, and of a time limit that a recipe names.
        deadline_s: seconds that every call to the device may take.

    Raises:
        DeviceError: the URL has no scheme or no driver knows it.
        DeviceUnreachableError: nothing answers there.
    """
    bare, own_s = device_urls.take_deadline(url)
    scheme, colon, _ = bare.partition(":")
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not colon or scheme not in known:
        raise DeviceError(
            f"device URL {device_urls.hidden(url)!r}: no driver for it; known are "
            f"{', '.join(f'{n}:' for n in sorted(known))}"
        )
    device: Device = known[scheme].load()(bare, deadline_s if own_s is None else own_s)
    if own_s is not None:
        device.url, device.deadline_from_url = url, True
    return device
