"""The commands of the workbench, one file each. Only the command that runs imports anything heavy."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add every command to the app."""
