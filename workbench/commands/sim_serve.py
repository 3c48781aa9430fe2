"""``workbench sim serve``: the emulated device as a process of its own."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.limits import DAY_S


def serve(
    profile: Annotated[str, typer.Option(help="Profile of the emulated ISP: sim20, sim32 or sim60.")] = "sim20",
    zmq: Annotated[
        str, typer.Option("--zmq", metavar="HOST:PORT", help="Where to listen; port 0 takes any free one.")
    ] = "127.0.0.1:5555",
    serial: Annotated[
        str | None,
        typer.Option(
            "--serial",
            metavar="LINE",
            help="Listen on a serial line instead: pty, pty:PATH (found at PATH) or socket://HOST:PORT.",
        ),
    ] = None,
    pixels: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With --serial: pixels go through this folder, not over the line."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Encrypt the link with this key folder (workbench keys new).")
    ] = None,
    bind_any: Annotated[
        bool, typer.Option("--bind-any", help="Listen beyond this machine without keys: no encryption.")
    ] = False,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML of faults on order (docs/faults.example.toml).")
    ] = None,
    frame_ms: Annotated[
        float, typer.Option(min=0, max=1000 * DAY_S, help="Milliseconds that a frame takes at least.")
    ] = 0.0,
    echo: Annotated[bool, typer.Option("--echo/--no-echo", help="Frames name the codes in force.")] = True,
    latch_frames: Annotated[int, typer.Option(min=0, max=1000, help="Frames that codes come into force late.")] = 0,
    temporal_filter: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of the output before in each output.")
    ] = 0.0,
    live: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Photograph these RAWs in turn, taking none; lab: generated scenes."),
    ] = None,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End with the program that started it, however that ends.")
    ] = False,
) -> None:
    """Serve the emulated device over ZeroMQ, or on a serial line, until Ctrl-C."""
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    device: dict[str, Any] = {
        "faults": faults,
        "frame_ms": frame_ms,
        "echo": echo,
        "latch_frames": latch_frames,
        "temporal_filter": temporal_filter,
        "live": live,
    }
    if serial is not None:
        if keys is not None:
            raise typer.BadParameter("a serial line has no encryption; leave --keys out", param_hint="--keys")
        from sim.firmware.serial_server import serve as serve_serial

        serve_serial(
            profile,
            serial,
            bind_any=bind_any,
            pixels=pixels,
            **device,
        )
        return
    if pixels is not None:
        raise typer.BadParameter("a folder for pixels needs a serial line; add --serial", param_hint="--pixels")
    from sim.firmware.zmq_server import serve as serve_zmq

    serve_zmq(
        profile,
        zmq,
        bind_any=bind_any,
        keys=keys,
        **device,
    )


def _end_with_stdin() -> None:
    # Not through sys.stdin, whose lock the interpreter wants when it ends first.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # An emulated device has nothing to lose, and the main thread may be waiting in ZeroMQ.
    os._exit(0)
