"""``workbench export``: a trained predictor for the machine beside the device."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

DESCRIBED = "docs/how-to/beside-the-device.md"


def export(
    run: Annotated[str | None, typer.Argument(help="Name of the train run; the newest where left out.")] = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="The network and its description alone, without the modules that run them."),
    ] = False,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the RAWs that it is for; by default the lab's.")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Compute in 8 bits: smaller, and faster where the processor can."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="New folder to write; by default RUN-board, with --onnx RUN-onnx.")
    ] = None,
    lab: Annotated[Path, typer.Option(help="Lab folder with the runs.")] = Path("lab"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a predictor as a folder that needs ONNX Runtime and numpy alone, to run beside the device.

    It holds the network as ONNX, the rule that it is on top of, and the few modules that it stands on; with --onnx the
    modules are left out. It is run by itself and compared with the workbench on RAWs of the lab before it gets its
    name.
    """
    from workbench.errors import RunError

    try:
        from workbench.board import exporting
    except ModuleNotFoundError as error:
        raise RunError(f"{error.name} is not installed; run `pip install onnx onnxruntime`") from error

    asked = _size(size)
    made = exporting.export(lab, out, predictor=run, size=asked, int8=int8, onnx=onnx)
    if as_json:
        print(json.dumps({**asdict(made), "folder": str(made.folder)}))
        return
    print(f"{made.folder}: {made.run} for RAWs of {made.width}×{made.height} pixels, {made.size / 1e6:.2f} MB")
    for name, who in made.left_out.items():
        print(f"not set: {name} ({who}; your camera's loops set it)")
    if made.checked:
        rest = f", by {made.furthest} at most" if made.other else ""
        same = f"{made.other} of {made.parameters} codes are other than the workbench's{rest}"
        print(f"run {'here' if onnx else 'by itself'} on {made.checked} RAWs: {same}")
    else:
        print("not compared: the lab has no RAW of that size")
    if onnx:
        print(f"its inputs and outputs: {DESCRIBED}")
    else:
        print("there: pip install -r requirements.txt; python -m workbench.board.runtime RAW.npz")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        raise typer.BadParameter(f"--size {text!r}: give WIDTHxHEIGHT, such as 4096x3072")
    return int(parts[0]), int(parts[1])
