"""The data set of a lab: RAWs, references and captures, kept for ever (``lab/dataset.sqlite`` and ``lab/blobs/``)."""

from workbench.dataset.records import CaptureRecord, DeviceUse, FailureRecord, NewRaw, RawRecord
from workbench.dataset.store import Dataset

__all__ = ["CaptureRecord", "Dataset", "DeviceUse", "FailureRecord", "NewRaw", "RawRecord"]
