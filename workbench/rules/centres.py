"""A rule as something to collect and to measure around: what it gives for each RAW, and which rule it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import read_regular
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.lab.run_record import RECORD_BYTES
from workbench.lab.runs import RunFolder, find_run
from workbench.rules.tuned import sets_of


@dataclass(frozen=True)
class Centres:
    """A rule that gives a parameter set for each RAW.

    Attributes:
        rule: name of the ``tune`` run.
        digest: SHA-256 of what the run found.
        sets: what it gives for each of some RAWs, in a device's space.
    """

    rule: str
    digest: str
    sets: Callable[[ParameterSpace, Sequence[RawRecord]], Sequence[ParameterSet]]


def find_centres(lab: Path, name: str | None) -> Centres:
    """The rule of the ``tune`` run of that name or path, by default the newest.

    Raises:
        RunError: there is no such run, or its file cannot be read.
    """
    return centres_of(find_run(lab, "tune", name))


def centres_of(run: RunFolder) -> Centres:
    """The rule of a ``tune`` run.

    Raises:
        RunError: the run's file cannot be read.
    """
    file = run.path / Path(str(run.results.get("file"))).name
    try:
        content = read_regular(file, RECORD_BYTES)
    except OSError as error:
        raise RunError(
            f"{file}: cannot be read ({error.strerror or error}); put the file back, or tune again"
        ) from error
    if setting := run.config.get("setting"):  # which a table's own file holds, a set's does not
        content += json.dumps(setting, sort_keys=True).encode()
    return Centres(run.name, hashlib.sha256(content).hexdigest(), lambda space, raws: sets_of(run, space, raws))
