"""What nobody foresaw: one line for the user, the full trace in a file of the user's own."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import tempfile
import time
import traceback
from pathlib import Path

from drivers.foreign_text import shown
from workbench.console import user_files
from workbench.console.versions import workbench_version

KEPT = 20
"""Traces that are kept; older ones make room."""
LONGEST = 1 << 20
"""Characters of a trace at most; the middle is left out."""
_REASON = 300
_SECRET = re.compile(r"(secret[-_ ]?key\W{1,6})[^\s\"']{8,}", re.IGNORECASE)


def told(error: BaseException) -> str:
    """One line about an error that was not foreseen, after its trace was written; never raises an error itself."""
    try:
        reason = shown(" ".join(str(error).split()))[:_REASON]
    except Exception:  # a foreign class, or no memory left
        reason = ""
    start = f"unexpected {type(error).__name__}{f': {reason}' if reason else ''}"
    try:
        file = _write(_trace(error))
    except Exception as failure:  # no disk, no memory: the line must come all the same
        return f"{start}; the full trace could not be written ({type(failure).__name__}); please report it"
    return f"{start}; the full trace is in {file}; please report it"


def _trace(error: BaseException) -> str:
    """Versions and the stack. No values of variables, no arguments, no environment: they may hold secrets."""
    head = f"isp-workbench {workbench_version()}, Python {platform.python_version()}, {platform.platform()}\n\n"
    text = _SECRET.sub(r"\1…", "".join(traceback.format_exception(error)))
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}\n…\n{text[-LONGEST // 2 :]}"
    return head + text


def _write(text: str) -> Path:
    data, stamp = text.encode("utf-8", "backslashreplace"), time.strftime("%Y%m%d-%H%M%S")
    try:
        folder = user_files.state_folder() / "traces"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _new_file(folder, stamp, data)
    except (OSError, RuntimeError):
        return _new_file(Path(tempfile.gettempdir()), f"isp-workbench-{stamp}", data)
    for old in sorted(folder.glob("trace-*.txt"))[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return file


def _new_file(folder: Path, stamp: str, data: bytes) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"trace-{stamp}-", suffix=".txt", dir=folder)  # mode 0600
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    return Path(name)
