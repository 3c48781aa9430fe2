"""Calls that need boards, on a Ray of this host; run by the test of boards as its resources."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import ray

from workbench.errors import RunError
from workbench.learn.many_runs import Task, call_on_cluster


def use(folder: str, name: str) -> tuple[str, int]:
    """Hold the board ``left``, of which there is one; the first time that ``b`` has it, its worker is lost."""
    held = Path(folder, "held")
    lost = Path(folder, "lost")
    if name == "b" and not lost.exists():
        lost.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with held.open("x"):  # fails where another has the board at the same time
        Path(folder, f"{name}.seen").touch()
    held.unlink()
    return name, os.getpid()


if __name__ == "__main__":
    ray.init(address="local", num_cpus=2, resources={"left": 1}, log_to_driver=False)
    with contextlib.suppress(RunError):
        call_on_cluster("auto", use, {0: Task({}, boards=("right",))}, lambda done: None)
        raise SystemExit("a board that nobody offers was found")
    tasks = {name: Task({"folder": sys.argv[1], "name": name}, gpu=False, boards=("left",)) for name in "abc"}
    done = call_on_cluster("local", use, tasks, lambda done: None)
    assert [name for name, _ in done.values()] == ["a", "b", "c"]
    assert len({process for _, process in done.values()}) == 3
