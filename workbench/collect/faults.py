"""What a device did wrong and was mended: counted by run and unit, told in one line, kept in the data set."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from drivers.device import Device
from drivers.errors import WorkbenchError
from drivers.foreign_text import shown
from workbench.collect.failures import percent
from workbench.collect.output_kinds import OutputKinds
from workbench.lab.dataset import Dataset, DeviceUse
from workbench.lab.dataset.rows import now

Counts = dict[str, dict[str, int]]
"""How often what happened, by the serial (or URL) of each unit; a unit of which nothing is to be told is not in it."""

# One and several of each of the drivers' kinds, see :attr:`drivers.protocol.protocol_device.ProtocolDevice.counts`.
_WORDS = {
    "refused": ("answer refused (wrong hash or damaged)", "answers refused (wrong hash or damaged)"),
    "garbage": ("message that does not decode", "messages that do not decode"),
    "stale": ("answer that came late", "answers that came late"),
    "busy": ("time busy", "times busy"),
    "reconnects": ("reconnection", "reconnections"),
    "reboots": ("reboot", "reboots"),
    "resent": ("request sent again", "requests sent again"),
    "overlong": ("message without an end", "messages without an end"),
    "unsettled": ("sequence of frames begun again", "sequences of frames begun again"),
}


class Faults:
    """What was mended since this object was made.

    Attributes:
        asked, reused, failed: captures made, jobs answered from the data set, and frames that failed, since then.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._before = _counts(device)
        self.asked = self.reused = self.failed = 0

    def counts(self) -> Counts:
        """How often what happened."""
        found: Counts = {}
        for unit, counts in _counts(self._device).items():
            before = self._before.get(unit, {})
            new = {kind: n - before.get(kind, 0) for kind, n in counts.items() if n > before.get(kind, 0)}
            if new:
                found[unit] = new
        return found


def _counts(device: Device) -> Counts:
    return {unit: dict(counts) for unit, counts in device.counts_by_unit().items()}


def told(faults: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each unit that did something wrong."""
    lines = []
    for unit, counts in faults.items():
        parts = []
        for kind, count in counts.items():
            one, several = _WORDS.get(kind, (kind, kind))
            parts.append(f"{count} {one if count == 1 else several}")
        lines.append(f"device {shown(unit)}: {', '.join(parts)}; what was lost was asked again")
    return lines


def failure_lines(results: Mapping[str, Any]) -> list[str]:
    """What a run's results say of frames that failed and of faults that were mended, a line each; often none."""
    lines = []
    if results.get("failed"):
        reasons: Mapping[str, int] = results.get("failures_by_reason") or {}
        most = f", most often {next(iter(reasons))}" if reasons else ""
        trials = results.get("failed_trials")
        trial = f", {trials} of the sets tried rank last for it" if trials else ""
        lines.append(f"{results['failed']} frames failed ({percent(results['failed_share'])}){trial}{most}")
    for name, reason in (results.get("raws_left_out") or {}).items() if "failed_trials" in results else ():
        lines.append(f"RAW {shown(name)} is left out of the judgement: {reason}")
    return [*lines, *told(results.get("faults") or {})]


_current: list[Faults] = []


def count(*, asked: int = 0, reused: int = 0, failed: int = 0) -> None:
    """Count what was asked of the device of the innermost :func:`faults_kept` block; outside of one, nothing."""
    if _current:
        _current[-1].asked += asked
        _current[-1].reused += reused
        _current[-1].failed += failed


@contextlib.contextmanager
def faults_kept(dataset: Dataset, device: Device, purpose: str) -> Iterator[Faults]:
    """Count what is mended within the block, and keep it in the data set, however the block ends.

    A device whose outputs are of another kind than before is told of (:mod:`workbench.collect.output_kinds`). Where the
    block ends early the lines of :func:`told` go to stderr; else whoever opened it tells them.
    """
    faults, begun, kinds = Faults(device), now(), OutputKinds(dataset, device)
    _current.append(faults)
    try:
        yield faults
    except BaseException:
        # What ended the block is what the user has to hear of: nothing here may take its place.
        with contextlib.suppress(WorkbenchError, OSError):
            for line in told(faults.counts()):
                print(line, file=sys.stderr, flush=True)
            _keep(dataset, device, purpose, faults, begun)
        raise
    finally:
        _current.remove(faults)
    kinds.tell_new(faults.asked)
    _keep(dataset, device, purpose, faults, begun)


def _keep(dataset: Dataset, device: Device, purpose: str, faults: Faults, begun: str) -> None:
    counts = faults.counts()
    if not (faults.asked or faults.failed or counts):
        return  # nothing was asked, so nothing is written: a data set that may only be read is enough
    info = device.info()
    dataset.add_device_use(
        DeviceUse(
            info.identity,
            device.url,
            info.serial,
            purpose,
            begun,
            now(),
            faults.asked,
            faults.reused,
            faults.failed,
            counts,
        )
    )
