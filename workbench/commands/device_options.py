"""The options of the commands that ask a device for frames."""

from __future__ import annotations

from typing import Annotated

import typer

DevicesOption = Annotated[
    list[str],
    typer.Option(
        help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20, with ?deadline=SECONDS where a frame takes "
        "more than 30 s; several make a pool of equal boards."
    ),
]
PoolToleranceOption = Annotated[
    int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
]
