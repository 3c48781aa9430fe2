"""What every comparison on a device records of its task, its device and its RAWs."""

from __future__ import annotations

from typing import TypedDict

from drivers.device import DeviceInfo
from workbench.judge.measuring import Measured
from workbench.judge.pairing import LeftOut
from workbench.judge.results import DeviceUsed
from workbench.lab.run_record import RunDevice
from workbench.tasks.task import Metric


class Header(TypedDict):
    """Fields of :class:`workbench.judge.results.Compared`."""

    task: str
    task_key: str
    detector: str | None
    metrics: list[Metric]
    device: DeviceUsed
    raws: int
    scenes: int
    raws_left_out: int
    left_out: list[LeftOut]


def header(measured: Measured, info: DeviceInfo) -> Header:
    """Of what was measured on a device."""
    task = measured.task
    return Header(
        task=task.name,
        task_key=task.key,
        detector=task.detector_name,
        metrics=list(task.metrics),
        device=DeviceUsed(**RunDevice.of(info).model_dump()),
        raws=len(measured.raws),
        scenes=len(set(measured.scenes)),
        raws_left_out=measured.pairing.asked - len(measured.raws),
        left_out=measured.pairing.left_out,
    )
