"""The data set of a lab: RAWs, references and captures, kept for ever (``lab/dataset.sqlite`` and ``lab/blobs/``)."""

from workbench.dataset.store import CaptureRecord, Dataset, NewRaw, RawRecord

__all__ = ["CaptureRecord", "Dataset", "NewRaw", "RawRecord"]
