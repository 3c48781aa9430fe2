"""The requirements of PROTOCOL.md, tried on a device over a bare link."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from functools import partial

from drivers import stopping
from drivers.errors import DeviceError
from drivers.protocol import wire
from workbench.check import bursts, following, frames, held_raws, lying, messages, refused_raws, registers, whole_check
from workbench.check.peer import Peer, Requirement
from workbench.check.requirements import NoAnswerError, NotMetError, NotTriedError, Result

__all__ = ["Peer", "Requirement", "Result", "check", "requirements", "tried"]

SAME = "the same as with"
RESTORE_S = 5.0
"""Seconds for each answer while the registers are put back."""


def requirements() -> list[Requirement]:
    """Every requirement, in the order in which they are tried."""
    rooms = (registers, frames, following, held_raws, lying, bursts, refused_raws, messages, whole_check)
    return [requirement for room in rooms for requirement in room.REQUIREMENTS]


def check(peer: Peer) -> Generator[Result]:
    """Try every requirement in turn, and put the registers back as they were; also when closed before the end.

    One cause is told once: when the device has fallen silent the others are skipped, and what fails for want of the
    same answer as an earlier requirement is skipped with that one named.
    """
    dead = ""
    causes: dict[str, str] = {}
    banks: _Banks = {}
    try:
        for requirement in requirements():
            result = (
                _skipped(requirement, dead)
                if dead
                else tried(requirement.title, requirement.section, partial(requirement.run, peer), causes)
            )
            if result.outcome == "fail" or result.reason.startswith(SAME):
                dead = _silence(peer) or dead
            if not banks and not dead:
                banks = _read_banks(peer)
            yield result
    finally:
        if banks:
            peer.restored = not dead and _put_back(peer, banks)


def tried(title: str, section: str, run: Callable[[], None], causes: dict[str, str] | None = None) -> Result:
    """What became of one requirement; ``run`` raises :class:`NotMetError` or :class:`NotTriedError`.

    Args:
        title, section: the requirement.
        run: tries it.
        causes: why answers did not come so far, and the requirement that told it first; added to.
    """
    try:
        run()
    except NotTriedError as reason:
        return Result(title, section, "skipped", str(reason))
    except NoAnswerError as reason:
        first = title if causes is None else causes.setdefault(re.sub(r"[0-9]+", "0", str(reason)), title)
        if first != title:
            return Result(title, section, "skipped", f"{SAME} {first!r}: {reason}")
        return Result(title, section, "fail", str(reason))
    except (NotMetError, DeviceError, OSError) as reason:
        return Result(title, section, "fail", str(reason))
    return Result(title, section, "pass")


def _skipped(requirement: Requirement, reason: str) -> Result:
    return Result(requirement.title, requirement.section, "skipped", reason)


def _silence(peer: Peer) -> str:
    """Why the others need not be tried, or nothing."""
    try:
        peer.reopen()
        peer.hello()
    except (NotMetError, DeviceError) as error:
        return f"the device does not answer HELLO any more: {error}"
    return ""


_Banks = dict[str, dict[int, int]]


def _read_banks(peer: Peer) -> _Banks:
    """What both banks hold before anything is written."""
    try:
        return {"active": peer.codes("active"), "shadow": peer.codes("shadow")}
    except (NotMetError, DeviceError):
        return {}


def _put_back(peer: Peer, banks: _Banks) -> bool:
    """Write both banks as they were: the active one needs a frame to latch it. Whether they read so then."""
    with stopping.checked(lambda: None):  # also after Ctrl-C: the device is somebody's
        peer.deadline_s = min(peer.deadline_s, RESTORE_S)
        try:
            peer.reopen()
            if peer.codes("active") != banks["active"]:
                peer.ask(wire.Write(peer.new_id(), tuple(banks["active"].items())), wire.RegisterValues)
                peer.frame({})
            peer.ask(wire.Write(peer.new_id(), tuple(banks["shadow"].items())), wire.RegisterValues)
            return _read_banks(peer) == banks
        except (NotMetError, NotTriedError, DeviceError, OSError):
            return False
