"""What a validation is going to ask of a device, told before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.device import DeviceInfo
from workbench.judge.blocks import wanted
from workbench.judge.methods import Method, ValidationSettings, baseline_of, headline_method
from workbench.lab.dataset import Dataset, RawRecord
from workbench.tasks.task import Task

_TIMED_ON = 1000


def forecast(
    dataset: Dataset,
    info: DeviceInfo,
    task: Task,
    raws: Sequence[RawRecord],
    methods: Sequence[Method],
    settings: ValidationSettings,
) -> str:
    """How many captures are asked for at most, how long the device needs and what makes it cheaper, in one line.

    The time is that of the frames which the data set has of this device (their median); without any none is told.
    Empty where all is there already.
    """
    keys = {(raw.hash, p.hash) for m in methods for raw, p in zip(raws, m.sets, strict=True)}
    parts = {
        f"{len(methods)} method{'s' * (len(methods) != 1)}": len(keys) - len(dataset.find(info.identity, sorted(keys)))
    }
    if settings.oracle_captures:
        parts["the per-image oracle"] = settings.oracle_captures * len(raws)
    if wanted(settings, task) and headline_method(methods) and baseline_of([m.kind for m in methods]):
        pairs = 2 if settings.oracle_captures else 1
        parts["the gain by block"] = 2 * pairs * len(info.space.blocks) * len(raws)
    if not (total := sum(parts.values())):
        return ""
    told = ", ".join(f"{count:,} of {what}" for what, count in parts.items() if count)
    line = f"up to {total:,} captures of {info.model} are to be asked for ({told})"
    known = [c.device_s for c in dataset.captures(device_identity=info.identity)[-_TIMED_ON:]]
    if known and (frame := float(np.median(known))) > 0:
        line += f", about {_in_words(total * frame)} at {1000 * frame:.3g} ms a frame"
    cheaper = ["--test-raws N"]
    if settings.oracle_captures:
        cheaper.insert(0, "--oracle-captures 0")
    return f"{line}; {' or '.join(cheaper)} makes it cheaper"


def _in_words(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
