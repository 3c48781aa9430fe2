"""Parameter sets that the record of a run names."""

from __future__ import annotations

from drivers.errors import ParameterError
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder


def set_of(dataset: Dataset, space: ParameterSpace, digest: str | None) -> ParameterSet | None:
    """The parameter set of a hash, from the captures that were made with it; None for None.

    Raises:
        RunError: there is no such capture.
    """
    if digest is None:
        return None
    if digest == space.defaults.hash:
        return space.defaults
    codes = next((c.codes for c in dataset.captures() if c.parameters_hash == digest), None)
    if codes is None:
        raise RunError(f"no capture was made with the parameter set {digest[:12]} that the run started from")
    return space.from_codes(codes)


def expert_of(dataset: Dataset, space: ParameterSpace, run: RunFolder) -> ParameterSet | None:
    """The expert's set that a tuning began with; records of older versions say its hash alone.

    Raises:
        RunError: it is damaged, or no capture has the set of that hash.
    """
    codes = run.config.get("expert_codes")
    if codes is None:
        return set_of(dataset, space, run.config.get("expert"))
    try:
        return space.from_codes(codes)
    except (ParameterError, TypeError, ValueError) as error:
        raise RunError(
            f"run {run.name}: the expert's set in its record is damaged ({error}); put the file back"
        ) from error
