"""``workbench device list``: serial ports, drivers, and whether devices can be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.limits import DAY_S

FACTS = ("model", "firmware", "serial", "boot_id")


def list_devices(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL…]", help="Devices to reach, besides those of lab.toml.")
    ] = None,
    lab: Annotated[Path, typer.Option(help="Lab folder whose lab.toml names devices.")] = Path("lab"),
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, max=DAY_S, help="Seconds to wait for each device.")
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Serial ports, drivers, and whether devices can be reached.

    Devices of the lab are those in lab.toml in its folder, under [devices] as NAME = "URL". There, [network] plain =
    ["HOST"] lists hosts on a network of your own, which are reached without encryption. Also shown: devices of any
    host that is at work on the lab's data set, or was within a day.
    """
    from importlib.metadata import entry_points

    from drivers.foreign_text import shown
    from drivers.registry import GROUP
    from workbench.lab import trust
    from workbench.lab.lab_config import load_lab_config

    config = load_lab_config(lab)
    ports = _serial_ports()
    drivers = {entry.name: entry.value for entry in sorted(entry_points(group=GROUP))}
    wanted = dict.fromkeys([*config.devices, *(urls or ())])
    found = {name: config.url(name, lab) for name in wanted}
    # A lab's folder may be anybody's: its programs are not started by looking at what is there.
    programs = {name: url for name, url in found.items() if name in config.devices and trust.runs_code(url)}
    reached = {d["name"]: d for d in _reach({n: u for n, u in found.items() if n not in programs}, deadline)}
    not_started = _unreachable("a program, which a list does not start; `workbench device info` does")
    devices = [reached.get(name, {"name": name, "url": url, **not_started}) for name, url in found.items()]
    workers = _workers(lab)
    if as_json:
        print(json.dumps({"serial_ports": ports, "drivers": drivers, "devices": devices, "workers": workers}))
        return
    _print(ports, drivers, devices)
    for worker in workers:
        since = f"{worker['ended_s']:.0f} s ago" if worker["ended_s"] > 0 else f"at {worker['claims']} captures"
        print(f"at work on {shown(worker['host'])}: {shown(worker['url'])}, {shown(worker['purpose'])}, {since}")
    if not devices:
        print(f"no devices asked for: give URLs, or name them in {lab / 'lab.toml'}")


def _workers(lab: Path) -> list[dict[str, Any]]:
    """Boards of every host that holds claims on the lab's data set, or lately held some."""
    from dataclasses import asdict

    from workbench.lab.dataset.claims import workers
    from workbench.lab.dataset.storage import database_of

    database = database_of(lab)
    try:
        return [asdict(worker) for worker in workers(database)] if database.exists() else []
    finally:
        database.engine.dispose()


def _serial_ports() -> list[dict[str, str]] | None:
    """The serial ports of this machine; None without pyserial."""
    try:
        from serial.tools import list_ports
    except ImportError:
        return None
    return [
        {"port": p.device, "description": p.description or "", "hardware": p.hwid or ""}
        for p in sorted(list_ports.comports())
    ]


def _reach(devices: dict[str, str], deadline_s: float) -> list[dict[str, Any]]:
    """Ask all devices at once who they are; one that is silent a second after the deadline counts as gone."""
    import threading
    import time

    found: dict[str, dict[str, Any]] = {}

    def ask(name: str, url: str) -> None:
        found[name] = _ask(url, deadline_s)

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in devices.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline_s + 1
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    silent = _unreachable(f"no answer in {deadline_s:g} s")
    return [{"name": name, "url": url, **found.get(name, silent)} for name, url in devices.items()]


def _ask(url: str, deadline_s: float) -> dict[str, Any]:
    from drivers.errors import WorkbenchError
    from drivers.registry import open_device
    from workbench.console import last_resort

    try:
        with open_device(url, deadline_s) as device:
            known = device.info()
    except (WorkbenchError, OSError) as error:
        return _unreachable(str(error).removeprefix(f"{url}: "))
    except Exception as error:  # in a thread of its own, where nobody else would tell it
        return _unreachable(last_resort.told(error))
    return {"reachable": True, "reason": None, **{fact: getattr(known, fact) for fact in FACTS}}


def _unreachable(reason: str) -> dict[str, Any]:
    return {"reachable": False, "reason": reason, **dict.fromkeys(FACTS)}


def _print(ports: list[dict[str, str]] | None, drivers: dict[str, str], devices: list[dict[str, Any]]) -> None:
    if ports is None:
        print("serial ports: not known, pyserial is not installed")
    else:
        print(f"serial ports: {len(ports) or 'none'}")
        for port in ports:
            print(f"  {port['port']}  {port['description']}  {port['hardware']}")
    print("drivers:")
    for scheme, module in drivers.items():
        print(f"  {scheme + ':':12} {module}")
    if devices:
        print("devices:")
    for device in devices:
        name = device["name"] if device["name"] == device["url"] else f"{device['name']} ({device['url']})"
        if device["reachable"]:
            serial = f"serial {device['serial']}, " if device["serial"] else ""
            print(f"  {name}  {device['model']}, firmware {device['firmware']}, {serial}boot {device['boot_id']}")
        else:
            print(f"  {name}  not reachable: {device['reason']}")
