"""A campaign: a planned list of captures that can stop anywhere and go on; of stored RAWs here, live beside it.

The plan is a function of the parameter space, the RAWs, the design, the count and the seed alone. What is done is
read from the data set, so nothing about a campaign has to be remembered elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from drivers.device import Device
from drivers.errors import DeviceError
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.collect import faults
from workbench.collect.bench import Bench
from workbench.collect.designs import CampaignError, Design, points
from workbench.collect.failures import SHARE, FailureTally, TooManyFailuresError, described
from workbench.collect.keeping import Outcome
from workbench.console.progress import Progress
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord

PURPOSE = "collect"
PAGE = 2048
"""Jobs that are looked up at once."""
Job = tuple[RawRecord, ParameterSet]
J = TypeVar("J")
Source = TypeVar("Source")


@dataclass(frozen=True)
class CollectResult:
    """What a campaign came to.

    Attributes:
        lab: the lab folder; ``device_url`` and ``device``: URL and identity of what made the captures.
        planned: captures of the whole plan.
        known: of those, how many the data set had (or had failures for) before.
        new, new_failed: captures made now, and frames that were asked now and came to nothing.
        tally: what became of the plan so far, in this run and in earlier ones.
        raws: RAWs of the folder, or of the live scene.
        digest: of the data set afterwards.
        faults: what the device did wrong now and was mended, by unit.
        notes: what was worth telling of the RAWs that were read, a line each.
    """

    lab: Path
    device_url: str
    device: str
    planned: int
    known: int
    new: int
    new_failed: int
    tally: FailureTally
    raws: int
    digest: str
    faults: faults.Counts
    notes: tuple[str, ...] = ()

    @property
    def captured(self) -> int:
        """Captures of the plan that are in the data set."""
        return self.tally.asked - self.tally.failed

    @property
    def failed(self) -> int:
        """Captures of the plan that came to nothing."""
        return self.tally.failed

    def failures_told(self) -> str:
        """How many failed, why, and what to do about it, in one line."""
        retry = f"`workbench dataset retry --lab {self.lab}`"
        return f"{self.tally.told('captures')}; {retry} lets the same command try them again"

    def check(self) -> None:
        """See that not too much of the plan failed.

        Raises:
            TooManyFailuresError: more than half did.
        """
        if self.tally.failed > SHARE * self.tally.asked:
            raise TooManyFailuresError(f"{self.device_url}: {self.failures_told()}")

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``workbench collect --json`` prints it."""
        return {
            "lab": str(self.lab),
            "raws": self.raws,
            "captures": self.captured,
            "new": self.new,
            "device": self.device,
            "digest": self.digest,
            **self.tally.to_dict(),
            "new_failed": self.new_failed,
            "faults": self.faults,
        }


class Campaign(ABC, Generic[J]):
    """A source of jobs and what becomes of each; :func:`run` does what is left of them.

    Attributes:
        dataset: where captures and failures are kept.
        device: what makes them.
        jobs: the plan, in order.
    """

    def __init__(self, dataset: Dataset, device: Device, jobs: Sequence[J]) -> None:
        self.dataset = dataset
        self.device = device
        self.identity = device.info().identity
        self.jobs = jobs

    @abstractmethod
    def known(self) -> Iterator[Outcome | None]:
        """What became of each job, in this run and in earlier ones; None where it was not asked yet."""

    @abstractmethod
    def outcomes(self, jobs: Sequence[J]) -> Iterator[Outcome]:
        """Ask the device for jobs and give what they came to, once it is committed.

        In order, but what other processes are at comes when these have made it.

        Raises:
            TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
            DeviceError: the device failed.
            DatasetError: the captures could not be stored.
        """

    @abstractmethod
    def described(self, job: J) -> str:
        """The job in one line."""

    @abstractmethod
    def raws(self) -> int:
        """How many RAWs it is about."""

    def remaining(self) -> list[J]:
        """The jobs that were not asked yet: neither captured nor failed."""
        return [job for job, outcome in zip(self.jobs, self.known(), strict=True) if outcome is None]

    def tally(self) -> FailureTally:
        """What became of the plan so far."""
        tally = FailureTally()
        for job, outcome in zip(self.jobs, self.known(), strict=True):
            if isinstance(outcome, FailureRecord):
                tally.add(outcome.code, outcome.reason, self.described(job))
            elif outcome is not None:
                tally.made()
        return tally


def run(campaign: Campaign[J]) -> CollectResult:
    """Make what is left of a campaign, with progress on stderr. A frame that fails is kept as a failure.

    Raises:
        TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
        DeviceError: the device failed; the message says how many captures of this run are kept.
        DatasetError: the captures could not be stored.
    """
    todo = campaign.remaining()
    known, done, failed = len(campaign.jobs) - len(todo), 0, 0
    with faults.faults_kept(campaign.dataset, campaign.device, PURPOSE) as mended:
        if todo:
            with Progress("collect", len(campaign.jobs), unit="capture", done=known) as progress:
                try:
                    for done, outcome in enumerate(campaign.outcomes(todo), 1):
                        failed += isinstance(outcome, FailureRecord)
                        progress.update(known + done)
                except DeviceError as error:
                    over = isinstance(error, TooManyFailuresError) or done >= len(todo)
                    raise type(error)(
                        f"{error}; {done - failed} of the {len(todo)} captures to make are kept, the same command "
                        f"goes on{'' if over else f' (it stopped at {campaign.described(todo[done])})'}"
                    ) from error
        counts = mended.counts()
    return CollectResult(
        lab=campaign.dataset.lab,
        device_url=campaign.device.url,
        device=campaign.identity,
        planned=len(campaign.jobs),
        known=known,
        new=mended.asked,
        new_failed=mended.failed,
        tally=campaign.tally(),
        raws=campaign.raws(),
        digest=campaign.dataset.digest(),
        faults=counts,
    )


class StoredCampaign(Campaign[Job]):
    """Stored RAWs, each with parameter sets of its own, through a bench.

    Args:
        bench: of data set and device.
        jobs: see :func:`plan`.
        raws: RAWs of the folder that it collects with; by default those of the jobs.
    """

    def __init__(self, bench: Bench, jobs: Sequence[Job], raws: int | None = None) -> None:
        super().__init__(bench.dataset, bench.device, jobs)
        self._bench = bench
        self._raws = raws

    def known(self) -> Iterator[Outcome | None]:
        """See :meth:`Campaign.known`; a page of them in memory at a time."""
        for start in range(0, len(self.jobs), PAGE):
            keys = [(raw.hash, parameters.hash) for raw, parameters in self.jobs[start : start + PAGE]]
            found = self.dataset.outcomes(self.identity, keys)
            yield from map(found.get, keys)

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """See :meth:`Campaign.outcomes`."""
        return self._bench.capture_many(jobs, in_order=False)

    def described(self, job: Job) -> str:
        """See :meth:`Campaign.described`."""
        raw, parameters = job
        return described(raw.name, parameters)

    def raws(self) -> int:
        """See :meth:`Campaign.raws`."""
        return len({raw.hash for raw, _ in self.jobs}) if self._raws is None else self._raws


def plan(
    space: ParameterSpace,
    raws: Sequence[RawRecord],
    *,
    design: Design,
    captures: int,
    seed: int,
    around: Sequence[ParameterSet] = (),
    spread: float = 0.1,
) -> list[Job]:
    """The captures of a campaign: each pairs one RAW with its own parameter set, every RAW equally often.

    With the designs ``sobol`` and ``around`` a longer campaign begins with the shorter one, so it extends it.

    Args:
        space: the device's parameters.
        raws: the RAWs; their order does not matter.
        design: ``around`` is uniform within ``spread`` of points.
        captures: how many.
        seed: of the design and of the order of the RAWs.
        around: the points of ``around``; the defaults where empty.
        spread: half the width of the box around a point, in normalised units, within (0, 1].

    Raises:
        CampaignError: no RAWs, or the space has too few different parameter sets.
    """
    if not raws:
        raise CampaignError("no RAWs to collect with: the training and validation splits are empty")
    ordered = sorted({raw.hash: raw for raw in raws}.values(), key=lambda raw: raw.hash)
    units = points(space, design, captures, seed, around, spread)
    jobs = different_pairs(space, units, _turns(ordered, seed), lambda raw: raw.hash, captures)
    if len(jobs) < captures:
        raise CampaignError(
            f"{space.name} with {len(ordered)} RAWs gives only {len(jobs)} different captures in this design, "
            f"not {captures}; ask for fewer or widen --spread"
        )
    return jobs


def different_pairs(
    space: ParameterSpace, units: np.ndarray, sources: Iterator[Source], key: Callable[[Source], str], most: int
) -> list[tuple[Source, ParameterSet]]:
    """The next source with each point's parameter set; a point whose pair was there is passed over."""
    found: dict[tuple[str, str], tuple[Source, ParameterSet]] = {}
    source = next(sources)
    for unit in units:
        if len(found) == most:
            break
        parameters = space.from_unit(unit)
        pair = key(source), parameters.hash
        if pair not in found:
            found[pair] = source, parameters
            source = next(sources)
    return list(found.values())


def _turns(raws: list[RawRecord], seed: int) -> Iterator[RawRecord]:
    """The RAWs for ever, in another random order each round."""
    random = np.random.default_rng([seed, 0])
    while True:
        for i in random.permutation(len(raws)):
            yield raws[i]
