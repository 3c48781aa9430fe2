"""References that another ISP renders from the very RAWs, with settings of an expert: one set, or a table over ISO.

The as-shot white balance of each RAW sets the gains, where the device has parameters of those roles, as a camera does.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tomlkit

from drivers.device import Device, Failure
from drivers.errors import DeviceError, ParameterError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import read_toml
from workbench.collect.failures import FailureTally
from workbench.collect.keeping import judged
from workbench.errors import RunError
from workbench.rules.balance import WhiteBalance
from workbench.rules.industry import IndustryTable

_ONE_KNOT = 100.0


def load_settings(path: Path, space: ParameterSpace) -> IndustryTable:
    """The settings of a file: a parameter set (TOML), a table over ISO (TOML), or a tuned one (``table.json``).

    Raises:
        ParameterError: it cannot be read, or a set is none of this space.
        RunError: it is a damaged ``table.json``, or one of another space.
    """
    if path.suffix.lower() == ".json":
        table = IndustryTable.load(path)
        if table.space.hash != space.hash:
            raise RunError(
                f"{path}: is a table of {shown(table.space.name)}, {len(table.space)} parameters, not of "
                f"{shown(space.name)} with {len(space)}; give one tuned on this device"
            )
        return table
    try:
        document = read_toml(path)
    except OSError as error:
        raise ParameterError(f"{path}: cannot read the settings: {error.strerror}") from error
    except ValueError:
        document = {}  # the set's own reader says what is wrong
    if "knot" in document:
        return _table(document, space, path)
    return one_set(space.load_toml(path))


def one_set(parameters: ParameterSet) -> IndustryTable:
    """The same set for every ISO; as-shot white balance sets the gains."""
    return IndustryTable(parameters.space, (_ONE_KNOT,), (parameters,))


def _table(document: dict[str, Any], space: ParameterSpace, path: Path) -> IndustryTable:
    knots, white_balance = document["knot"], document.get("white_balance", "as-shot")
    if unknown := sorted(set(document) - {"knot", "white_balance"}):
        raise ParameterError(f"{path}: {shown(unknown[0])} stands beside [[knot]]; put parameters into a knot")
    if white_balance not in get_args(WhiteBalance):
        raise ParameterError(
            f"{path}: white_balance {shown(white_balance)} is not one of {', '.join(get_args(WhiteBalance))}"
        )
    if not knots or not isinstance(knots, list) or not all(isinstance(k, dict) for k in knots):
        raise ParameterError(f"{path}: knots are written as [[knot]], each with its iso and its parameters")
    sets: dict[float, ParameterSet] = {}
    for number, knot in enumerate(knots, start=1):
        iso = knot.pop("iso", None)
        if (
            isinstance(iso, bool)
            or not isinstance(iso, int | float)
            or not 0 < iso < 1e9
            or iso <= max(sets, default=0)
        ):
            raise ParameterError(f"{path}: knot {number}: iso {shown(iso)} is no number above 0 and the knot before")
        sets[float(iso)] = space.from_toml(tomlkit.dumps(knot), f"{path}: knot at ISO {iso:g}")
    return IndustryTable(space, tuple(sets), tuple(sets.values()), white_balance)


class ReferenceIsp:
    """A device that renders references: what :func:`sim.scenes.scene_set.make_scene_set` takes as ``references``."""

    def __init__(self, device: Device, table: IndustryTable) -> None:
        """The device has the table's space.

        Raises:
            DeviceError: it is live, and takes no stored RAW.
        """
        info = device.info()
        if info.live:
            raise DeviceError(f"{device.url}: a live device takes no stored RAW and can render no reference")
        self.device, self.table = device, table
        knots = [{"iso": k, "parameters": s.values} for k, s in zip(table.knots, table.sets, strict=True)]
        settings = {"white_balance": table.white_balance, "knots": knots}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self._record = {"device": info.identity, "settings": digest, **settings}

    @property
    def record(self) -> dict[str, Any]:
        """Who renders and how, as JSON: the device's identity, a digest of the settings, and the settings."""
        return self._record

    def render_many(self, raws: Iterable[RawFrame]) -> Iterator[np.ndarray | None]:
        """The device's output for each RAW, ``uint8 [H, W, 3]``; None of one that failed.

        Raises:
            DeviceError: a frame failed (at the end, or where too many did), or the device went away.
        """
        asked: deque[RawFrame] = deque()
        tally = FailureTally()

        def jobs() -> Iterator[tuple[RawFrame, ParameterSet]]:
            for raw in raws:
                asked.append(raw)
                yield raw, self.table.parameters_for(raw)

        for answer in self.device.process_many(jobs()):
            raw = asked.popleft()
            outcome = judged(answer, raw.width, raw.height)
            if isinstance(outcome, Failure):
                tally.add(outcome.code, outcome.reason, f"RAW {shown(raw.source)}")
                if tally.too_many:
                    break
                yield None
            else:
                tally.made()
                yield outcome.rgb.pixels
        if tally.failed:
            raise DeviceError(
                f"{self.device.url}: {tally.told('references')}; mend the device, or give other settings for another "
                "folder; the others are kept, and the same command asks for these again"
            )
