"""``workbench device``: look at a device and its registers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

app = typer.Typer(help="Look at a device and its registers.", no_args_is_help=True)

Url = Annotated[str, typer.Argument(metavar="URL", help="The device, such as zmq://127.0.0.1:5555 or sim:sim20.")]
Deadline = Annotated[float, typer.Option("--deadline", min=0.1, help="Seconds to wait for an answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def info(url: Url, deadline: Deadline = 5.0, as_json: AsJson = False) -> None:
    """Who the device is, and its parameters."""
    from drivers.registry import open_device

    with open_device(url, deadline) as device:
        known = device.info()
    facts = {
        "url": url,
        "model": known.model,
        "firmware": known.firmware,
        "serial": known.serial,
        "boot_id": known.boot_id,
        "identity": known.identity,
        "max_in_flight": known.max_in_flight,
    }
    if as_json:
        print(json.dumps({**facts, "space": known.space.to_dict()}))
        return
    for name, value in facts.items():
        print(f"{name:14} {value}")
    rows = [
        (
            p.name,
            p.block,
            p.kind,
            p.describe_range(),
            str(p.from_code(p.to_code(p.default))),
            "" if p.register_ is None else f"0x{p.register_.address:04x}",
        )
        for p in known.space.parameters
    ]
    _table(
        f"{known.space.name}: {len(rows)} parameters", ("name", "block", "kind", "range", "default", "register"), rows
    )


@app.command()
def get(
    url: Url,
    bank: Annotated[
        str, typer.Option(help="Bank to read: active (in force) or shadow (for the next frame).")
    ] = "active",
    deadline: Deadline = 5.0,
    as_json: AsJson = False,
) -> None:
    """Read the registers back."""
    from drivers.errors import DeviceError
    from drivers.registry import open_device

    if bank not in ("active", "shadow"):
        raise typer.BadParameter(f"{bank!r} is not active or shadow", param_hint="--bank")
    with open_device(url, deadline) as device:
        read = getattr(device, "read_registers", None)
        if read is None:
            raise DeviceError(f"{url}: this device has no registers to read back; see `workbench device info {url}`")
        codes = read(bank)
        space = device.info().space
    if as_json:
        values = {name: space[name].from_code(code) for name, code in codes.items()}
        print(json.dumps({"url": url, "bank": bank, "values": values, "codes": codes}))
        return
    rows = []
    for p in space.parameters:
        address = "" if p.register_ is None else f"0x{p.register_.address:04x}"
        rows.append((p.name, str(p.from_code(codes[p.name])), p.unit, str(codes[p.name]), address))
    _table(f"{space.name}: {bank} registers", ("name", "value", "unit", "code", "register"), rows)


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
