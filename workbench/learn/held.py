"""Parameters that training leaves where it starts: which and why.

``fit-proxy --device`` measures how far the proxy moves as the device moves. Where it does not, its gradient would lead
nowhere, so ``train`` and the descent through the proxy hold the parameter at its start value, as they do those that the
device says are not searched. A train run records what it held; runs of earlier versions record nothing, and nothing is
said of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from drivers.parameters import ParameterSpace
from workbench.lab.runs import RunFolder
from workbench.learn.results import Movement, ProxyFitResult

# Direction (cosine) of the proxy's change against the device's below which its gradient says little about the device.
FOLLOWED = 0.5


def not_followed(fit_run: RunFolder) -> list[str]:
    """Parameters in which a proxy does not follow its device, by its fidelity report; none where it has no report.

    Raises:
        RunError: the run's results are damaged.
    """
    return list(why_held(ProxyFitResult.of(fit_run)))


def why_held(results: ProxyFitResult) -> dict[str, str]:
    """Why training through a proxy will hold a parameter, by its name, from the results of a ``fit-proxy`` run."""
    report = results.fidelity
    return {m.parameter: _reason(m) for m in report.parameters if m.direction < FOLLOWED} if report else {}


def held_by(train_run: RunFolder) -> list[str]:
    """Parameters that a ``train`` run held at their start values; none where its record does not tell."""
    return [str(name) for name in train_run.config.get("held") or ()]


def by_block(space: ParameterSpace, names: Collection[str]) -> str:
    """Parameters with their blocks, for people: ``noise_reduction (all 4): a, b, c, d; tone: gamma``."""
    parts = []
    for block, own in space.blocks.items():
        here = [name for name in own if name in names]
        if here:
            parts.append(f"{block}{f' (all {len(own)})' if len(here) == len(own) else ''}: {', '.join(here)}")
    return "; ".join(parts)


def remark(space: ParameterSpace, name: str) -> str:
    """Why one parameter is held, for people, beside its value."""
    why = "it is not searched" if name in space.not_searched else "the proxy does not follow it"
    return f"held at its start value: {why}"


def held_in_words(space: ParameterSpace, names: Collection[str]) -> str:
    """One sentence on what a training holds: how many, which, why."""
    still = space.not_searched
    parts: list[str] = []
    for here, reason in (
        ([name for name in names if name not in still], "the proxy does not follow the device in them"),
        ([name for name in names if name in still], "the device says that they are not searched"),
    ):
        if here:
            of = "" if parts else f" of {len(space)} parameters"
            parts.append(f"{len(here)}{of} held at their start values, since {reason}: {by_block(space, here)}")
    return "; ".join(parts)


def union(space: ParameterSpace, runs: Iterable[RunFolder]) -> list[str]:
    """Parameters that any of the ``train`` runs held, in the order of the space."""
    found = {name for run in runs for name in held_by(run)}
    return [name for name in space.names if name in found]


def _reason(movement: Movement) -> str:
    if movement.device_change == 0:
        return "the device's output does not change"
    if movement.cosine is None or not math.isfinite(movement.cosine):
        return "the proxy's output does not change"
    return f"direction {movement.cosine:.2f}, {FOLLOWED:g} is the least"
