"""``workbench report``: one self-contained HTML file about a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    validation: Annotated[str | None, typer.Option(help="A validate run; by default the newest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file; by default report.html in the lab.")] = None,
) -> None:
    """Write one HTML file with the results, crops, curves and attention maps; the table goes beside it as CSV."""
    from workbench.interrupt import stoppable
    from workbench.report import write_report

    with stoppable("no report was written; run the same command again"):
        path = write_report(lab, validation=validation, out=out)
    typer.echo(str(path))
