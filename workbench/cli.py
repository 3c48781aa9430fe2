"""Entry point of the ``workbench`` command: registers the commands and turns every error into one line."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from typing import Annotated, Any

import typer

from drivers.errors import WorkbenchError
from drivers.foreign_text import shown
from workbench.console import terminal
from workbench.errors import StoppedError

# What the framework raises for bad usage; typer has no public name for it.
_REFUSED: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="workbench",
    help="Predict the parameters of an image signal processor for each RAW image, with the hardware in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    # Brackets in help texts are text, such as [devices] of a lab.toml.
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)


def _print_version(asked: bool) -> None:
    if asked:
        from workbench.console.versions import workbench_version

        print(f"isp-workbench {workbench_version()}")
        raise typer.Exit


def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
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
        from workbench.lab import trust

        trust.allow(trusted)


def _register() -> None:
    import workbench.commands as commands

    app.callback()(_every_command)
    commands.register(app, sys.argv[1:])


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error in one line, 2 bad usage, 130 stopped by Ctrl-C."""
    _open_streams()
    # No command opens a window. A notebook's own backend, which its `!workbench …` hands on, may not be installed here.
    os.environ.pop("MPLBACKEND", None)
    before, threading.excepthook = threading.excepthook, _thread_failed
    try:
        with terminal.guarded():
            code = _run()
    finally:
        threading.excepthook = before
    sys.exit(code)


def _open_streams() -> None:
    """Where the program was started without stdin, stdout or stderr, the null device stands for it.

    Else the next file that is opened gets that number, and what a library prints goes into the data set.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _run() -> int:
    try:
        _register()
        code = app(standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except StoppedError as stop:
        return _end(f"stopped: {stop}", 130)
    except KeyboardInterrupt as error:
        # Ctrl-C once more while a stopped command closes what it had open.
        before = error.__context__
        return _end(f"stopped: {before}" if isinstance(before, StoppedError) else "stopped", 130)
    except BrokenPipeError:
        _drop_stdout()
        return 1
    except _REFUSED as error:
        return _bad_usage(error)
    except typer.Abort:
        return _end("error: not confirmed", 1)
    except WorkbenchError as error:
        return _end(f"error: {error}", 1)
    except OSError as error:
        return _end(f"error: {_system_error(error)}", 1)
    except Exception as error:
        return _end(f"error: {_unforeseen(error)}", 1)
    if code == 130:  # how the framework hands on a KeyboardInterrupt
        return _end("stopped", 130)
    return code if isinstance(code, int) else 0


def _unforeseen(error: BaseException) -> str:
    """One line; what it takes is loaded here, where it may be too late for that."""
    try:
        from workbench.console import last_resort
    except Exception:
        return f"unexpected {type(error).__name__}"
    return last_resort.told(error)


def _end(line: str, code: int) -> int:
    with contextlib.suppress(OSError, AttributeError):  # stderr is closed, or there is none
        print(shown(line), file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        _drop_stdout()
    return code


def _drop_stdout() -> None:
    """Nobody reads it any more, or it cannot be written: nothing is said of that once more at the exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bad_usage(error: Any) -> int:
    """Usage and where help is, then the reason in one line."""
    context = error.ctx if hasattr(error, "ctx") else None
    message = error.format_message()
    if context is not None and not message.strip().startswith("Usage:"):
        print(context.get_usage(), file=sys.stderr)
        print(f"Try '{context.command_path} --help' for help.", file=sys.stderr)
    elif context is not None:  # no command given: the message is the help
        print(message, file=sys.stderr)
        message = "no command given"
    return _end(f"error: {' '.join(message.split())}", error.exit_code)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """A thread ended by an error that nobody foresaw; without this its trace would be printed."""
    if failed.exc_value is not None and failed.exc_type is not SystemExit:
        with contextlib.suppress(OSError, AttributeError):
            print(shown(f"note: a thread ended: {_unforeseen(failed.exc_value)}"), file=sys.stderr, flush=True)


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
