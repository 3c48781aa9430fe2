"""Darknet's ``.weights`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drivers.foreign_text import shown
from drivers.regular_files import read_regular
from workbench.tasks.detectors import DetectorError

_MOST_WEIGHTS = 1 << 29
"""Two GiB: eight times YOLOv3's."""
_HEADER = 20


def read_weights(path: Path, needed: int) -> np.ndarray:
    """The numbers of a ``.weights`` file, ``float32 [needed]``; its header is three or four words and a count.

    Raises:
        DetectorError: it cannot be read, is of another length, or holds what is not finite.
    """
    if needed > _MOST_WEIGHTS:
        raise DetectorError(f"{shown(path)}: the .cfg needs {needed:,} weights; at most {_MOST_WEIGHTS:,} are read")
    try:
        found = path.stat().st_size if path.is_file() else 0
        # What is too long is refused by its size, before it is read; what is no file, by reading it.
        data = read_regular(path, 4 * needed + _HEADER) if found <= 4 * needed + _HEADER else b""
    except OSError as error:
        raise DetectorError(
            f"{shown(path)}: cannot read the Darknet weights: {error.strerror}; put them beside the .cfg"
        ) from error
    version = data[:8] if data else _start(path)
    if len(version) < 8:
        raise DetectorError(f"{shown(path)}: too short to be Darknet weights ({found} bytes)")
    major, minor = (int(v) for v in np.frombuffer(version, "<i4"))
    # Images seen: 64 bits from version 0.2 on.
    header = _HEADER if major * 10 + minor >= 2 and 0 <= major < 1000 and 0 <= minor < 1000 else 16
    if found - header != 4 * needed:
        kind = "short" if found - header < 4 * needed else "long"
        raise DetectorError(
            f"{shown(path)}: too {kind}: {(found - header) / 4:.10g} weights, the .cfg needs {needed} "
            f"({found:,} bytes instead of {4 * needed + header:,}); give the .weights file that belongs to this .cfg"
        )
    values = np.frombuffer(data, "<f4", needed, header)
    if not np.isfinite(values).all():
        raise DetectorError(f"{shown(path)}: holds weights that are not finite; the file is damaged")
    return values.astype(np.float32)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)
