"""``workbench export-tuning``: what a run found as a tuning file of the vendor's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import MANY


def export_tuning(
    run: Annotated[str, typer.Argument(help="Name of a tune or a train run.")],
    template: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.j2",
            help="c-header, ini, json, libcamera-rpi or libcamera-rkisp1, or a Jinja2 template of yours.",
        ),
    ] = "json",
    iso: Annotated[
        float | None,
        typer.Option(min=1, max=MANY, help="Of a table over ISO the set nearest to it alone.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; left out, it is printed.", show_default=False)
    ] = None,
    lab: Annotated[Path, typer.Option(help="Lab folder with the runs.")] = Path("lab"),
) -> None:
    """Write what a run found as a tuning file: a fixed set, or a table over ISO.

    Of a regression or a predictor the table has what they choose on the mean for the lab's training RAWs near each knot
    of ISO. What a template is given: docs/how-to/tuning-file.md.
    """
    from drivers.atomic_files import write_text
    from workbench.board import tuning_file
    from workbench.console.notes import say

    tuning = tuning_file.tuning_of(lab, run)
    if iso is not None:
        tuning = tuning_file.at_iso(tuning, iso)
    text = tuning_file.render(tuning, template)
    if out is None:
        print(text, end="")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    say([f"{name} is left out: {why}; your camera's loops set it" for name, why in tuning.left_out.items()])
    if raws := sum(one.raws or 0 for one in tuning.sets):
        told = f"the sets are means of what {tuning.run} chooses for {raws} training RAWs"
        say([f"{told}: what of it follows the single RAW stays behind"])
    if out is not None:
        print(out)
