"""Which RAWs and methods a comparison keeps where frames failed: methods are compared on the same RAWs, or not at all.

A method of which frames fail on more than half of the RAWs is left out. A RAW on which one of the other methods fails
is left out for all of them. Both are noted and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.collect.failures import percent, reason_text
from workbench.console.notes import listed
from workbench.errors import RunError
from workbench.lab.dataset import FailureRecord, RawRecord
from workbench.lab.results import Model

SHARE = 0.5
_NAMED = 8


class LeftOut(Model):
    """What is not compared and why: RAWs for all methods (``method`` None), or a method."""

    method: str | None
    raws: list[str]
    reason: str


@dataclass(frozen=True)
class Pairing:
    """What is compared.

    Attributes:
        methods: keys of the methods kept; ``places``: of the RAWs kept; both in their order.
        notes: what was left out and why, a line for each cause.
        left_out: the same as data.
        failed: how many frames of each method failed, by key.
        asked: how many RAWs there were.
    """

    methods: list[str]
    places: list[int]
    notes: list[str]
    left_out: list[LeftOut]
    failed: dict[str, int]
    asked: int


def reason_of(failure: FailureRecord) -> str:
    """Why a frame failed, in one line."""
    return reason_text(failure.code, failure.reason)


def pair(
    raws: Sequence[RawRecord], labels: Mapping[str, str], failures: Mapping[str, Mapping[int, FailureRecord]]
) -> Pairing:
    """What to compare.

    Args:
        raws: the RAWs; a place is an index into them.
        labels: the methods by key, in their order.
        failures: what failed, by key and place.

    Raises:
        RunError: nothing is left to compare.
    """
    notes: list[str] = []
    left_out: list[LeftOut] = []
    methods = [key for key in labels if len(failures.get(key, ())) <= SHARE * len(raws)]
    for key in labels:
        if key in methods:
            continue
        own = failures[key]
        reason = Counter(reason_of(f) for f in own.values()).most_common(1)[0][0]
        names = [raws[i].name for i in own]
        notes.append(
            f"{labels[key]} is left out: the device failed on {len(own)} of {len(raws)} RAWs with it "
            f"({percent(len(own) / len(raws))}), most often {reason}"
        )
        left_out.append(LeftOut(method=key, raws=names, reason=reason))
    causes: dict[tuple[str, str], list[int]] = {}
    out: set[int] = set()
    for key in methods:
        for place, failure in failures.get(key, {}).items():
            causes.setdefault((key, reason_of(failure)), []).append(place)
            out.add(place)
    for (key, reason), places in causes.items():
        names = [raws[i].name for i in places]
        notes.append(
            f"{len(names)} RAW{'s are' if names[1:] else ' is'} left out for all methods, where {labels[key]} failed "
            f"({reason}): {listed(names, _NAMED)}"
        )
        left_out.append(LeftOut(method=None, raws=names, reason=f"{labels[key]}: {reason}"))
    kept = [i for i in range(len(raws)) if i not in out]
    if not methods or not kept:
        raise RunError(f"nothing is left to compare: {'; '.join(notes)}")
    return Pairing(methods, kept, notes, left_out, {key: len(failures.get(key, ())) for key in labels}, len(raws))
