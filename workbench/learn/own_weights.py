"""Weights are opened only where they are the file that their run wrote: else its record says nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.weights import FILE_NAME, WeightsError, file_digest
from workbench.lab.runs import RunFolder

if TYPE_CHECKING:
    from proxy.files import LoadedProxy


def check_own(run: RunFolder) -> None:
    """See that the weights in a run's folder are the file that it wrote; runs of older versions do not tell.

    Raises:
        WeightsError: they are another file, or cannot be read.
    """
    if run.results.get("weights_sha256") not in (None, file_digest(run.path / FILE_NAME)):
        raise WeightsError(
            f"{run.path / FILE_NAME}: is not the file that the run wrote, so its record says nothing of it; put that "
            "file back"
        )


def open_proxy(run: RunFolder) -> LoadedProxy:
    """The proxy of a ``fit-proxy`` run.

    Raises:
        WeightsError: the weights are missing, damaged, no proxy's, or another file than the run wrote.
    """
    from proxy.files import load_proxy

    loaded = load_proxy(run.path)
    check_own(run)
    return loaded
