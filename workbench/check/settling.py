"""How many frames a device needs until its output has settled, after its parameters or the RAW changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.check.charts import chart, negative

CHANGES = 6
FRAMES = 100
QUIET = 12
"""Equal outputs in a row, at least, after which a device has settled."""

Process = Callable[[RawFrame, ParameterSet], str]
"""Processes one frame and gives the hash of the output."""


class UnsettledError(DeviceError):
    """A device whose output does not settle, or in which nothing can be seen."""


@dataclass(frozen=True)
class Settling:
    """What was measured.

    Attributes:
        frames: for each change, frames whose output was not yet the settled one.
        margin: added to the largest of them.
    """

    frames: tuple[int, ...]
    margin: int

    @property
    def count(self) -> int:
        """The settle count to use: frames to discard before the one that counts."""
        return max(self.frames) + self.margin


def measure(
    process: Process,
    space: ParameterSpace,
    raw: RawFrame | None = None,
    *,
    changes: int = CHANGES,
    limit: int = FRAMES,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Settling:
    """Change the parameters, later the RAW too, and count frames until the output stops changing.

    The same frame is processed ``limit`` times first, so that nothing of what was before is left.

    Args:
        process: the device, one frame at a time, nothing discarded.
        space: its parameters.
        raw: what it processes; None: a test chart. Its negative is the other RAW.
        changes: how many; at least 2.
        limit: frames after which a device that still changes never settles.
        seed: of the parameter sets.
        progress: told how many changes are done.

    Raises:
        UnsettledError: the output never settles, or nothing that was changed could be seen in it.
    """
    first = raw or chart("settling chart")
    other = negative(first, "settling chart, negative")
    sets = _sets(space, seed)
    frames: list[int] = []
    parameters = next(sets)
    before = [process(first, parameters) for _ in range(limit)][-1]
    shown = first
    for change in range(changes):
        # A new RAW shows at once; codes that come late show behind it only if they are waited for long enough, which
        # the changes of the parameters alone have told by then.
        if change >= changes // 2:
            shown = other if shown is first else first
        quiet = max(QUIET, 2 * max(frames, default=0))
        count, after = _settle(process, shown, next(sets), before, limit, quiet)
        if after != before:
            frames.append(count)
        before = after
        progress(change + 1)
    if not frames:
        raise UnsettledError(
            f"the output stayed the same over {changes} changes of the parameters, {limit} frames each; does the "
            "device process what it is sent, and does it take the registers?"
        )
    return Settling(tuple(frames), max(1, math.ceil(max(frames) / 4)))


def _settle(
    process: Process, raw: RawFrame, parameters: ParameterSet, before: str, limit: int, quiet: int
) -> tuple[int, str]:
    """Frames before the settled output, and its hash. What still is as ``before`` may not have begun to change."""
    outputs: list[str] = []
    settled = False
    while len(outputs) < limit + quiet and not (settled and outputs[-1] != before):
        outputs.append(process(raw, parameters))
        settled = len(outputs) >= quiet and len(set(outputs[-quiet:])) == 1
    if not settled:
        raise UnsettledError(f"the output still changed after {len(outputs)} frames: the device does not settle")
    last = outputs[-1]
    first = len(outputs)
    while first and outputs[first - 1] == last:
        first -= 1
    return first, last


def _sets(space: ParameterSpace, seed: int) -> Iterator[ParameterSet]:
    """Sets far from each other: every parameter goes from one half of its range to the other."""
    rng = np.random.default_rng(seed)
    half = 0
    while True:
        yield space.from_unit((half + rng.random(len(space))) / 2)
        half = 1 - half
