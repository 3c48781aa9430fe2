"""The design ``around-rule``: captures around what a tuned rule gives for each RAW, where a predictor will work.

Each RAW has a group of captures: the rule's own set, and moves from it. A RAW's moves depend on the seed, the RAW and
its set alone, so further RAWs or larger groups only add captures to a campaign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from drivers.parameters import ParameterSet, ParameterSpace
from workbench.collect.designs import CampaignError
from workbench.lab.dataset import RawRecord
from workbench.lab.results import Result
from workbench.rules.centres import Centres

FOLDER = "campaigns"
"""Where a lab keeps what its campaigns around rules went around."""

PER_RAW = 8
SPREAD = 0.25
BLOCK_SHARE = 0.5
# Draws after which a move that is not there yet is given up.
_TRIES = 32


@dataclass(frozen=True)
class AroundRule:
    """A campaign's captures around a rule.

    Attributes:
        centres: the rule.
        per_raw: captures of each RAW, the rule's own set among them; at least 2.
        block_share: share of the moves that are of one block's parameters, the blocks in turn; the others are of all.
        keep: parameters and blocks that no move touches.
    """

    centres: Centres
    per_raw: int = PER_RAW
    block_share: float = BLOCK_SHARE
    keep: tuple[str, ...] = ()


class CampaignRecord(Result):
    """What a campaign around a rule went around, beside what its plan follows from; a file of ``lab/campaigns``.

    Attributes:
        rule: name of the ``tune`` run; ``rule_digest``: SHA-256 of what it had found.
        device: identity; ``seed``, ``spread``, ``block_share``, ``keep``: of the design.
    """

    WHAT: ClassVar[str] = "the record of a campaign"

    format: int = 1
    rule: str
    rule_digest: str
    device: str
    seed: int
    spread: float
    block_share: float
    keep: tuple[str, ...] = ()


def claim(lab: Path, device: str, design: AroundRule, seed: int, spread: float) -> None:
    """Record what a campaign goes around; the same campaign again has to go around the same.

    Raises:
        CampaignError: the rule or the design is another than when the campaign began.
        RunError: the record cannot be read.
    """
    centres = design.centres
    record = CampaignRecord(
        rule=centres.rule,
        rule_digest=centres.digest,
        device=device,
        seed=seed,
        spread=spread,
        block_share=design.block_share,
        keep=tuple(sorted(design.keep)),
    )
    key = hashlib.sha256(device.encode()).hexdigest()[:8]
    file = Path(lab) / FOLDER / f"around-{centres.rule}-{seed}-{key}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        record.write(file)
        return
    began = CampaignRecord.read(file)
    if began.rule_digest != record.rule_digest:
        raise CampaignError(
            f"run {centres.rule}: is not the rule that this campaign began with (was {began.rule_digest[:12]}, is "
            f"{record.rule_digest[:12]}); put its files back, or begin another campaign with another --seed"
        )
    for name in ("spread", "block_share", "keep"):
        before, now = getattr(began, name), getattr(record, name)
        if before != now:
            raise CampaignError(
                f"--{name.replace('_', '-')}: the campaign around {centres.rule} with seed {seed} began with "
                f"{_told(before)}, not {_told(now)}; give the same, or another --seed for another campaign"
            )


def plan_around(
    space: ParameterSpace,
    raws: Sequence[RawRecord],
    design: AroundRule,
    *,
    captures: int | None,
    seed: int,
    spread: float = SPREAD,
) -> list[tuple[RawRecord, ParameterSet]]:
    """The captures of a campaign around a rule, RAW by RAW, the rule's own set first.

    A campaign with more captures begins with the shorter one; one with more RAWs or more captures a RAW contains it.

    Args:
        space: the device's parameters.
        raws: the RAWs; their order does not matter.
        design: the rule, and how the captures lie around it.
        captures: how many, as whole groups while they last; None: the groups of all RAWs.
        seed: of the order of the RAWs and of the moves.
        spread: how far a parameter moves to either side, in normalised units, within (0, 1]. A choice or bool, which
            has no distances, is drawn afresh with twice that probability.

    Raises:
        CampaignError: no RAWs, a figure out of range, an unknown name to keep, or too few different captures.
        RunError: the rule is not of this device.
    """
    if not raws:
        raise CampaignError("no RAWs to collect with: the training and validation splits are empty")
    if not 0 < spread <= 1:
        raise CampaignError(f"spread {spread:g} is outside (0, 1]")
    if not 0 <= design.block_share <= 1:
        raise CampaignError(f"share of moves of one block {design.block_share:g} is outside [0, 1]")
    if design.per_raw < 2:
        raise CampaignError(f"{design.per_raw} captures a RAW: give at least 2, the rule's own set and a move from it")
    blocks = _free(space, design.keep)
    ordered = sorted({raw.hash: raw for raw in raws}.values(), key=lambda raw: _place(raw, seed))
    most = len(ordered) * design.per_raw
    if captures is not None and captures > most:
        raise CampaignError(
            f"{len(ordered)} RAWs with {design.per_raw} captures each are {most}, not {captures}; raise --per-raw or "
            "ask for fewer"
        )
    count = most if captures is None else captures
    used = ordered[: -(-count // design.per_raw)]
    jobs = []
    for raw, centre in zip(used, design.centres.sets(space, used), strict=True):
        random = np.random.default_rng([seed, 2, int(raw.hash[:16], 16)])
        group = [centre, *_moves(space, centre, blocks, design, random, spread)]
        if len(group) < design.per_raw:
            raise CampaignError(
                f"{space.name} gives only {len(group)} different captures of {raw.name} in this design, not "
                f"{design.per_raw}; lower --per-raw or widen --spread"
            )
        jobs += [(raw, parameters) for parameters in group]
    return jobs[:count]


def _moves(
    space: ParameterSpace,
    centre: ParameterSet,
    blocks: Sequence[Sequence[int]],
    design: AroundRule,
    random: np.random.Generator,
    spread: float,
) -> list[ParameterSet]:
    """The different moves from a set; fewer where there are no more."""
    everything = [i for block in blocks for i in block]
    turn = int(random.integers(len(blocks)))
    found = {centre.hash: centre}
    for number in range(1, design.per_raw):
        moved = None
        if int(number * design.block_share + 1e-9) > int((number - 1) * design.block_share + 1e-9):
            for _ in blocks:  # one with no move left is passed over
                moved = _moved(space, centre, blocks[turn], random, spread, found)
                turn = (turn + 1) % len(blocks)
                if moved is not None:
                    break
        else:
            moved = _moved(space, centre, everything, random, spread, found)
        if moved is None:
            break
        found[moved.hash] = moved
    return list(found.values())[1:]


def _moved(
    space: ParameterSpace,
    centre: ParameterSet,
    moving: Sequence[int],
    random: np.random.Generator,
    spread: float,
    known: Collection[str],
) -> ParameterSet | None:
    """The set with some parameters moved, in a way that is not known yet."""
    for _ in range(_TRIES):
        codes = list(centre.codes)
        for i in moving:
            parameter, unit = space.parameters[i], centre.unit[i]
            if not parameter.searched:
                continue
            if parameter.kind in ("continuous", "integer"):
                codes[i] = parameter.from_unit(random.uniform(max(unit - spread, 0), min(unit + spread, 1)))
            elif random.random() < 2 * spread:
                codes[i] = parameter.low_code + int(random.integers(parameter.levels))
        moved = ParameterSet(space, tuple(codes))
        if moved.hash not in known:
            return moved
    return None


def _free(space: ParameterSpace, keep: Sequence[str]) -> list[list[int]]:
    """Places of the parameters that move, by block."""
    if unknown := sorted(set(keep) - set(space.names) - set(space.blocks)):
        raise CampaignError(
            f"--keep {unknown[0]}: {space.name} has no such parameter or block; its blocks are "
            f"{', '.join(space.blocks)}"
        )
    places = {name: i for i, name in enumerate(space.names)}
    blocks = [
        [places[name] for name in names if name not in keep]
        for block, names in space.blocks.items()
        if block not in keep
    ]
    if not (moving := [block for block in blocks if block]):
        raise CampaignError("--keep leaves no parameter to move; name fewer")
    return moving


def _place(raw: RawRecord, seed: int) -> str:
    """Where a RAW stands in the order, whatever RAWs are beside it."""
    return hashlib.sha256(f"{seed} {raw.hash}".encode()).hexdigest()


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else ", ".join(map(str, value)) or "nothing"  # type: ignore[call-overload]
