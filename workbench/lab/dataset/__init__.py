"""The data set of a lab: RAWs, references and captures, kept for ever (``lab/dataset.sqlite`` and ``lab/blobs/``)."""

from workbench.lab.dataset.records import CaptureRecord, DeviceUse, FailureRecord, KnownDevice, NewRaw, RawRecord
from workbench.lab.dataset.store import Dataset

__all__ = ["CaptureRecord", "Dataset", "DeviceUse", "FailureRecord", "KnownDevice", "NewRaw", "RawRecord"]
