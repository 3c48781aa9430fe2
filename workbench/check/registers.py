"""Sections 4 to 6, 8 and 9 of PROTOCOL.md: who the device is, its registers, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from drivers.protocol import wire
from drivers.registers import Bank
from workbench.check.peer import Peer, Requirement, address_of, as_answer, difference
from workbench.check.requirements import NotTriedError, expect

BANKS: tuple[Bank, ...] = ("active", "shadow")


def _first_version(peer: Peer) -> None:
    answer = _answer_of(peer, speaks=1)
    if isinstance(answer, wire.Error):
        expect(peer.info.version > 1, f"a client of version 1 is refused ({answer.text[:80]}) by a device of version 1")
    else:
        expect(answer.version == 1, f"a client of version 1 was answered in version {answer.version}")


def _later_version(peer: Peer) -> None:
    answer = _answer_of(peer, speaks=wire.MAX_SPEAKS)
    text = f"refused with {answer.code}: {answer.text[:80]}" if isinstance(answer, wire.Error) else ""
    expect(isinstance(answer, wire.Info), text)


def _answer_of(peer: Peer, speaks: int) -> wire.Info | wire.Error:
    """INFO, or ERROR ``version``."""
    answer = peer.answer(peer.send(wire.Hello(peer.new_id(), speaks)))
    if isinstance(answer, wire.Error) and answer.code == "version":
        return answer
    return as_answer(answer, wire.Info)


def _defaults(peer: Peer) -> None:
    active, shadow = peer.codes("active"), peer.codes("shadow")
    first = peer.frame({})
    if first.frame != 1:
        raise NotTriedError(f"it has made {first.frame - 1} frames since its start; restart it and check again")
    defaults = peer.by_address(peer.info.space.defaults)
    for bank, codes in (("active", active), ("shadow", shadow)):
        expect(codes == defaults, f"the {bank} bank does not hold the defaults: {difference(peer, codes, defaults)}")


def _read_all(peer: Peer) -> None:
    for bank in BANKS:
        answer = peer.ask(wire.Read(peer.new_id(), bank), wire.RegisterValues)
        codes = dict(answer.registers)
        named = {address_of(p) for p in peer.info.space.parameters}
        expect(set(codes) == named, f"the {bank} bank has {len(codes)} registers, the space {len(named)} parameters")
        expect(answer.bank == bank, f"READ of the {bank} bank was answered with the {answer.bank} bank")
        expect(answer.boot_id == peer.info.boot_id, f"boot id {answer.boot_id}, INFO said {peer.info.boot_id}")
        expect(answer.parameters_hash == peer.hash(codes), f"the hash of the {bank} bank is not that of its codes")


def _read_some(peer: Peer) -> None:
    codes = peer.codes("active")
    some = tuple(codes)[::-2]
    answer = peer.ask(wire.Read(peer.new_id(), "active", some), wire.RegisterValues)
    expect(dict(answer.registers) == {a: codes[a] for a in some}, f"asked for {some}, got {answer.registers}")
    expect(answer.parameters_hash == peer.hash(codes), "the hash does not cover all parameters of the bank")


def _read_unknown(peer: Peer) -> None:
    request = wire.Read(peer.new_id(), "active", (peer.free_address,))
    peer.refused(request.id, wire.encode(request), ("bad_register",))


def _write(peer: Peer) -> None:
    active, codes = peer.codes("active"), peer.far(0.3)
    answer = peer.ask(wire.Write(peer.new_id(), tuple(codes.items())), wire.RegisterValues)
    expect(
        answer.bank == "shadow" and dict(answer.registers) == codes, "the answer does not read back what was written"
    )
    expect(peer.codes("shadow") == codes, "the shadow bank does not hold what was written")
    expect(peer.codes("active") == active, "the active bank changed before a frame boundary")


def refuse_register(peer: Peer, code: str, request: Callable[[Peer, dict[int, int]], wire.Message]) -> None:
    """A request with one register that must be refused among right ones.

    Args:
        peer: the device.
        code: of the error that is due: ``bad_code`` or ``bad_register``.
        request: makes the request of codes by address.
    """
    address, value = peer.bad if code == "bad_code" else (peer.free_address, 0)
    codes = {a: c for a, c in peer.far(0.6).items() if a != address}
    refused = request(peer, codes | {address: value})
    peer.refused(refused.id, wire.encode(refused), (code,))


def _written(peer: Peer, codes: dict[int, int]) -> wire.Message:
    return wire.Write(peer.new_id(), tuple(codes.items()))


def _constraint(peer: Peer) -> None:
    space = peer.info.space
    codes = space.from_unit(np.full(len(space), 0.5)).by_name
    for p in space.parameters:
        for other in sorted(space.relations.constrained_with(p.name)):
            broken = codes | {p.name: p.high_code, other: space[other].low_code}
            if space.relations.broken([broken[name] for name in space.names]) is not None:
                words = peer.registers.words(broken)
                for message in (_written(peer, words), peer.request(words)):
                    peer.refused(message.id, wire.encode(message), ("bad_code",))
                return


def _refused_write(title: str, code: str) -> Requirement:
    return Requirement(title, "4, 9", partial(refuse_register, code=code, request=_written))


REQUIREMENTS = (
    Requirement("HELLO is answered with a complete INFO", "4, 5", Peer.learn),
    Requirement("A client of version 1 is answered in it, or refused", "4, 12", _first_version),
    Requirement("A client of a later version is answered in the device's own", "4, 12", _later_version),
    Requirement("Both banks hold the defaults after a start", "8", _defaults),
    Requirement("READ gives every register of a bank, and its hash", "4, 6", _read_all),
    Requirement("READ gives the registers asked for, and the whole bank's hash", "4, 6", _read_some),
    Requirement("READ of an unknown address is refused", "9", _read_unknown),
    Requirement("WRITE changes the shadow bank and not the active one", "4, 8", _write),
    _refused_write("WRITE with a code out of range changes nothing", "bad_code"),
    Requirement("No set that breaks a constraint of INFO is taken", "5, 9", _constraint),
    _refused_write("WRITE with an unknown address changes nothing", "bad_register"),
)
