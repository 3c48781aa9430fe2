"""Campaigns with a live device: every capture brings its own RAW, of what is before the device."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from drivers.device import Capture, Device, Failure
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from workbench.collect import faults
from workbench.collect.campaign import PURPOSE, Campaign, different_pairs
from workbench.collect.designs import CampaignError, Design, points
from workbench.collect.failures import FailureTally, described
from workbench.collect.keeping import Outcome, judged, kept
from workbench.lab.dataset import Dataset, NewRaw

BATCH = 16
"""Photographs in a commit: each comes with its RAW."""

Shot = tuple[RawFrame, Capture]


class LiveCampaign(Campaign[ParameterSet]):
    """A live device: it photographs what is before it with each set, and every capture brings its own RAW.

    Args:
        dataset, device: as of :class:`Campaign`.
        sets: see :func:`plan_live`.
        scene: what is before the device; ``split``: of that scene.
    """

    def __init__(
        self, dataset: Dataset, device: Device, sets: Sequence[ParameterSet], *, scene: str, split: Split
    ) -> None:
        super().__init__(dataset, device, sets)
        self.scene = scene
        self.split = split
        # A photograph that was refused has no RAW that would tell its scene.
        self._failed_purpose = f"{PURPOSE} {scene}"

    def known(self) -> Iterator[Outcome | None]:
        """See :meth:`Campaign.known`."""
        raws = {raw.hash for raw in self.dataset.raws() if raw.scene == self.scene}
        captures = {
            capture.parameters_hash: capture
            for capture in self.dataset.each_capture()
            if capture.device_identity == self.identity and capture.raw_hash in raws
        }
        failures = {
            failure.parameters_hash: failure
            for failure in self.dataset.failures(device_identity=self.identity, purpose=self._failed_purpose)
        }
        return (captures.get(p.hash) or failures.get(p.hash) for p in self.jobs)

    def outcomes(self, jobs: Sequence[ParameterSet]) -> Generator[Outcome, None, None]:
        """See :meth:`Campaign.outcomes`.

        Raises:
            DatasetError: the scene is in another split, or nothing could be stored.
        """
        tally = FailureTally()
        ready: deque[Outcome] = deque()

        def keep(answers: list[Shot | Failure]) -> tuple[list[Shot | Failure], list[Outcome]]:
            return answers, self._kept(answers)

        def take(result: tuple[list[Shot | Failure], list[Outcome]]) -> None:
            answers, outcomes = result
            ready.extend(outcomes)
            failures = [answer for answer in answers if isinstance(answer, Failure)]
            for _ in range(len(answers) - len(failures)):
                tally.made()
            for failure in failures:
                tally.add(failure.code, failure.reason, self.described(failure.parameters))
            faults.count(asked=len(answers) - len(failures), failed=len(failures))

        def drained() -> Iterator[Outcome]:
            while ready:
                yield ready.popleft()

        answers = self.device.capture_many(jobs)
        yield from kept(
            self.device.url,
            answers,
            _as_it_came,
            judge=_judged,
            keep=keep,
            take=take,
            ready=drained,
            tally=tally,
            batch=BATCH,
        )

    def described(self, job: ParameterSet) -> str:
        """See :meth:`Campaign.described`."""
        return described(self.scene, job)

    def raws(self) -> int:
        """See :meth:`Campaign.raws`."""
        return sum(raw.scene == self.scene for raw in self.dataset.raws())

    def _kept(self, answers: list[Shot | Failure]) -> list[Outcome]:
        """The records of answers, in their order."""
        shots = [answer for answer in answers if not isinstance(answer, Failure)]
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        info = self.device.info()
        # A RAW without a capture, where the second fails, does no harm; a capture without its RAW cannot be.
        if shots:
            self.dataset.add_raws([NewRaw(raw, self.scene, self.split, self._name(c)) for raw, c in shots])
        captured = iter(self.dataset.add_captures(info, [capture for _, capture in shots], purpose=PURPOSE))
        failed = iter(self.dataset.add_failures(info, failures, purpose=self._failed_purpose))
        return [next(failed) if isinstance(answer, Failure) else next(captured) for answer in answers]

    def _name(self, capture: Capture) -> str:
        return f"{self.scene}-{capture.boot_id[:8]}-{capture.frame:06d}"


def _as_it_came(answer: Shot | Failure) -> Shot | Failure:
    return answer


def _judged(answer: Shot | Failure) -> Shot | Failure:
    if isinstance(answer, Failure):
        return answer
    raw, capture = answer
    result = judged(capture, raw.width, raw.height)
    # Its RAW is not kept, so the failure names none.
    return replace(result, raw_hash="") if isinstance(result, Failure) else (raw, capture)


def plan_live(
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
    units = points(space, design, captures, seed, around, spread)
    sets = [parameters for _, parameters in different_pairs(space, units, itertools.repeat(""), str, captures)]
    if len(sets) < captures:
        raise CampaignError(
            f"{space.name} gives only {len(sets)} different parameter sets in this design, not {captures}; "
            "ask for fewer or widen --spread"
        )
    return sets
