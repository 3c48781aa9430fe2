"""``workbench device settle``: how many frames a device needs until its output has settled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import DAY_S


def settle(
    url: Annotated[
        str, typer.Argument(metavar="DEVICE", help="URL, or a name of lab.toml, such as zmq://127.0.0.1:5555.")
    ],
    raw: Annotated[Path | None, typer.Option(help="RAW file to process; left out: a small test chart.")] = None,
    changes: Annotated[int, typer.Option(min=2, max=10_000, help="Changes to measure.")] = 6,
    frames: Annotated[int, typer.Option(min=1, max=100_000, help="Frames within which the device must settle.")] = 100,
    lab: Annotated[Path, typer.Option(help="Lab folder whose lab.toml names devices.")] = Path("lab"),
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, max=DAY_S, help="Seconds to wait for an answer.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the settle count: change parameters and RAW, count frames until the output stops changing.

    Nobody else may use the device meanwhile.
    """
    from drivers import device_urls
    from drivers.errors import DeviceError
    from drivers.frames import RawFrame
    from drivers.parameters import ParameterSet
    from drivers.protocol.protocol_device import ProtocolDevice
    from drivers.raw.raw_files import load_raw
    from workbench.check import settling
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.devices import open_devices

    with stoppable("nothing was kept"), open_devices([url], lab, deadline_s=deadline) as device:
        if device.info().live:
            raise DeviceError(
                f"{url}: a live device is given no RAW, so every output differs; measure it with stored RAWs"
            )
        if isinstance(device, ProtocolDevice):
            device.settle = 0
        frame = None if raw is None else load_raw(raw)
        with Progress("settle", 0, unit="frame") as progress:
            done = 0

            def process(shown: RawFrame, parameters: ParameterSet) -> str:
                nonlocal done
                output = device.process(shown, parameters).rgb.hash
                done += 1
                progress.update(done)
                return output

            try:
                measured = settling.measure(process, device.info().space, frame, changes=changes, limit=frames)
            except settling.UnsettledError as error:
                raise DeviceError(f"{url}: {error}") from error
        echo = device.info().echo
    use = device_urls.with_option(url, "settle", measured.count) if not echo or max(measured.frames) else url
    if as_json:
        facts = {"frames": measured.frames, "margin": measured.margin, "settle": measured.count, "echo": echo}
        print(json.dumps({"url": url, **facts, "use": use}))
        return
    print(f"frames until settled, by change: {', '.join(map(str, measured.frames))}")
    if use == url:
        print("settles at once and its frames prove their parameters: no settle count is needed")
        return
    print(f"settle count: {measured.count} (the most frames, {max(measured.frames)}, and {measured.margin} more)")
    print(f"use: {use}")
