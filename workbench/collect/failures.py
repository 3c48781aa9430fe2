"""Frames that come to nothing: counted by reason, said, and where they are too many the end of the work.

A frame fails where the device refuses it or where its output is no picture of the RAW. It is kept with its reason and
the rest goes on, until of the frames asked now the first 10 failed, or of 20 or more more than half did. A search may
go on among many sets that fail, for they rank last: it stops where more than nine in ten do.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from drivers.errors import DeviceError
from drivers.foreign_text import shown
from drivers.parameters import ParameterSet

FIRST, LEAST, SHARE = 10, 20, 0.5
SEARCH_SHARE = 0.9
REASON_LENGTH = 300
_REASONS = 20
_NAMED = 24
OTHERS = "other reasons"


class TooManyFailuresError(DeviceError):
    """So many frames failed that going on would be of no use."""


def described(name: str, parameters: ParameterSet) -> str:
    """A RAW and a parameter set in one line: ``RAW 3.npz with gain 1.5, mode a``; of many parameters the first."""
    values = [f"{shown(n)} {_value(v)}" for n, v in parameters.values.items()]
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return f"RAW {shown(name)} with {', '.join(values[:_NAMED])}{more}"


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else shown(value)


class FailureTally:
    """How many frames were asked and failed, and why.

    Args:
        patience: the rule's counts of frames are multiplied by this: where frames of one parameter set come together,
            one set must not end the work.
        share: more than this share failed is too many.

    Attributes:
        asked: frames that came to an end; ``failed``: those of them that came to nothing.
    """

    def __init__(self, patience: int = 1, share: float = SHARE) -> None:
        self.asked = self.failed = 0
        self._patience, self._most = max(patience, 1), share
        self._counts: Counter[str] = Counter()
        self._texts: dict[str, str] = {}
        self._examples: dict[str, str] = {}

    def made(self) -> None:
        """Count a frame that was made."""
        self.asked += 1

    def add(self, code: str, reason: str, example: str = "") -> None:
        """Count one that failed.

        Args:
            code, reason: as of :class:`drivers.device.Failure`.
            example: the RAW and the parameters (:func:`described`).
        """
        self.asked += 1
        self.failed += 1
        text = reason_text(code, reason)
        # Reasons that differ only in their figures are one.
        group = re.sub(r"[0-9a-f]{8,}|[0-9]+(?:\.[0-9]+)?", "#", text)
        if group not in self._texts and len(self._texts) >= _REASONS:
            group = text = OTHERS
        self._counts[group] += 1
        self._texts.setdefault(group, text)
        self._examples.setdefault(group, example)

    @property
    def share(self) -> float:
        """Of the frames asked, 0..1; 0 where none was."""
        return self.failed / self.asked if self.asked else 0.0

    @property
    def by_reason(self) -> dict[str, int]:
        """How many failed by reason, the most frequent first."""
        return {self._texts[group]: count for group, count in self._counts.most_common()}

    @property
    def main_reason(self) -> str:
        """The most frequent reason with an example, in one line; empty where nothing failed."""
        if not self._counts:
            return ""
        group = self._counts.most_common(1)[0][0]
        example = self._examples[group]
        return self._texts[group] + (f" (for example {example})" if example else "")

    @property
    def too_many(self) -> bool:
        """Whether the rule of this module says that enough is enough."""
        first, least = FIRST * self._patience, LEAST * self._patience
        if self.failed == self.asked:
            return self.asked >= first
        return self.asked >= least and self.failed > self._most * self.asked

    def told(self, what: str = "frames") -> str:
        """``12 of 20 frames failed (60 %), most often failed: … (for example RAW … with …)``."""
        return f"{self.failed} of {self.asked} {what} failed ({percent(self.share)}), most often {self.main_reason}"

    def check(self, url: str) -> None:
        """See that not too many failed.

        Raises:
            TooManyFailuresError: too many did.
        """
        if self.too_many:
            raise TooManyFailuresError(
                f"{url}: {self.told()}; stopped: mend the device (`workbench device check {url}`), then "
                "`workbench dataset retry` lets the same command ask for them again"
            )

    def to_dict(self) -> dict[str, Any]:
        """``failed``, ``failed_share`` and ``failures_by_reason``, as commands print with ``--json``."""
        return {"failed": self.failed, "failed_share": self.share, "failures_by_reason": self.by_reason}


def reason_text(code: str, reason: str) -> str:
    """Why a frame failed, in one line of bounded length that names the code."""
    text = shown(reason)[:REASON_LENGTH]
    return text if f"({shown(code)})" in text else f"{shown(code)}: {text}"


def percent(share: float) -> str:
    """A share for people: ``0.4 %``, ``60 %``."""
    return f"{100 * share:.3g} %"
