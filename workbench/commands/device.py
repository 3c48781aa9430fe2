"""``workbench device``: find devices, look at one and its registers, set registers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivers.atomic_files import write_text
from drivers.foreign_text import shown
from workbench.commands.device_check import check
from workbench.commands.device_list import list_devices
from workbench.commands.device_new import new
from workbench.commands.device_settle import settle
from workbench.commands.device_share import share
from workbench.commands.limits import DAY_S

if TYPE_CHECKING:
    from drivers.parameters import Parameter, ParameterSpace
    from drivers.plain_pictures import PictureOutput
    from drivers.raw_input import RawInput

app = typer.Typer(help="Find devices, look at one and its registers, set them.", no_args_is_help=True)
app.command("list")(list_devices)
app.command()(settle)
app.command()(check)
app.command()(new)
app.command()(share)

Url = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE",
        help="URL (?deadline=SECONDS waits longer than --deadline), or a name of lab.toml, such as zmq://127.0.0.1:5555.",
    ),
]
Lab = Annotated[Path, typer.Option(help="Lab folder whose lab.toml names devices.")]
LAB = Path("lab")
Deadline = Annotated[float, typer.Option("--deadline", min=0.1, max=DAY_S, help="Seconds to wait for an answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
REGISTER_COLUMNS = ("name", "value", "unit", "code", "register")


@app.command()
def info(
    url: Url,
    lab: Lab = LAB,
    deadline: Deadline = 5.0,
    toml: Annotated[
        Path | None,
        typer.Option(help="Write its parameters with their defaults as TOML to edit, for --expert and --start."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Who the device is, and its parameters."""
    from workbench.errors import RunError
    from workbench.lab.devices import open_devices

    with open_devices([url], lab, deadline_s=deadline) as device:
        known = device.info()
    facts = {
        "url": url,
        "model": known.model,
        "firmware": known.firmware,
        "serial": known.serial,
        "boot_id": known.boot_id,
        "identity": known.identity,
        "max_in_flight": known.max_in_flight,
        "holds": known.holds,
        "echo": known.echo,
        "live": known.live,
        "input": _told(known.input),
        "output": _told(known.output),
    }
    if toml:
        text = known.space.to_toml(known.space.defaults, f"The defaults of {known.model}; edit the values")
        if toml.is_file() and toml.read_bytes() != text.encode():
            # Most likely the values that somebody has set by hand.
            raise RunError(f"{toml}: is there already with other text and is not replaced; choose another name")
        toml.parent.mkdir(parents=True, exist_ok=True)
        write_text(toml, text)
    if as_json:
        print(json.dumps({**facts, "space": known.space.to_dict()}))
        return
    for name, value in facts.items():
        print(f"{name:14} {_in_words(value) if isinstance(value, dict) else value}")
    rows: list[tuple[str, ...]] = [
        (
            p.name,
            p.block,
            p.kind,
            p.describe_range(),
            str(p.from_code(p.to_code(p.default))),
            _address(p),
            "; ".join([*(["not searched"] if not p.searched else []), *([f"exists where {p.when}"] if p.when else [])]),
        )
        for p in known.space.parameters
    ]
    columns: tuple[str, ...] = ("name", "block", "kind", "range", "default", "register", "note")
    if not any(row[-1] for row in rows):
        rows, columns = [row[:-1] for row in rows], columns[:-1]
    _table(f"{known.space.name}: {len(rows)} parameters", columns, rows)
    for line in _of_several(known.space):
        print(line)


@app.command()
def get(
    url: Url,
    bank: Annotated[
        str, typer.Option(help="Bank to read: active (in force) or shadow (for the next frame).")
    ] = "active",
    lab: Lab = LAB,
    deadline: Deadline = 5.0,
    as_json: AsJson = False,
) -> None:
    """Read the registers back."""
    from drivers.errors import DeviceError
    from drivers.registers import HasRegisters
    from workbench.lab.devices import open_devices

    if bank not in ("active", "shadow"):
        raise typer.BadParameter(f"{bank!r} is not active or shadow", param_hint="--bank")
    with open_devices([url], lab, deadline_s=deadline) as device:
        if not isinstance(device, HasRegisters):
            raise DeviceError(f"{url}: this device has no registers to read back; see `workbench device info {url}`")
        codes = device.read_registers("active" if bank == "active" else "shadow")
        space = device.info().space
    if as_json:
        values = {name: space[name].from_code(code) for name, code in codes.items()}
        print(json.dumps({"url": url, "bank": bank, "values": values, "codes": codes}))
        return
    rows = []
    for p in space.parameters:
        rows.append((p.name, str(p.from_code(codes[p.name])), p.unit, str(codes[p.name]), _address(p)))
    _table(f"{space.name}: {bank} registers", REGISTER_COLUMNS, rows)


@app.command("set")
def set_registers(
    url: Url,
    assignments: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="Native values, such as gamma=2.2.")],
    lab: Lab = LAB,
    deadline: Deadline = 5.0,
    as_json: AsJson = False,
) -> None:
    """Write registers, for the next frame; the others keep what they hold. Prints what was read back."""
    from drivers.errors import DeviceError
    from drivers.registers import HasRegisters
    from workbench.lab.devices import open_devices

    texts: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not (name and equals and text) or name in texts:
            problem = "is given twice" if name in texts else "is not NAME=VALUE"
            raise typer.BadParameter(f"{assignment!r} {problem}", param_hint="NAME=VALUE")
        texts[name] = text
    with open_devices([url], lab, deadline_s=deadline) as device:
        space = device.info().space
        values = {name: _native(space, name, text) for name, text in texts.items()}
        if not isinstance(device, HasRegisters):
            raise DeviceError(f"{url}: this device has no registers to write; see `workbench device info {url}`")
        back = device.write_registers(_changed(space, device.read_registers("shadow"), values))
    if as_json:
        read = {name: space[name].from_code(code) for name, code in back.items()}
        print(json.dumps({"url": url, "bank": "shadow", "values": read, "codes": back}))
        return
    rows = [
        (name, str(space[name].from_code(code)), space[name].unit, str(code), _address(space[name]))
        for name, code in back.items()
    ]
    _table(f"{space.name}: shadow registers", REGISTER_COLUMNS, rows)
    print("in force from the next frame on")


def _changed(space: ParameterSpace, held: dict[str, int], values: dict[str, Any]) -> dict[str, int]:
    """The codes to write beside what the device holds: those named, and what a change of choice sets to its default.

    Raises:
        ParameterError: one named has no effect, or they break a constraint with what the device holds.
    """
    from drivers.errors import ParameterError

    together = {**space.from_codes(held).values, **values}
    for p in space.parameters:
        if p.name in values and p.when is not None and not p.when.holds(together):
            raise ParameterError(
                f"parameter {p.name} has no effect: it exists only where {p.when}, and {p.when.parameter} is "
                f"{together[p.when.parameter]}; set {p.when.parameter}={p.when.values[0]} with it"
            )
    codes = space.parse(together).by_name
    return {name: code for name, code in codes.items() if name in values or code != held[name]}


def _of_several(space: ParameterSpace) -> list[str]:
    """What a device says of several parameters together, and the statistics that it tells."""
    lines = [f"constraint: {text}" for text in space.constraints]
    for v in space.vectors:
        at = f", at {'ISO ' if v.form == 'table' else ''}{' '.join(f'{place:g}' for place in v.at)}" if v.at else ""
        lines.append(f"{v.form} {v.name}: {' '.join(v.parameters)}{at}")
    for s in space.statistics:
        unit, about = f" ({s.unit})" if s.unit else "", f": {shown(s.description)}" if s.description else ""
        lines.append(f"statistic {s.name}{unit}{about}")
    return lines


def _native(space: ParameterSpace, name: str, text: str) -> object:
    """The text as the kind of its parameter; what it cannot be stays text, which the space refuses with its reason."""
    kind = space[name].kind if name in space.names else None
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in ("continuous", "integer"):
        with contextlib.suppress(ValueError):
            return float(text)
    return text


def _told(frames: RawInput | PictureOutput) -> dict[str, Any]:
    """All that a device's INFO means of frames, what it left out too."""
    return {f.name: getattr(frames, f.name) for f in dataclasses.fields(frames)}


def _in_words(told: dict[str, Any]) -> str:
    shown = {k: " ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in told.items() if v is not None}
    return "; ".join(f"{name} {value}" for name, value in shown.items())


def _address(parameter: Parameter) -> str:
    return "" if parameter.register is None else f"0x{parameter.register.address:04x}"


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    from workbench.console import terminal

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    terminal.console().print(table)
