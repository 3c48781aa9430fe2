"""Whether a proxy tells which way the task's loss goes: the measure that counts for training through it.

From a sensible set (what a tuned rule gives the RAW) one parameter is moved at a time, a little and far, both ways. The
device's change of the picture's quality is compared with the proxy's. A move may change many pixels and hardly the
loss, or the other way round, so direction and size of the picture's change do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from workbench.lab.dataset import RawRecord
from workbench.lab.runs import RunFolder
from workbench.learn.results import LossFollowing
from workbench.rules.centres import Centres

RAWS = 5
"""RAWs that moves are made on, where nothing else is asked for."""
STEPS = (-0.3, -0.1, 0.1, 0.3)
"""Moves of what has an order, in normalised units; what they come to on the device's codes is captured once."""
_CHOICES = 4
_FEWEST = 3
"""Moves below which nothing is ranked."""


@dataclass(frozen=True)
class Quality:
    """How near a picture is to its reference: PSNR in dB, and SSIM (NaN where the picture is too small for it)."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Move:
    """One parameter moved on one RAW: the quality before and after, on the device and through the proxy."""

    parameter: str
    device: tuple[Quality, Quality]
    proxy: tuple[Quality, Quality]


def sensible_rule(runs: Iterable[RunFolder], space: ParameterSpace) -> RunFolder | None:
    """The ``tune`` run to move from: the newest industry table of the device's parameters, or else best fixed set.

    Args:
        runs: of the lab, the newest first; those of other tasks or spaces, and parts of studies, are passed over.
        space: of the device.
    """
    from workbench.rules.tuned import Rule, rule_of
    from workbench.tasks.registry import task_key

    usable = [r for r in runs if r.device.space_hash in space.hashes and not r.aside and task_key(r) == "viewing"]
    # One that was searched for another metric comes after those for this one.
    ranked = sorted(usable, key=lambda r: r.config.get("metric", "psnr") != "psnr")
    for rule in (Rule.industry, Rule.fixed):
        for run in ranked:
            if rule_of(run) == rule:
                return run
    return None


def centres_of_raws(
    centres: Centres | None, space: ParameterSpace, raws: Sequence[RawRecord]
) -> Sequence[ParameterSet]:
    """The set that each RAW's moves start from: the rule's, or the device's defaults."""
    return [space.defaults] * len(raws) if centres is None else centres.sets(space, raws)


def moves_from(
    space: ParameterSpace, centre: ParameterSet, steps: Sequence[float] = STEPS
) -> list[tuple[str, ParameterSet]]:
    """The different sets with one parameter moved, with its name, in the order of the space.

    What is not searched, or does not exist under the centre's choices, does not move.

    Args:
        space: the device's parameters; ``centre``: what is moved from.
        steps: moves of what has an order, in normalised units.
    """
    moves = []
    for i, parameter in enumerate(space.parameters):
        own = centre.codes[i]
        for code in dict.fromkeys(_codes(parameter, own, float(centre.unit[i]), steps)) if parameter.searched else ():
            moved = centre.with_codes({parameter.name: code})
            if moved.codes != centre.codes:
                moves.append((parameter.name, moved))
    return moves


def _codes(parameter: Parameter, own: int, unit: float, steps: Sequence[float]) -> list[int]:
    if parameter.kind in ("continuous", "integer"):
        return [parameter.from_unit(unit + step) for step in steps]
    others = [code for code in range(parameter.low_code, parameter.high_code + 1) if code != own]
    return others[:_CHOICES]


def losses(moves: Sequence[Move]) -> dict[str, LossFollowing]:
    """How the proxy's change of the quality follows the device's, by parameter."""
    table = {}
    for name in dict.fromkeys(move.parameter for move in moves):
        own = [move for move in moves if move.parameter == name]
        changes = {
            figure: [
                np.array([getattr(pair[1], figure) - getattr(pair[0], figure) for pair in pairs])
                for pairs in ([m.device for m in own], [m.proxy for m in own])
            ]
            for figure in ("psnr", "ssim")
        }
        table[name] = LossFollowing(
            moves=len(own),
            psnr_change=size(changes["psnr"][0]),
            psnr_change_proxy=size(changes["psnr"][1]),
            psnr_rank=rank(*changes["psnr"]),
            ssim_change=size(changes["ssim"][0]),
            ssim_rank=rank(*changes["ssim"]),
        )
    return table


def size(changes: np.ndarray) -> float | None:
    """Root mean square of changes; None where one is not finite."""
    found = float(np.sqrt(np.mean(changes**2)))
    return found if math.isfinite(found) else None


def rank(device: np.ndarray, proxy: np.ndarray) -> float | None:
    """Spearman's correlation of changes on the device with those through a proxy or a response, both ``[M]``.

    None where the device ranks nothing, 0 where the other does not move.
    """
    from scipy.stats import spearmanr

    if len(device) < _FEWEST or not np.isfinite(device).all() or not np.ptp(device):
        return None
    return float(spearmanr(device, proxy).statistic) if np.ptp(proxy) else 0.0
