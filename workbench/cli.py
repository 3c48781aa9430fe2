"""Entry point of the ``workbench`` command: registers the commands and turns foreseen errors into one line."""

from __future__ import annotations

import errno
import io
import os
import shlex
import sys
import tempfile
import traceback
from typing import Annotated

import typer

from drivers.errors import WorkbenchError
from drivers.foreign_text import shown
from workbench.errors import StoppedError

app = typer.Typer(
    name="workbench",
    help="Predict the parameters of an image signal processor for each RAW image, with the hardware in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _every_command(
    trusted: Annotated[
        list[str] | None,
        typer.Option(
            "--trust",
            metavar="WHAT",
            help="Run what a lab or a record names, such as command:ISP.toml or package.module:factory; once said, "
            "it is remembered.",
        ),
    ] = None,
) -> None:
    if trusted:
        from workbench import trust

        trust.allow(trusted)


def _register() -> None:
    import workbench.commands as commands

    app.callback()(_every_command)
    commands.register(app)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error, 2 bad usage, 130 stopped by Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        # What a console's code page or a file name that is no UTF-8 has no sign for is written as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _register()
        app()
    except StoppedError as stop:
        print(f"stopped: {shown(stop)}", file=sys.stderr)
        sys.exit(130)
    except WorkbenchError as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        print(f"error: {shown(_system_error(error))}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        print(f"error: {shown(_unforeseen(error))}", file=sys.stderr)
        sys.exit(1)


def _unforeseen(error: Exception) -> str:
    """One line of an error that nobody foresaw, and where its trace lies."""
    reason = (str(error).splitlines() or [""])[0][:200]
    what = f"unforeseen {type(error).__name__}{f': {reason}' if reason else ''}"
    try:
        # Only its user can read the file: a trace names paths and devices.
        handle, name = tempfile.mkstemp(prefix="workbench-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{shlex.join(sys.argv)}\n{sys.version}\n\n")
            file.write("".join(traceback.format_exception(error)))
    except (OSError, RecursionError, MemoryError) as failed:
        return f"{what}; its trace could not be written ({failed}); please report it with the command that you gave"
    return f"{what}; please report it with the full trace, which is in {name}"


def _system_error(error: OSError) -> str:
    """What the system refused, as one line with the next step where there is one."""
    steps = {
        errno.ENOSPC: "free some space and run the same command again",
        errno.EROFS: "make it writable or name another folder",
        errno.EACCES: "make it readable and writable or name another folder",
        errno.EPERM: "make it readable and writable or name another folder",
    }
    parts = [str(error.filename)] if error.filename else []
    text = ": ".join([*parts, error.strerror or str(error)])
    step = steps.get(error.errno or 0)
    return f"{text}; {step}" if step else text


if __name__ == "__main__":
    main()
