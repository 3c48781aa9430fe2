"""Whether a device's picture follows its registers and its RAW (section 4): one that says so and gives a stored one."""

from __future__ import annotations

from workbench.check.peer import Peer, Requirement
from workbench.check.requirements import expect, needs

_SHARES = (0.2, 0.5, 0.8)


def _follows_registers(peer: Peer) -> None:
    needs(not peer.info.live, "a live device photographs what is before it")
    sets = [peer.by_address(peer.info.space.defaults), *(peer.far(share) for share in _SHARES)]
    needs(any(codes != sets[0] for codes in sets), "the device has one set of codes alone")
    pictures = {peer.frame(codes).output_hash for codes in sets}
    needs(len(pictures) > 1 or peer.info.input.frames == 1, "codes that act within bursts alone change no single frame")
    expect(
        len(pictures) > 1,
        f"the defaults and {', '.join(f'{share:.0%}' for share in _SHARES)} of every range give the same picture",
    )


def _follows_raw(peer: Peer) -> None:
    needs(not peer.info.live, "a live device photographs what is before it")
    codes = peer.by_address(peer.info.space.defaults)
    one, two = peer.frame(codes), peer.frame(codes, peer.other)
    expect(one.output_hash != two.output_hash, "two RAWs give the same picture with the default parameters")


REQUIREMENTS = (
    Requirement("FRAME's picture follows the codes", "4", _follows_registers),
    Requirement("FRAME's picture follows the RAW", "4", _follows_raw),
)
