"""Whether a lab folder still is where it was opened: renamed, deleted or replaced, its parts would drift apart.

The database stays open whatever happens to its name, files are written by name. So before anything is written, and
again before it is committed, the names must lead to what they led to.
"""

from __future__ import annotations

from pathlib import Path

from workbench.errors import DatasetError


class Place:
    """The paths of a data set, and what they led to when first seen."""

    def __init__(self, lab: Path, *parts: Path) -> None:
        self._lab = lab
        self._paths = (lab, *parts)
        self._seen: dict[Path, tuple[int, int]] = {}

    def check(self) -> None:
        """See that every path leads to what it led to; one that was not there before may have come.

        Raises:
            DatasetError: one leads elsewhere or nowhere now.
        """
        for path in self._paths:
            now, before = _identity(path), self._seen.get(path)
            if before is None and now is not None:
                self._seen[path] = now
            elif before != now:
                what = "is gone" if now is None else "is another one now"
                raise DatasetError(
                    f"{path}: {what}: {self._lab} was renamed, deleted or replaced while this ran; what was reported "
                    "is in the folder of before: name that with --lab and run the same command again"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
