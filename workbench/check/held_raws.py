"""RAWs that a device holds (section 4): what it makes of one without its pixels, and that it refuses others."""

from __future__ import annotations

import dataclasses
import secrets

from drivers.frames import RawFrame
from drivers.protocol import wire
from workbench.check.peer import Peer, Requirement, as_answer
from workbench.check.requirements import NotTriedError, expect, needs


def _held(peer: Peer) -> None:
    needs(not peer.info.live, "a live device takes no RAW")
    needs(peer.info.holds > 0, "the device holds no RAWs")
    needs(peer.info.echo, "a device without an echo may filter over time")
    needs(peer.info.input.frames == 1, "the frames of a burst always have their pixels")
    codes, raws = peer.far(0.4), (peer.raw, peer.other)
    before = [peer.frame(codes, raw).output_hash for raw in raws]
    peer.frame(peer.far(0.7), peer.raw)
    without = [_without_pixels(peer, codes, raw) for raw in raws]
    answers = []
    for request in without:
        peer.send(request)
        answers.append(peer.answer(request.id))
    if any(isinstance(answer, wire.Error) and answer.code == "no_raw" for answer in answers):
        raise NotTriedError("the device had let go of the RAW, as it may")
    frames = [as_answer(answer, wire.Frame) for answer in answers]
    needs(before == [peer.frame(codes, raw).output_hash for raw in raws], "with their pixels the pictures differ too")
    for raw, request, frame, expected in zip(raws, without, frames, before, strict=True):
        expect(frame.raw_hash == request.raw_hash, f"{raw.source}: FRAME is of RAW {frame.raw_hash[:12]}…")
        expect(frame.output_hash == expected, f"{raw.source}: another picture than with the RAW's pixels")


def _not_held(peer: Peer) -> None:
    needs(not peer.info.live, "a live device takes no RAW")
    needs(peer.info.holds > 0, "the device holds no RAWs")
    request = dataclasses.replace(_without_pixels(peer, peer.far(0.6), peer.raw), raw_hash=secrets.token_hex(32))
    peer.refused(request.id, wire.encode(request), ("no_raw",))


def _without_pixels(peer: Peer, codes: dict[int, int], raw: RawFrame) -> wire.Process:
    request = peer.request(codes, raw)
    assert isinstance(request, wire.Process)
    return dataclasses.replace(request, payload=b"")


REQUIREMENTS = (
    Requirement("A RAW that is held gives the same picture without its pixels", "4", _held),
    Requirement("A request without pixels of a RAW that is not held is refused", "4, 9", _not_held),
)
