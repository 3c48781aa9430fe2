"""What a ``tune`` run gives for each RAW, for those who collect or measure around it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from drivers.regular_files import read_regular
from workbench.collect.around_rule import Centres
from workbench.errors import RunError
from workbench.lab.run_record import RECORD_BYTES
from workbench.lab.runs import RunFolder, find_run
from workbench.tune.results import tune_result
from workbench.tune.rules import sets_of


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
    file = run.path / Path(tune_result(run).file).name
    try:
        digest = hashlib.sha256(read_regular(file, RECORD_BYTES)).hexdigest()
    except OSError as error:
        raise RunError(
            f"{file}: cannot be read ({error.strerror or error}); put the file back, or tune again"
        ) from error
    return Centres(run.name, digest, lambda space, raws: sets_of(run, space, raws))
