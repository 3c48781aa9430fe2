"""An agent kit: parameters and one function make a device of the wire protocol; see docs/how-to/own-isp.md.

What a device has to do by PROTOCOL.md is written here once; the emulated device is built on it too. An agent needs
pyzmq, msgpack and numpy; on a serial line cobs as well, and pyserial where the line is a port.
"""

from drivers.agent.kit import Agent
from drivers.agent.own_parameters import bands, choice, continuous, curve, integer, matrix, switch, table
from drivers.parameter import Parameter, Register
from drivers.plain_pictures import PictureOutput
from drivers.raw_input import RawInput
from drivers.vectors import Statistic

__all__ = [
    "Agent",
    "Parameter",
    "PictureOutput",
    "RawInput",
    "Register",
    "Statistic",
    "bands",
    "choice",
    "continuous",
    "curve",
    "integer",
    "matrix",
    "switch",
    "table",
]
