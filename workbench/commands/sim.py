"""``workbench sim``: the emulated hardware (scenes and device)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.sim_coco import coco
from workbench.commands.sim_composed import composed
from workbench.commands.sim_scenes import scenes
from workbench.commands.sim_serve import serve

app = typer.Typer(help="The emulated hardware: make scenes, serve the emulated device.", no_args_is_help=True)
app.command()(scenes)
app.command()(composed)
app.command()(coco)
app.command()(serve)


@app.command()
def expert(
    profile: Annotated[str, typer.Argument(help="Profile of the emulated ISP: sim20, sim32 or sim60.")],
    out: Annotated[Path, typer.Argument(help="TOML file to write.")],
) -> None:
    """Write the profile's hand-set parameters as TOML, to start from or to compare with."""
    from drivers.atomic_files import write_text
    from sim import profiles

    space = profiles.space(profile)
    write_text(out, space.to_toml(profiles.expert(profile), "Set by hand by an expert"))
    print(str(out))
