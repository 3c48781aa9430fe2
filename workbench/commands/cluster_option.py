"""The option that says on which cluster runs are made."""

from __future__ import annotations

from typing import Annotated

import typer

ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="At once on this Ray cluster: auto (the one of this host), local, or ray://HOST:PORT; every host sees "
        "this folder and the lab under the same path.",
    ),
]
