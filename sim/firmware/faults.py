"""Faults on order: what a bad cable, a tired board or a hurried firmware does to the answers, by chance or by script.

:class:`Faults` stands between the firmware and a transport. It takes the answer to one request and tells the transport
what to do: which messages to send when, and whether to stay silent, go away or forget what waits. It knows messages and
nothing of transports, so every server can use it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.agent.device_side import DeviceSide
from drivers.agent.outbox import Outcome, Send
from drivers.errors import WorkbenchError
from drivers.protocol import wire
from drivers.regular_files import read_toml

SECONDS = {"delay": 0.2, "reorder": 0.2, "hang": 1.0, "disappear": 1.0}
"""Faults that last, and how long where the file does not say; at most :data:`MAX_SECONDS`."""
NAMES = (
    "previous",
    "wrong_hash",
    "corrupt",
    "truncate",
    "drop",
    "delay",
    "duplicate",
    "reorder",
    "reboot",
    "hang",
    "disappear",
)
MAX_SECONDS = 3600.0


class FaultsError(WorkbenchError):
    """A faults file that cannot be read."""


@dataclass(frozen=True)
class Fault:
    """When one kind of fault happens.

    Attributes:
        probability: of each frame, 0..1.
        at: frames that have it, counted from 1 since the server's start.
        seconds: how long, for the faults of :data:`SECONDS`.
    """

    probability: float = 0.0
    at: frozenset[int] = frozenset()
    seconds: float = 0.0


class Faults:
    """A plan of faults, and what has been done of it.

    Only answers that are frames are disturbed. Frames are counted over reboots, repeated requests included. Each kind
    is drawn on its own, by the seed and the frame's number. A frame that is lost (drop, reboot, disappear) has no other
    fault of its answer.

    Attributes:
        frames: made so far; ``counts``: faults so far, by name.
    """

    def __init__(self, plan: dict[str, Fault] | None = None, seed: int = 0) -> None:
        self.plan = plan or {}
        self.frames = 0
        self.counts: Counter[str] = Counter()
        self._random = {name: random.Random(f"{seed} {name}") for name in NAMES}
        self._previous: wire.Frame | None = None

    def answer(self, firmware: DeviceSide, request: wire.Message) -> Outcome:
        """The firmware's answer to a request, with what goes wrong."""
        answer = firmware.handle(request)
        if not isinstance(answer, wire.Frame):
            return Outcome([Send(wire.encode(answer))])
        self.frames += 1
        previous, self._previous = self._previous, answer
        due = self._draw()
        if previous is None:
            due.discard("previous")
        if not answer.parameters_hash:  # a device without an echo has none to be wrong
            due.discard("wrong_hash")
        outcome = Outcome(is_frame=True)
        if "reboot" in due:
            firmware.reboot()
            self._previous = None
            outcome.forget = True
        if "hang" in due:
            outcome.hang_s = self.plan["hang"].seconds
        if "disappear" in due:
            outcome.gone_s = self.plan["disappear"].seconds
        if lost := due & {"drop", "reboot", "disappear"}:
            due = lost | (due & {"hang"})
        else:
            if previous is not None and "previous" in due:
                answer = dataclasses.replace(previous, id=answer.id)
            parts = self._disturbed(answer, due)
            late_s = max((self.plan[name].seconds for name in ("delay", "reorder") if name in due), default=0.0)
            outcome.sends = [Send(parts, late_s, "reorder" in due)] * (2 if "duplicate" in due else 1)
        self.counts.update(due)
        return outcome

    @property
    def summary(self) -> str:
        """One line: ``faults`` and a JSON object of the frames made and every kind's count."""
        return f"faults {json.dumps({'frames': self.frames, **{name: self.counts[name] for name in NAMES}})}"

    def _draw(self) -> set[str]:
        due = set()
        for name, fault in self.plan.items():
            if self._random[name].random() < fault.probability or self.frames in fault.at:
                due.add(name)
        return due

    def _disturbed(self, answer: wire.Frame, due: set[str]) -> list[wire.Buffer]:
        if "wrong_hash" in due:
            wrong = hashlib.sha256(answer.parameters_hash.encode()).hexdigest()
            answer = dataclasses.replace(answer, parameters_hash=wrong)
        header, payload = wire.encode(answer)
        if "corrupt" in due and len(payload):
            damaged = bytearray(payload)
            damaged[self._random["corrupt"].randrange(len(damaged))] ^= 1 << self._random["corrupt"].randrange(8)
            payload = bytes(damaged)
        if "truncate" in due and len(payload):
            payload = bytes(payload[: self._random["truncate"].randrange(len(payload))])
        return [header, payload]


def load(path: Path) -> Faults:
    """The faults of a TOML file: ``seed``, and a table for each kind of fault (see ``docs/faults.example.toml``).

    Raises:
        FaultsError: the file cannot be read, or a name or a value in it is wrong.
    """
    try:
        data = read_toml(path)
    except OSError as error:
        raise FaultsError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FaultsError(f"{path}: not TOML: {error}") from error
    seed = data.pop("seed", 0)
    if type(seed) is not int:
        raise FaultsError(f"{path}: seed {seed!r} is not a whole number")
    plan = {}
    for name, table in data.items():
        if name not in NAMES:
            raise FaultsError(f"{path}: unknown fault {name!r}; known are {', '.join(NAMES)}")
        plan[name] = _fault(f"{path}: {name}", name, table)
    return Faults(plan, seed)


def _fault(where: str, name: str, table: Any) -> Fault:
    if not isinstance(table, dict):
        raise FaultsError(f"{where}: not a table; write [{name}] above its keys")
    known = ["probability", "at", *(["seconds"] if name in SECONDS else [])]
    if unknown := sorted(set(table) - set(known)):
        raise FaultsError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    probability, seconds = table.get("probability", 0.0), table.get("seconds", SECONDS.get(name, 0.0))
    if type(probability) not in (int, float) or not 0 <= probability <= 1:
        raise FaultsError(f"{where}: probability {probability!r} is not a number in 0..1")
    if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_SECONDS:
        raise FaultsError(f"{where}: seconds {seconds!r} is not a number in 0..{MAX_SECONDS:g}")
    at = table.get("at", [])
    if not isinstance(at, list) or not all(type(n) is int and n >= 1 for n in at):
        raise FaultsError(f"{where}: at {at!r} is not a list of frame numbers, the first being 1")
    return Fault(float(probability), frozenset(at), float(seconds))
