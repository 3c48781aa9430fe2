"""Training material of the predictor for detection and segmentation: whole RAWs of any sizes with their objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from predictor.files import input_planes
from predictor.metadata import LENGTH
from predictor.raw_features import told_of
from predictor.training import Example
from predictor.view import View
from proxy.crops import concatenate, raw_batch
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.tasks.detectors import Target
from workbench.tasks.task import Starts
from workbench.tasks.viewing_data import light_varied
from workbench.tasks.vision import VisionTarget, VisionTask, as_batch, mirrored

LARGEST_PART = 4
"""RAWs that pass the proxy and the detector at once; a batch is made of such parts, each of one size."""
PART_PIXELS = 2**23
"""Pixels of these RAWs together, where one has no more."""


class VisionData:
    """Examples of a vision task: the target is a :class:`~workbench.tasks.vision.VisionTarget`.

    RAWs are read as they are needed, whole: what a detector finds depends on the whole picture. Training examples are
    mirrored left to right at random, and their light is varied as for the viewing task.

    Args:
        task: the task.
        training: RAWs of the training split with annotations; ``held_out``: of the validation split.
        vary: whether to vary the training examples.
        view: what the predictor sees, and is told.
        starts: on top of a rule: what it gives for each RAW.
    """

    def __init__(
        self,
        task: VisionTask,
        training: Sequence[RawRecord],
        held_out: Sequence[RawRecord],
        *,
        vary: bool = True,
        view: View = View(),  # noqa: B008 (frozen)
        starts: Starts | None = None,
    ) -> None:
        self._starts = starts
        self._task, self._training, self._vary, self._view = task, training, vary, view
        self._told_of: dict[str, Tensor] = {}
        self._held_out = sorted(held_out, key=_size)

    def __len__(self) -> int:
        return len(self._training)

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        """A random batch, in parts of one size and of ``LARGEST_PART`` RAWs at most."""
        chosen = [self._training[i] for i in torch.randint(len(self), (batch,), generator=generator).tolist()]
        return [self._example(part, generator if self._vary else None) for part in _parts(chosen)]

    def held_out(self) -> Iterator[Example]:
        """The validation split, as it is."""
        for part in _parts(self._held_out):
            yield self._example(part, None)

    @property
    def statistics(self) -> Tensor | None:
        """Of the training RAWs, ``float32 [R, S]``, where the predictor is told them; else None."""
        if not self._view.statistics:
            return None
        return torch.stack([self._told(raw, None)[LENGTH:] for raw in each("read RAWs", self._training)])

    def _told(self, raw: RawRecord, frame: RawFrame | None) -> Tensor:
        """What is told of a RAW; its statistics take a while on a large one, so they are kept."""
        if raw.hash not in self._told_of:
            told = told_of(frame or raw.load(), metadata=True, statistics=self._view.statistics)
            self._told_of[raw.hash] = torch.from_numpy(told)
        return self._told_of[raw.hash]

    def _target(self, raw: RawRecord) -> Target:
        # As it is needed: the masks of many large RAWs would not fit into memory together.
        return self._task.targets([raw])[raw.hash]

    def judged(self) -> tuple[Tensor, list[Target]]:
        """An image as a detector is given it, from the first RAW with an object, and its target.

        Raises:
            RunError: no training RAW has an object.
        """
        for raw in self._training:
            if len((target := self._target(raw)).boxes):
                planes = raw.load().planes()
                grey = torch.from_numpy(planes).clamp(0, 1).sqrt()[None]
                return torch.nn.functional.interpolate(grey, size=_size(raw), mode="bilinear"), [target]
        raise RunError(f"{self._task.data.path}: no training RAW shows an object; there is nothing to learn from")

    def _example(self, raws: Sequence[RawRecord], generator: torch.Generator | None) -> Example:
        frames = [raw.load() for raw in raws]
        planes = torch.stack([input_planes(frame, self._view) for frame in frames])
        metadata = torch.stack([self._told(raw, frame) for raw, frame in zip(raws, frames, strict=True)])
        batch = concatenate([raw_batch(frame) for frame in frames])
        objects = [self._target(raw) for raw in raws]
        reference = None
        if self._task.viewing_weight:
            reference = torch.cat([as_batch(_reference(raw, frame)) for raw, frame in zip(raws, frames, strict=True)])
        if generator is not None:
            if self._starts is None:  # what a rule gives would not follow another light
                planes, metadata, batch = light_varied(planes, metadata, batch, generator)
            if torch.rand(1, generator=generator) < 0.5:
                planes, batch = planes.flip(3), batch.mirrored(3)
                objects = [mirrored(target, frames[0].width) for target in objects]
                reference = None if reference is None else reference.flip(3)
        start = None if self._starts is None else torch.stack([self._starts[raw.hash] for raw in raws])
        return Example(planes, metadata, batch, VisionTarget(objects, reference), start)


def _size(raw: RawRecord) -> tuple[int, int]:
    return raw.height, raw.width


def _parts(raws: Iterable[RawRecord]) -> Iterator[list[RawRecord]]:
    by_size: dict[tuple[int, int], list[RawRecord]] = {}
    for raw in raws:
        by_size.setdefault(_size(raw), []).append(raw)
    for same in by_size.values():
        most = min(LARGEST_PART, max(PART_PIXELS // (same[0].height * same[0].width), 1))
        for start in range(0, len(same), most):
            yield same[start : start + most]


def _reference(raw: RawRecord, frame: RawFrame) -> np.ndarray:
    found = raw.reference()
    if found is None or found.shape[:2] != (frame.height, frame.width):
        raise RunError(f"{raw.name}: has no reference of its own size, which a viewing weight needs")
    return found
