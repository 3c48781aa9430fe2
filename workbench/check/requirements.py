"""What a requirement of PROTOCOL.md is, and what becomes of it when it is tried on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drivers.errors import WorkbenchError

Outcome = Literal["pass", "fail", "skipped"]


class NotMetError(WorkbenchError):
    """A requirement is not met; the text says how."""


class NoAnswerError(NotMetError):
    """No answer to a right request came, or none that can be read: the cause may lie in what other requirements try."""


class BrokenLinkError(NoAnswerError):
    """The connection broke instead of an answer."""


class NotTriedError(WorkbenchError):
    """A requirement cannot be tried on this device; the text says why."""


@dataclass(frozen=True)
class Result:
    """What became of one requirement.

    Attributes:
        title: the requirement; ``section``: of PROTOCOL.md.
        outcome: ``pass``, ``fail`` or ``skipped``.
        reason: why it failed or was skipped; else empty.
    """

    title: str
    section: str
    outcome: Outcome
    reason: str = ""


def expect(met: bool, reason: str) -> None:
    """Raises NotMetError for the reason where the requirement is not met."""
    if not met:
        raise NotMetError(reason)


def needs(can: bool, reason: str) -> None:
    """Raises NotTriedError for the reason where the requirement cannot be tried."""
    if not can:
        raise NotTriedError(reason)
