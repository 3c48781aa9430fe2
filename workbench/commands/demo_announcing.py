"""Each step of a demo, announced with the command that does the same."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.console import terminal
from workbench.lab.runs import RunFolder

Options = Mapping[str, Any]


class Steps:
    """Announces each step of a demo with the command that does the same, and does it unless its run is finished.

    Args:
        begin: :func:`time.monotonic` at the start of the demo.
    """

    def __init__(self, begin: float) -> None:
        self._begin = begin

    def __call__(self, what: str, command: str, work: Callable[..., Any], options: Options) -> None:
        """One step: what it does, the command and its function with the same options; those that are None are left out.

        ``name`` is that of the run that it leaves in ``lab``, ``folder`` the command's argument.
        """
        given = {key: value for key, value in options.items() if value is not None}
        self.tell(what)
        print(f"$ workbench {shlex.join([*command.split(), *_words(given)])}")
        run = given["lab"] / "runs" / given["name"] if "name" in given else None
        if run is not None and finished(run):
            print(f"already done: {run}")
        else:
            work(**given)

    def tell(self, what: str) -> None:
        """Announce what is done next, with the time since the start."""
        terminal.console().print(f"\n[{time.monotonic() - self._begin:4.0f} s] {what}", style="bold", soft_wrap=True)


def finished(run: Path) -> bool:
    """Whether a run of that folder came to its end."""
    return (run / "run.json").is_file() and RunFolder.open(run).finished


def _words(options: Options) -> list[str]:
    """Options as they are typed."""
    words = [str(options["folder"])] if "folder" in options else []
    for key, value in options.items():
        flag = f"--{key.replace('_', '-')}"
        if key == "folder":
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words
