"""``workbench report``: one self-contained HTML file about a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    validation: Annotated[str | None, typer.Option(help="A validate run; by default the newest.")] = None,
    ablation: Annotated[str | None, typer.Option(help="An ablate run; by default the newest of that device.")] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Two validations (names, or paths of other labs' runs) to compare instead, RAW by RAW."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; by default report.html (report-compare.html) in the lab.")
    ] = None,
) -> None:
    """Write one HTML file with results, crops, curves, attention maps and studies; its tables go beside it as CSV."""
    from workbench.console.interrupt import stoppable
    from workbench.report import write_comparison, write_report

    if compare and (validation or ablation):
        raise typer.BadParameter("--compare names both runs; leave --validation and --ablation out")
    with stoppable("no report was written; run the same command again"):
        if compare:
            path = write_comparison(lab, *compare, out=out)
        else:
            path = write_report(lab, validation=validation, ablation=ablation, out=out)
    print(str(path))
