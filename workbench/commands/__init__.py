"""The commands of the workbench, one file each. Only the one that runs is imported; what is heavy it imports itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer

COMMANDS = {
    "demo": "Serve the emulated device, make scenes, collect, fit, train, tune, validate on the device, report.",
    "sim": "The emulated hardware: make scenes, serve the emulated device.",
    "device": "Find devices, look at one and its registers, set them.",
    "keys": "Keys for encrypted links to devices.",
    "collect": "Collect captures: each pairs one RAW (train or validation) with its own parameter set.",
    "dataset": "Look into the data set, verify, copy, export it, set captures aside.",
    "fit-proxy": "Fit the proxy network to the captures (equation 3), with a fidelity report.",
    "train": "Train the predictor through the frozen proxy with the task's loss (equation 4).",
    "refine": "Improve a rule, or a predictor on top of one, with captures of the device around its answers.",
    "tune": "Tune on the device, on the training RAWs only.",
    "choose": "Compare predictors on the validation RAWs, so that the test RAWs are seen by one of them alone.",
    "validate": "Push every method's parameters for each test RAW, capture, score, and compare.",
    "ablate": "Train variants of the predictor, a run a seed, and compare them on the device "
    "(table 3, figures 5 and 6).",
    "sweep": "Run the command lines of a file: seeds, baselines, ablations, sweeps; at once on a Ray cluster.",
    "predict": "Predict the parameters of one RAW, in native units.",
    "run": "Predict, push and capture frame after frame; the next frame is predicted while the device works.",
    "export": "Write a predictor as a folder that needs ONNX Runtime and numpy alone, to run beside the device.",
    "export-tuning": "Write what a run found as a tuning file: a fixed set, or a table over ISO.",
    "plan": "What an hour, a night and a week of captures buy: captures, disk, and the gain over industry to expect.",
    "report": "Write one HTML file with results, crops, curves, attention maps and studies; "
    "its tables go beside it as CSV.",
    "rerun": "Repeat a run from its record into a new run; exit code 1 where the figures do not agree.",
}
"""In the order in which they are used, with the first sentence of each one's help."""


def register(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Add the commands to the app.

    Args:
        app: to add them to.
        arguments: of the command line; a command that is not among them is added by name and line alone, since to
            import all takes as long as the rest of the start. None: all of them whole.
    """
    for name, line in COMMANDS.items():
        if arguments is not None and name not in arguments:
            app.command(name, help=line)(_named_alone)
            continue
        module = import_module(f"{__name__}.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name.replace("-", "_")))


def _named_alone() -> None:
    """Stands for a command that this command line does not name."""
