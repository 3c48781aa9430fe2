"""Errors of the bench itself; those of devices and frames are in :mod:`drivers.errors`."""

from drivers.errors import WorkbenchError


class DatasetError(WorkbenchError):
    """A data set that is missing, of another schema version, damaged, or cannot be written."""


class RawFolderError(WorkbenchError):
    """A RAW folder or its ``scenes.csv`` that cannot be used."""


class RunError(WorkbenchError):
    """A run, a model file or a study that is missing or does not fit the device or the data set."""


class StoppedError(WorkbenchError):
    """The user stopped a job with Ctrl-C; the message says how to go on. Exit code 130."""
