"""Opens a device from its URL. The scheme names an entry point of the group ``isp_workbench.devices``."""

from __future__ import annotations

from importlib.metadata import entry_points

from drivers import device_urls
from drivers.device import DEFAULT_DEADLINE_S, Device
from drivers.errors import DeviceError
from drivers.foreign_driver import ForeignDriver

GROUP = "isp_workbench.devices"
_OWN = ("drivers", "sim")


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The device behind a URL such as ``zmq://127.0.0.1:5555``, ``sim:sim20`` or ``libraw:?deadline=120``.

    Args:
        url: scheme, colon, and whatever the driver needs. ``deadline=SECONDS`` after the question mark is for every
            driver: it takes the place of ``deadline_s``, and of a time limit that a recipe names.
        deadline_s: seconds that every call to the device may take.

    Raises:
        DeviceError: the URL has no scheme or no driver knows it, or another package's driver fails.
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
    entry, wait_s = known[scheme], deadline_s if own_s is None else own_s
    device: Device
    if entry.module.partition(".")[0] in _OWN:
        device = entry.load()(bare, wait_s)
    else:
        device = ForeignDriver(lambda: entry.load()(bare, wait_s), bare)
    if own_s is not None:
        device.url, device.deadline_from_url = url, True
    return device
