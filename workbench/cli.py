"""Entry point of the ``workbench`` command: registers the commands and turns foreseen errors into one line."""

from __future__ import annotations

import errno
import sys

import typer

from drivers.errors import WorkbenchError
from workbench.errors import StoppedError

app = typer.Typer(
    name="workbench",
    help="Predict the parameters of an image signal processor for each RAW image, with the hardware in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _register() -> None:
    import workbench.commands as commands

    commands.register(app)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a foreseen error, 2 bad usage, 130 stopped by Ctrl-C."""
    try:
        _register()
        app()
    except StoppedError as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(130)
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        print(f"error: {_system_error(error)}", file=sys.stderr)
        sys.exit(1)


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
