"""The errors that the bench foresees. Each message names the thing, the value and the next step."""


class WorkbenchError(Exception):
    """Something the bench foresaw: shown to the user as one line, exit code 1."""


class ParameterError(WorkbenchError):
    """A parameter that is unknown, missing, of the wrong kind or out of its range."""


class FrameError(WorkbenchError):
    """A RAW or RGB frame that cannot be read or does not agree with its description."""


class DeviceError(WorkbenchError):
    """A device that refused, answered wrongly or failed."""


class DeviceUnreachableError(DeviceError):
    """A device that cannot be reached or did not answer before the deadline."""


class DeviceChangedError(DeviceError):
    """A device that is another one than at the start, or says something else of itself on which proof rests."""


class ProtocolError(DeviceError):
    """A message that breaks the wire protocol (see PROTOCOL.md)."""
