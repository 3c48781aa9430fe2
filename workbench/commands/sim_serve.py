"""``workbench sim serve``: the emulated device as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    profile: Annotated[str, typer.Option(help="Profile of the emulated ISP: sim20 or sim32.")] = "sim20",
    zmq: Annotated[
        str, typer.Option("--zmq", metavar="HOST:PORT", help="Where to listen; port 0 takes any free one.")
    ] = "127.0.0.1:5555",
    bind_any: Annotated[
        bool, typer.Option("--bind-any", help="Listen beyond this machine. The link has no encryption.")
    ] = False,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML of faults on order (docs/faults.example.toml).")
    ] = None,
    frame_ms: Annotated[float, typer.Option(min=0, help="Milliseconds that a frame takes at least.")] = 0.0,
) -> None:
    """Serve the emulated device over ZeroMQ until Ctrl-C."""
    from sim.zmq_server import serve as serve_zmq

    serve_zmq(profile, zmq, bind_any=bind_any, faults=faults, frame_ms=frame_ms)
