"""Files of this user that belong to no lab: where they lie, and how they are written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from drivers.atomic_files import write_bytes

_PROGRAM = "isp-workbench"


def config_folder() -> Path:
    """Settings: ``$XDG_CONFIG_HOME/isp-workbench``, by default ``~/.config/isp-workbench``; ``%APPDATA%`` on Windows.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return _folder("XDG_CONFIG_HOME", ".config", "APPDATA")


def state_folder() -> Path:
    """Traces: ``$XDG_STATE_HOME/isp-workbench``, by default ``~/.local/state/isp-workbench``; ``%LOCALAPPDATA%``.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return _folder("XDG_STATE_HOME", ".local/state", "LOCALAPPDATA")


def _folder(variable: str, default: str, windows: str) -> Path:
    named = os.environ.get(variable) or (os.environ.get(windows) if sys.platform == "win32" else None)
    # The XDG specification: a path that is not absolute is not to be used.
    base = Path(named) if named and Path(named).is_absolute() else Path.home() / default
    return base / _PROGRAM


def write_private(path: Path, data: bytes) -> None:
    """Put a file in place that only this user can read, whole or not at all; its folder is made.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(path, data, private=True)
