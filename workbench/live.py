"""Collection with a live device: every capture brings its own RAW, of what is before the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from drivers.device import Capture, Device, Failure, FrameFailedError
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.campaign import PURPOSE, CampaignError, Design, points
from workbench.dataset import Dataset, NewRaw
from workbench.raw_folder import Split

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
    """The different parameter sets of a live campaign; the arguments are those of :func:`workbench.campaign.plan`.

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
    """The parameter sets that no capture of the scene has yet."""
    raws = {raw.hash for raw in dataset.raws() if raw.scene == scene}
    captures = dataset.captures(device_identity=identity)
    done = {capture.parameters_hash for capture in captures if capture.raw_hash in raws}
    return [parameters for parameters in sets if parameters.hash not in done]


def run(
    dataset: Dataset,
    device: Device,
    sets: Sequence[ParameterSet],
    *,
    scene: str,
    split: Split,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Photograph with each set, and keep RAWs and captures; ``progress`` is told how many are kept.

    Raises:
        DeviceError: the device failed; the message says how many captures of this run are kept.
        DatasetError: the scene is in another split, or nothing could be stored.
    """
    kept = 0
    batch: list[Shot] = []

    def commit() -> None:
        nonlocal kept
        # Emptied first: a batch that could not be stored is not tried again on the way out.
        shots = list(batch)
        batch.clear()
        if shots:
            # A RAW without a capture, where the second fails, does no harm; a capture without its RAW cannot be.
            dataset.add_raws([NewRaw(raw, scene, split, _name(scene, capture)) for raw, capture in shots])
            dataset.add_captures(device.info(), [capture for _, capture in shots], purpose=PURPOSE)
            kept += len(shots)

    last = time.monotonic()
    try:
        try:
            for shot in device.capture_many(sets):
                if isinstance(shot, Failure):
                    raise FrameFailedError.of(device.url, shot)
                batch.append(shot)
                if len(batch) >= BATCH or time.monotonic() - last >= BATCH_S:
                    commit()
                    last = time.monotonic()
                    progress(kept)
        finally:
            commit()
        progress(kept)
    except DeviceError as error:
        raise type(error)(
            f"{error}; {kept} of the {len(sets)} captures to make are kept, the same command goes on"
        ) from error


def _name(scene: str, capture: Capture) -> str:
    return f"{scene}-{capture.boot_id[:8]}-{capture.frame:06d}"
