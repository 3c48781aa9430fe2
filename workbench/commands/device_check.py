"""``workbench device check``: try the protocol's requirements on a device."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import DAY_S


def check(
    url: Annotated[
        str, typer.Argument(metavar="DEVICE", help="URL, or a name of lab.toml, such as zmq://127.0.0.1:5555.")
    ],
    raw: Annotated[Path | None, typer.Option(help="RAW file to process; left out: a small test chart.")] = None,
    lab: Annotated[Path, typer.Option(help="Lab folder whose lab.toml names devices.")] = Path("lab"),
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, max=DAY_S, help="Seconds to wait for each answer.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try every requirement of drivers/protocol/PROTOCOL.md on a device: pass, fail or skipped, each with its section.

    Nobody else may use the device meanwhile. Its registers are put back as they were. Exit code 1 when a requirement is
    not met.
    """
    from drivers.errors import DeviceError, ProtocolError
    from drivers.protocol.protocol_device import ProtocolDevice
    from drivers.protocol.serial_device import open_stream, parse
    from drivers.raw.raw_files import load_raw
    from workbench.check import conformance, line_conformance
    from workbench.console.interrupt import stoppable
    from workbench.lab.devices import open_devices

    frame = None if raw is None else load_raw(raw)
    results = []

    alike: list[conformance.Result] = []

    def tell(result: conformance.Result) -> None:
        results.append(result)
        if as_json:
            return
        if alike and (result.outcome, result.reason) != (alike[0].outcome, alike[0].reason):
            tell_alike()
        alike.append(result)
        if result.outcome != "skipped":
            tell_alike()

    def tell_alike() -> None:
        """One line for requirements in a row that one reason skipped."""
        if alike:
            first, more = alike[0], f" and {len(alike) - 1} more" if alike[1:] else ""
            reason = f": {first.reason}" if first.reason else ""
            print(f"{first.outcome:7}  {first.section:6}  {first.title}{more}{reason}")
            alike.clear()

    with stoppable("the registers were put back as they were, if the device still answered") as stop:
        try:
            device = open_devices([url], lab, deadline_s=deadline)
        except ProtocolError as error:
            first, *others = conformance.requirements()
            tell(conformance.Result(first.title, first.section, "fail", str(error)))
            for requirement in others:
                tell(conformance.Result(requirement.title, requirement.section, "skipped", "there is no valid INFO"))
        else:
            with device:
                if not isinstance(device, ProtocolDevice):
                    raise DeviceError(
                        f"{url}: there is no link of the protocol to check; name one device by zmq:// or serial:, "
                        "without a second channel"
                    )
                many = device.url.startswith("zmq:")
                peer = conformance.Peer(device.open_link, deadline, frame, many_clients=many)
                try:
                    with contextlib.closing(conformance.check(peer)) as checking:
                        for result in checking:
                            tell(result)
                            stop.check()
                finally:
                    peer.close()
                if peer.restored is False:
                    print("warning: the device may hold other registers than before the check", file=sys.stderr)
            if device.url.startswith("serial:"):
                stream = open_stream(parse(device.url))
                try:
                    for result in line_conformance.check(line_conformance.Line(stream, deadline)):
                        tell(result)
                        stop.check()
                finally:
                    stream.close()
        tell_alike()
    counts = Counter(result.outcome for result in results)
    if as_json:
        rows = [{"title": r.title, "section": r.section, "outcome": r.outcome, "reason": r.reason} for r in results]
        print(json.dumps({"url": url, **{k: counts[k] for k in ("pass", "fail", "skipped")}, "requirements": rows}))
    else:
        print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skipped']} skipped")
    if counts["fail"]:
        raise DeviceError(f"{url}: {counts['fail']} of {len(results)} requirements are not met")
