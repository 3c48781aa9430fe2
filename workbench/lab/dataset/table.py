"""A capture as a row of a table: where it comes from, and its parameters in native units."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.parameters import ParameterSpace
from workbench.lab.dataset.records import CaptureRecord

Cell = str | int | float | bool


def capture_row(
    capture: CaptureRecord, space: ParameterSpace, *, raw: Mapping[str, Cell], output: str
) -> dict[str, Cell]:
    """One row, by column.

    A parameter stands in a column of its name; one that is called as another column is, in upper or lower case, stands
    in ``parameter.NAME``.

    Args:
        capture: the capture; ``space``: of its device.
        raw: columns that say which RAW it is of.
        output: what the table calls the output.
    """
    own: dict[str, Cell] = {
        "id": capture.id,
        **raw,
        "output": output,
        "device": capture.device_identity,
        "boot_id": capture.boot_id,
        "frame": capture.frame,
        "repeat": capture.repeat,
        "purpose": capture.purpose,
        "created": capture.created,
        "device_s": capture.device_s,
        "total_s": capture.total_s,
        "parameters_hash": capture.parameters_hash,
    }
    taken = {column.lower() for column in own}
    values = space.from_codes(capture.codes).values
    return own | {f"parameter.{name}" if name.lower() in taken else name: value for name, value in values.items()}
