"""``workbench sim``: the emulated hardware (scenes and device)."""

from __future__ import annotations

import typer

from workbench.commands.sim_scenes import scenes
from workbench.commands.sim_serve import serve

app = typer.Typer(help="The emulated hardware: make scenes, serve the emulated device.", no_args_is_help=True)
app.command()(scenes)
app.command()(serve)
