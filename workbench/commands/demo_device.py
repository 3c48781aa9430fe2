"""The emulated device of a demo, in a process of its own."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

from workbench.errors import RunError

PROFILE = "sim20"
START_DEADLINE_S = 60.0


@contextlib.contextmanager
def emulated_device(profile: str = PROFILE) -> Iterator[str]:
    """Serve the emulated device in a process of its own for the length of the block; gives its URL.

    Raises:
        RunError: it did not start before the deadline.
    """
    command = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--profile", profile, "--zmq", "127.0.0.1:0"]
    # Its standard input is a pipe from here: closed by this program's end, even one that it could not prepare for.
    command += ["--until-stdin-closes"]
    # A process group of its own: Ctrl-C is for the bench, which still has frames to take from the device.
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, **streams, **apart) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        try:
            line = lines.get(timeout=START_DEADLINE_S)
            yield next(word for word in line.split() if word.startswith("zmq://"))
        except (queue.Empty, StopIteration) as error:
            raise RunError(f"the emulated device did not start within {START_DEADLINE_S:g} s: {command}") from error
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _pass_on(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
