"""The option that says who sets which parameter."""

from __future__ import annotations

from typing import Annotated

import typer

SettingOption = Annotated[
    str | None,
    typer.Option(
        metavar="3a|FILE.toml",
        help="Parameters that a rule sets for each RAW, or that are held: they are neither searched nor predicted. 3a: "
        "as-shot white balance, exposure gain by rule, black level held, as a camera's loops do; or a TOML file "
        "(docs/files.md).",
    ),
]
