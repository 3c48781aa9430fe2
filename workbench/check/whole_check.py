"""Sections 2, 4 and 9 of PROTOCOL.md: what holds over the whole check."""

from __future__ import annotations

from drivers.protocol import wire
from workbench.check.peer import Peer, Requirement, as_answer, some_of
from workbench.check.requirements import expect, needs

QUIET_S = 0.2
"""Seconds in which a client must hear nothing that is not meant for it."""


def _other_client(peer: Peer) -> None:
    needs(peer.many_clients, "the line has one client")
    other = Peer(peer.open_link, peer.deadline_s, peer.raw)
    try:
        other.learn()
        other.send(mine := other.request(other.far(0.3)))
        peer.frame(peer.far(0.5))
        peer.hello()
        as_answer(other.answer(mine.id), wire.Frame)
        other.listen(QUIET_S)
        foreign = [a for a in other.strays if not other.asked(a)]
        expect(not foreign, f"another client got {some_of(foreign)}")
    finally:
        other.close()


def _same_boot(peer: Peer) -> None:
    now = peer.hello()
    expect(now.boot_id == peer.info.boot_id, f"the boot id was {peer.info.boot_id} and is {now.boot_id} now")
    same = (now.model, now.firmware, now.serial, now.space) == (
        peer.info.model,
        peer.info.firmware,
        peer.info.serial,
        peer.info.space,
    )
    expect(same, "INFO names another model, firmware, serial or space than at the start")


def _no_strays(peer: Peer) -> None:
    peer.hello()
    count = len(peer.strays)
    expect(not count, f"{count} answers came to nothing that was asked, or a second time: {some_of(peer.strays)}")


REQUIREMENTS = (
    Requirement("No client gets another's answers", "2", _other_client),
    Requirement("The device stays the same and does not restart", "4, 9", _same_boot),
    Requirement("Nothing comes that was not asked for", "4", _no_strays),
)
