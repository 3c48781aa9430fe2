"""``workbench device new``: a commented start of an agent, for an ISP of one's own."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Annotated

import typer

from drivers.errors import WorkbenchError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}\.py")


class AgentFileError(WorkbenchError):
    """An agent's file that cannot be written."""


def new(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="Python file to write, such as my_isp.py.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a commented start of a device of your own: its parameters and one function, which run as they are."""
    import drivers
    from drivers.agent.kit import DEFAULT_URL

    if not _NAME.fullmatch(file.name):
        raise typer.BadParameter(f"{file.name!r} is not NAME.py of letters, digits, - and _", param_hint="FILE.py")
    model = file.stem.replace("_", "-")
    start = Path(drivers.__file__).parent / "agent" / "examples" / "start.py"
    text = start.read_text(encoding="utf-8").replace("my_isp.py", file.name).replace('"my-isp"', json.dumps(model))
    begun = False
    try:
        with file.open("x", encoding="utf-8") as new_file:
            begun = True
            new_file.write(text)
    except FileExistsError:
        raise AgentFileError(f"{file}: is there already and is not replaced; choose another name") from None
    except OSError as error:
        if begun:  # half of a file would be taken for one that is there already
            with contextlib.suppress(OSError):
                file.unlink()
        raise AgentFileError(f"{file}: cannot be written: {error.strerror or error}") from error
    if as_json:
        print(json.dumps({"file": str(file), "model": model, "url": DEFAULT_URL}))
        return
    print(f"wrote {file}: put your ISP into process(), its parameters into PARAMETERS")
    print(f"serve: python {file}")
    print(f"check: workbench device check {DEFAULT_URL}")
