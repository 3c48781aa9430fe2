"""Bursts of section 4 of PROTOCOL.md: RAWs of one scene that a device filters over time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from drivers.frames import RawFrame
from drivers.protocol import wire
from workbench.check.peer import Peer, Requirement
from workbench.check.requirements import NoAnswerError, expect, needs

_LONGEST = 8


def _made(peer: Peer, raws: Sequence[RawFrame], codes: dict[int, int]) -> wire.Frame:
    """The last frame of a burst."""
    before = 0
    for raw in raws:
        request = dataclasses.replace(peer.request(codes, raw), follows=before)
        frame, before = peer.ask(request, wire.Frame), request.id
    return frame


def _alone(peer: Peer) -> None:
    codes = peer.far(0.5)
    if peer.info.live:
        _made(peer, [peer.raw] * min(max(peer.info.input.frames, 2), _LONGEST), codes)
        return
    needs(peer.info.echo, "a device without an echo may filter over time")
    if peer.info.input.frames == 1:
        alone, followed = peer.frame(codes), _made(peer, [peer.other, peer.raw], codes)
        expect(alone.output_hash == followed.output_hash, "INFO announces no bursts, but follows changed the output")
        return
    count = min(peer.info.input.frames, _LONGEST)
    scene = [(peer.raw, peer.other)[i % 2] for i in range(count)]
    first = _made(peer, scene, codes)
    _made(peer, [peer.other] * count, codes)
    again = _made(peer, scene, codes)
    expect(first.output_hash == again.output_hash, "another burst between them changed the last output of a burst")


def _torn(peer: Peer) -> None:
    codes = peer.far(0.5)
    first, between, late = (peer.request(codes) for _ in range(3))
    for request in (first, between):
        peer.ask(request, wire.Frame)
    late = dataclasses.replace(late, follows=first.id)
    if peer.info.input.frames == 1:
        peer.ask(late, wire.Frame)
        return
    peer.refused(late.id, wire.encode(late), ("burst",))
    try:
        peer.ask(dataclasses.replace(late, id=peer.new_id(), follows=0), wire.Frame)
    except NoAnswerError as error:
        raise NoAnswerError(f"after a torn burst another cannot begin: {error}") from error


REQUIREMENTS = (
    Requirement("A burst's last picture depends on that burst alone", "4, 8", _alone),
    Requirement("A frame that does not follow the last one in its burst is refused", "4, 9", _torn),
)
