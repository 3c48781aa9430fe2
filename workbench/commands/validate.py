"""``workbench validate``: the device has the last word on whether prediction beats a fixed setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.limits import MANY, SEED
from workbench.commands.task_options import AnnotationsOption, DetectorOption, TaskName, TaskOption, vision_task


def validate(
    device: Annotated[
        list[str],
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20, with ?deadline=SECONDS where a frame takes "
            "more than 30 s; several make a pool of equal boards."
        ),
    ],
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    predictor: Annotated[
        list[str] | None,
        typer.Option(help="A train run, may be repeated; by default the newest with and without metadata."),
    ] = None,
    fixed: Annotated[
        str | None, typer.Option(help="Tune run of the best fixed set; by default the newest by CMA-ES or TPE.")
    ] = None,
    industry: Annotated[
        str | None, typer.Option(help="Tune run of the industry's table; by default the newest.")
    ] = None,
    tune: Annotated[
        list[str] | None, typer.Option(help="A further tune run of any rule and method to compare, may be repeated.")
    ] = None,
    proxy: Annotated[str | None, typer.Option(help="fit-proxy run; by default the predictor's own.")] = None,
    expert: Annotated[
        Path | None,
        typer.Option(help="TOML of a hand-set parameter set; `device info DEVICE --toml FILE` writes one to edit."),
    ] = None,
    test_raws: Annotated[
        int, typer.Option(min=0, max=MANY, help="How many test RAWs, spread over the scenes; 0: all.")
    ] = 0,
    oracle_captures: Annotated[
        int | None,
        typer.Option(
            min=0, max=MANY, help="Captures of the per-image oracle for each RAW, 200 by default; 0 leaves it out."
        ),
    ] = None,
    task: TaskOption = TaskName.viewing,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the oracle and of the bootstrap.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
) -> None:
    """Push every method's parameters for each test RAW, capture, score, and compare.

    Rows of the table: "mean of predictions" is one set for all RAWs, the mean of what that predictor predicts for them:
    what the prediction gains over it comes from looking at each RAW. "predicted, declining" takes the best fixed set
    for RAWs that lie farther from the training RAWs than 99 % of the validation RAWs do. docs/words.md has the others.
    """
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.judge.compared_methods import ValidationSettings
    from workbench.judge.validation import validate_run
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices

    judge = vision_task(task, detector, annotations)
    if judge and oracle_captures:
        raise typer.BadParameter("--oracle-captures is for --task viewing: mAP judges no single image")
    settings = ValidationSettings(
        tuple(predictor or ()),
        fixed,
        industry,
        proxy,
        expert,
        test_raws,
        200 if oracle_captures is None else oracle_captures,
        seed,
        judge.key if judge else "viewing",
        tuple(tune or ()),
    )
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Dataset.open(lab) as dataset,
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
        Progress("validate", 0, unit="capture") as progress,
    ):

        def show(phase: str, done: int, total: int) -> None:
            progress.total = total
            progress.update(done, note=phase)

        if judge:
            from workbench.judge.vision_validation import validate_vision_run

            run, results = validate_vision_run(lab, dataset, opened, settings, judge, name=name, progress=show)
        else:
            run, results = validate_run(lab, dataset, opened, settings, name=name, progress=show)
    if as_json:
        print(json.dumps({"run": run.name, **results}))
        return
    if judge:
        print_vision(results)
    else:
        print_results(results)
    for line in failure_lines(results):
        print(line)
    if judge:
        print(str(run.path / "report.html"))
        return
    print(str(run.path / "results.json"))


def print_results(results: dict[str, Any]) -> None:
    """The table and the headline figures, for people."""
    from rich.table import Table

    from workbench.console import terminal

    console = terminal.console()
    table = Table(
        title=f"{results['raws']} test RAWs of {results['scenes']} scenes on {results['device']['model']}, "
        "outputs of the device"
    )
    table.add_column("method")
    for title in ("PSNR (dB)", "SSIM", "over best fixed (dB)", "captures"):
        table.add_column(title, justify="right", no_wrap=True)
    for m in results["methods"]:
        captures = (
            "" if m["captures"] is None else f"{m['captures']}{'*' if m['fewer_captures_than_collection'] else ''}"
        )
        gain = m["psnr_gain_over_fixed"]
        table.add_row(
            m["label"],
            f"{m['psnr']:.2f}",
            f"{m['ssim']:.3f}",
            (interval_text(gain) if gain else ""),
            captures,
        )
    console.print(table)
    for line in headline_lines(results):
        console.print(line, soft_wrap=True)


def print_vision(results: dict[str, Any]) -> None:
    """The table of a vision task, for people."""
    from rich.table import Table

    from workbench.console import terminal
    from workbench.judge.vision_page import COLUMNS

    console = terminal.console()
    table = Table(
        title=f"{results['task']}: {results['raws']} test RAWs of {results['scenes']} scenes with "
        f"{results['objects']} objects on {results['device']['model']}, outputs of the device, {results['detector']}"
    )
    table.add_column("method")
    for title in (*(title for _, title in COLUMNS), "captures"):
        table.add_column(title, justify="right", no_wrap=True)
    for m in results["methods"]:
        captures = "" if m["captures"] is None else str(m["captures"])
        table.add_row(m["label"], *(f"{m[key]['estimate']:.3f}" for key, _ in COLUMNS), captures)
    console.print(table)
    for line in vision_lines(results):
        console.print(line, soft_wrap=True)


def vision_lines(results: dict[str, Any]) -> list[str]:
    """What each method gains over the best fixed set, one line each, and the notes."""
    from workbench.judge.vision_page import GAINS, over_industry

    lines = []
    gains = {m["label"]: gain for m in results["methods"] if (gain := m["gain_over_fixed"])}
    if gains:
        lines.append("over the best fixed set, 95 % intervals by scene in brackets (loss: how far it is below):")
    for label, gain in gains.items():
        told = (f"{what} {interval_text(gain[key], form='+.3f')}: {gain[key]['verdict']}" for key, what in GAINS)
        lines.append(f"  {label}: {'; '.join(told)}")
    return [*lines, *(f"  {line}" for line in over_industry(results)), *(f"note: {note}" for note in results["notes"])]


def interval_text(interval: dict[str, Any], scale: float = 1.0, form: str = "+.2f", unit: str = "") -> str:
    """An interval for people: ``+1.50 [+1.00, +2.00]``."""
    if interval["estimate"] is None:
        return "not defined"
    text = f"{interval['estimate'] * scale:{form}}{unit}"
    if interval["low"] is None:
        return f"{text} [no interval]"
    return f"{text} [{interval['low'] * scale:{form}}, {interval['high'] * scale:{form}}]"


def headline_lines(results: dict[str, Any]) -> list[str]:
    """The headline figures, one line each."""
    lines = []
    head, oracle, proxy = results["headline"], results["oracle"], results["proxy"]
    if head:
        for key, label in (
            ("gain_over_fixed", "over the best fixed set"),
            ("gain_over_industry", "over industry"),
            ("gain_over_expert", "over the expert"),
        ):
            if gain := head[key]:
                lines.append(f"  {label}: {interval_text(gain)} dB: {gain['verdict']}")
        if gap := head["gap_closed"]:
            lines.append(f"  gap to the per-image oracle closed: {interval_text(gap, 100, '.0f')} %")
        if head["worse_than_fixed_share"] is not None:
            lines.append(
                f"  {head['worse_than_fixed_share']:.0%} of RAWs worse than with the best fixed set; "
                f"5th percentile {head['fifth_percentile_gain']:+.2f} dB"
            )
        if lines:
            lines.insert(0, f"{head['predictor'].partition(':')[2]}, 95 % intervals by scene in brackets:")
    for row in results.get("declining") or ():
        lines.append(
            f"{row['predictor'].partition(':')[2]} declines {row['declined_share']:.0%} of RAWs: worse than the best "
            f"fixed set {row['worse_share_declining']:.1%} instead of {row['worse_share']:.1%}; 5th percentile "
            f"{row['fifth_percentile_gain_declining']:+.2f} instead of {row['fifth_percentile_gain']:+.2f} dB"
        )
    if oracle:
        lines.append(
            f"oracle: {oracle['captures_per_raw']} captures a RAW, the last quarter of them gained "
            f"{oracle['last_quarter_gain']:.2f} dB"
        )
    if proxy:
        lines.append(
            f"proxy (run {proxy['run']}): {proxy['psnr_to_device']:.2f} dB to the device's output at the predicted "
            f"parameters; promised {proxy['promised']:.2f} dB, the device gave {proxy['given']:.2f} dB"
        )
    return lines + [f"* {note}" if "not the same budget" in note else f"note: {note}" for note in results["notes"]]
