"""``workbench keys``: keys that encrypt the link to a device and prove who is at either end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Keys for encrypted links to devices.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys for encrypted links to devices."""


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Key folder; made if missing.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="Whose pair: `device`, or a client; may be given several times. Default: device and bench."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make key pairs for ZeroMQ's CURVE: NAME.key is public, NAME.key_secret stays on its machine."""
    from drivers.protocol.zmq_keys import BENCH, DEVICE, new_keys

    made = {who: new_keys(folder, who) for who in name or (DEVICE, BENCH)}
    if as_json:
        files = {who: {"public": str(public), "secret": str(secret)} for who, (public, secret) in made.items()}
        print(json.dumps({"folder": str(folder), "keys": files}))
        return
    for who, (public, secret) in made.items():
        print(f"{who}: {public} (public), {secret} (secret: it stays where {who} runs)")
    print(
        f"device: workbench sim serve --zmq HOST:PORT --keys {folder}    (needs device.key_secret, the clients' *.key)"
    )
    print(f"bench:  --device 'zmq://HOST:PORT?keys={folder}'    (needs bench.key_secret, device.key)")
