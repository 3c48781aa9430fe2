"""Collection with a live device: every capture brings its own RAW, of what is before the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from drivers.device import Capture, Device, Failure
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.collect import faults
from workbench.collect.bench import judged
from workbench.collect.campaign import PURPOSE, CampaignError, Design, points
from workbench.collect.failures import FailureTally, TooManyFailuresError, described
from workbench.collect.raw_folder import Split
from workbench.lab.dataset import Dataset, FailureRecord, NewRaw

BATCH = 16
BATCH_S = 0.5

Shot = tuple[RawFrame, Capture]


def plan(
    space: ParameterSpace,
    *,
    design: Design,
    captures: int,
    seed: int,
    around: Sequence[ParameterSet] = (),
    spread: float = 0.1,
) -> list[ParameterSet]:
    """The different parameter sets of a live campaign; arguments as of :func:`workbench.collect.campaign.plan`.

    Raises:
        CampaignError: the space has too few different parameter sets, or ``spread`` is out of range.
    """
    found = points(space, design, captures, seed, around, spread)
    sets = list({parameters.hash: parameters for parameters in map(space.from_unit, found)}.values())[:captures]
    if len(sets) < captures:
        raise CampaignError(
            f"{space.name} gives only {len(sets)} different parameter sets in this design, not {captures}; "
            "ask for fewer or widen --spread"
        )
    return sets


def remaining(dataset: Dataset, identity: str, scene: str, sets: Sequence[ParameterSet]) -> list[ParameterSet]:
    """The parameter sets that no capture of the scene has yet and that did not fail either."""
    done = _done(dataset, identity, scene) | _failed(dataset, identity, scene).keys()
    return [parameters for parameters in sets if parameters.hash not in done]


def tally_of(dataset: Dataset, identity: str, scene: str, sets: Sequence[ParameterSet]) -> FailureTally:
    """What became of a plan so far, in this run and in earlier ones."""
    done, failed = _done(dataset, identity, scene), _failed(dataset, identity, scene)
    tally = FailureTally()
    for parameters in sets:
        if parameters.hash in done:
            tally.made()
        elif (failure := failed.get(parameters.hash)) is not None:
            tally.add(failure.code, failure.reason, described(scene, parameters))
    return tally


def _done(dataset: Dataset, identity: str, scene: str) -> set[str]:
    raws = {raw.hash for raw in dataset.raws() if raw.scene == scene}
    captures = dataset.captures(device_identity=identity)
    return {capture.parameters_hash for capture in captures if capture.raw_hash in raws}


def _failed(dataset: Dataset, identity: str, scene: str) -> dict[str, FailureRecord]:
    failures = dataset.failures(device_identity=identity, purpose=_purpose(scene))
    return {failure.parameters_hash: failure for failure in failures}


def _purpose(scene: str) -> str:
    """What failures are kept under: a photograph that was refused has no RAW that would tell its scene."""
    return f"{PURPOSE} {scene}"


def run(
    dataset: Dataset,
    device: Device,
    sets: Sequence[ParameterSet],
    *,
    scene: str,
    split: Split,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Photograph with each set, and keep RAWs and captures; gives how many captures were made.

    A photograph that the device refuses, or whose output is no picture of its RAW, is kept as a failure, and the rest
    goes on. ``progress`` is told how many sets are done.

    Raises:
        TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
        DeviceError: the device failed; the message says how many captures of this run are kept.
        DatasetError: the scene is in another split, or nothing could be stored.
    """
    kept = done = 0
    tally = FailureTally()
    batch: list[Shot | Failure] = []

    def commit() -> None:
        nonlocal kept, done
        # Emptied first: a batch that could not be stored is not tried again on the way out.
        answers = list(batch)
        batch.clear()
        shots = [answer for answer in answers if not isinstance(answer, Failure)]
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        if shots:
            # A RAW without a capture, where the second fails, does no harm; a capture without its RAW cannot be.
            dataset.add_raws([NewRaw(raw, scene, split, _name(scene, capture)) for raw, capture in shots])
            dataset.add_captures(device.info(), [capture for _, capture in shots], purpose=PURPOSE)
            kept += len(shots)
        if failures:
            dataset.add_failures(device.info(), failures, purpose=_purpose(scene))
        for _ in shots:
            tally.made()
        for failure in failures:
            tally.add(failure.code, failure.reason, described(scene, failure.parameters))
        faults.count(asked=len(shots), failed=len(failures))
        done += len(answers)

    last = time.monotonic()
    try:
        try:
            for answer in device.capture_many(sets):
                batch.append(_judged(answer))
                if len(batch) >= BATCH or time.monotonic() - last >= BATCH_S:
                    commit()
                    last = time.monotonic()
                    progress(done)
                    tally.check(device.url)
        finally:
            commit()
        progress(done)
        tally.check(device.url)
    except DeviceError as error:
        stopped = isinstance(error, TooManyFailuresError) or done >= len(sets)
        raise type(error)(
            f"{error}; {kept} of the {len(sets)} captures to make are kept, the same command goes on"
            f"{'' if stopped else f' (it stopped at {described(scene, sets[done])})'}"
        ) from error
    return kept


def _judged(answer: Shot | Failure) -> Shot | Failure:
    if isinstance(answer, Failure):
        return answer
    raw, capture = answer
    result = judged(capture, raw.width, raw.height)
    # Its RAW is not kept, so the failure names none.
    return replace(result, raw_hash="") if isinstance(result, Failure) else (raw, capture)


def _name(scene: str, capture: Capture) -> str:
    return f"{scene}-{capture.boot_id[:8]}-{capture.frame:06d}"
