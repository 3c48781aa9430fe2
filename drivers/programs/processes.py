"""Programs that are run to their end: with a time limit, a bound for what they write, and nothing left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from drivers.errors import DeviceError, DeviceUnreachableError

_LOOK_S = 0.2
_TAIL_BYTES = 4096


class ProgramError(DeviceError):
    """A program that failed, was ended, or left something that is no picture of the RAW; ``code``: as in failures."""

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class Processes:
    """The processes of one call, so that all of them can be ended with everything that they started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(
        self, command: list[str], folder: Path, environment: dict[str, str], limit_s: float, most: int, what: str
    ) -> int:
        """Run to the end; stdout and stderr go to files in the folder. Gives the exit code.

        It is ended where its folder grows above ``most`` bytes, and what it started and left running is ended with it.
        """
        # Files and not pipes: nobody has to read along, and a grandchild that lives on holds nothing open.
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            with self._lock:
                if self._stopped:
                    raise DeviceError(f"{what}: the device was closed")
                try:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        cwd=folder,
                        env=environment,
                        start_new_session=True,
                    )
                except (OSError, ValueError) as error:  # ValueError: a zero byte or the like in the recipe's text
                    reason = error.strerror if isinstance(error, OSError) else error
                    raise DeviceUnreachableError(f"{what}: {command[0]} does not start: {reason}") from error
                self._running.add(process)
            try:
                code = _wait(process, limit_s, folder, most, what)
            except subprocess.TimeoutExpired:
                raise ProgramError(
                    f"{what}: {Path(command[0]).name} did not end within {limit_s:g} s and was ended: "
                    f"{last_words(folder)}; ?deadline=SECONDS in the URL, or "
                    "a higher time_limit_s in the recipe, gives it longer"
                ) from None
            finally:
                with self._lock:
                    self._running.discard(process)
                    _kill_tree(process)
        if self._stopped:
            raise DeviceError(f"{what}: the device was closed")
        return code

    def stop(self) -> None:
        """End what runs and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill_tree(process)


def _wait(process: subprocess.Popen[bytes], limit_s: float, folder: Path, most: int, what: str) -> int:
    """The exit code. A full disk would stop more than this program, so its folder is looked at while it runs."""
    end = time.monotonic() + limit_s
    while True:
        left = end - time.monotonic()
        try:
            return process.wait(max(min(left, _LOOK_S), 0))
        except subprocess.TimeoutExpired:
            if left <= _LOOK_S:
                raise
        if (size := _disk_bytes(folder)) > most:
            name = Path(process.args[0]).name  # type: ignore[index, arg-type]
            raise ProgramError(f"{what}: {name} wrote {size:,} bytes, at most {most:,} may be, and was ended")


def _disk_bytes(folder: Path) -> int:
    """Bytes that the folder's files take on the disk; what vanishes meanwhile is not counted."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = (Path(place) / name).lstat()
                total += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
    return total


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process, and all that it started and that may outlive it."""
    if sys.platform == "win32":
        if process.poll() is None:
            taskkill = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(taskkill, capture_output=True, timeout=30, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def tail(path: Path, count: int = _TAIL_BYTES) -> str:
    """The last bytes of a file as text; empty where there is none."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - count, 0))
        return stream.read(count).decode("utf-8", "replace")
    return ""


def last_words(folder: Path) -> str:
    """The last lines that the program wrote to stderr and stdout: programs do not agree where an error goes."""
    said = []
    for name in ("stderr", "stdout"):
        lines = ["".join(c if c.isprintable() else " " for c in s).strip() for s in tail(folder / name).splitlines()]
        if kept := [line for line in lines if line]:
            said.append(f"{name} ends with {kept[-1][:300]!r}")
    return " and ".join(said) or "it printed nothing"
