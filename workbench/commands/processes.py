"""``--devices N --nodes M``: a command on N processes of each of M hosts, started and watched by torch's launcher.

Every process runs the same command line; the first one alone writes and prints. When one ends before its time, the
launcher ends the others, and the command ends with one line.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import RunError, StoppedError

DevicesOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes on this host: one a GPU, or several on a CPU.")
]
NodesOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Hosts that train together; each runs this command, with --rendezvous.")
]
RendezvousOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="With --nodes: where they meet, a free port of one of them."),
]
MixedOption = Annotated[bool, typer.Option("--mixed-precision", help="Train in bfloat16 where that is safe; GPU only.")]
MEETING_S = 600
ENDING_S = 10
"""Seconds after which a process that does not end when told to is killed."""


def on_processes(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator of a command with the options ``devices``, ``nodes`` and ``rendezvous``."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        # Who calls the command as a function may leave them out.
        devices, nodes, rendezvous = options.get("devices", 1), options.get("nodes", 1), options.get("rendezvous")
        if (nodes > 1) != bool(rendezvous):
            raise typer.BadParameter("--nodes and --rendezvous go together: hosts meet at a port of one of them")
        if "TORCHELASTIC_RUN_ID" in os.environ:
            with _as_one_of_them():
                command(**options)
        elif devices * nodes > 1:
            launch(devices, nodes, rendezvous, "-m", "workbench.cli", *sys.argv[1:])
        else:
            command(**options)

    return run


@contextlib.contextmanager
def _as_one_of_them() -> Iterator[None]:
    """In a process that the launcher started: what fails is told to the launcher, which has the last word."""
    from drivers import ranks

    if os.environ["RANK"] != "0":
        with Path(os.devnull).open("w") as nowhere:
            for stream in (1, 2):
                os.dup2(nowhere.fileno(), stream)
    try:
        ranks.join()
        yield
        ranks.leave()
    except ranks.OtherDoneError:
        ranks.leave()
    except Exception as error:
        from drivers.errors import WorkbenchError

        line = str(error) if isinstance(error, WorkbenchError) else ""
        told = {"message": line, "extraInfo": {"py_callstack": repr(error), "timestamp": str(int(time.time()))}}
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": told}), encoding="utf-8")
        sys.stdout.flush()
        # Not through the interpreter's end: the group's threads may wait for the others there.
        os._exit(1)


def launch(devices: int, nodes: int, rendezvous: str | None, *arguments: str) -> None:
    """Run Python with these arguments in so many processes, to their end.

    Raises:
        RunError: one of them failed; the others were ended.
        StoppedError: Ctrl-C.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=devices,
        run_id="workbench" if rendezvous else uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        rdzv_configs={"join_timeout": MEETING_S, "timeout": MEETING_S},
        max_restarts=0,
        shutdown_timeout=ENDING_S,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // devices, 1)))
    logging.disable(logging.CRITICAL)  # the launcher's own words; the line below says it all
    again = "run the same command again"
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except SignalException:
        raise StoppedError(f"what training kept is kept; {again}") from None
    except ChildFailedError as error:
        raise RunError(_why(error.failures) + f"; {again}") from None
    except RendezvousError as error:
        raise RunError(f"the hosts did not meet at {rendezvous}: {error}; see that the port is free there") from None
    finally:
        logging.disable(logging.NOTSET)


def _why(failures: dict[int, Any]) -> str:
    """What ended the processes: a signal before an error of the command, that before what follows from the others'."""

    def weight(failure: Any) -> int:
        if failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM:
            return 0
        return 1 if _line(failure) else 2

    rank, first = min(failures.items(), key=lambda pair: (weight(pair[1]), pair[0]))
    if line := _line(first):
        return line
    if first.exitcode < 0:
        return f"process {rank} was ended by {signal.Signals(-first.exitcode).name}, and the others with it"
    told = first.error_file_data.get("message", {})
    reason = told.get("extraInfo", {}).get("py_callstack", "") if isinstance(told, dict) else ""
    return f"process {rank} failed: {' '.join(reason.split())[:300] or f'exit code {first.exitcode}'}"


def _line(failure: Any) -> str:
    told = failure.error_file_data.get("message", {})
    return str(told.get("message", "")) if isinstance(told, dict) else ""
