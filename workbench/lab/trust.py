"""What runs code of others: programs that a lab's ``lab.toml`` names, modules that a run's record names.

A lab folder may come from anybody. What the user types himself (``--device command:…``, ``--detector module:factory``)
is his own word and remembered; what a lab or a record names is run only where he used it before, says yes at the
terminal, or names it with ``workbench --trust WHAT``. Recipes are remembered by path and content, modules by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from drivers import device_urls
from drivers.errors import WorkbenchError
from drivers.foreign_text import shown
from drivers.regular_files import read_json, read_regular
from workbench.console import user_files

_RECIPE_BYTES = 4 << 20
_named: set[str] = set()


class TrustError(WorkbenchError):
    """A lab or a record names code that the user has not used before."""


def allow(whats: Iterable[str]) -> None:
    """Trust what the user named for this command with ``--trust``: device URLs and ``module:factory``."""
    _named.update(whats)


def runs_code(url: str) -> bool:
    """Whether opening a device of this URL starts a program that its maker chose; shipped recipes do not count."""
    from drivers.programs.recipes import is_shipped

    scheme, recipe, _ = device_urls.parts(url)
    return scheme == "command" and not is_shipped(recipe)


def remember(what: str) -> None:
    """Remember what the user typed himself; where that cannot be written he is asked again, no more."""
    known, key = _known(), _key(what)
    if key in known:
        return
    with contextlib.suppress(OSError, RuntimeError):
        user_files.write_private(_file(), json.dumps(sorted({*known, key}), indent=1).encode())


def require(what: str, where: str) -> None:
    """See that the user trusts what a lab or a record names.

    Args:
        what: a device URL or ``module:factory``.
        where: what names it, for the message.

    Raises:
        TrustError: he has not used it before and does not say yes.
    """
    if what in _named:
        remember(what)
        return
    if _key(what) in _known():
        return
    question = f"{where} would run {shown(what)}, which you have not used before"
    if sys.stdin.isatty() and sys.stderr.isatty():
        import typer

        if typer.confirm(f"{question}. Run it?", default=False, err=True):
            remember(what)
            return
    raise TrustError(f"{question}; if you trust it, say so: workbench --trust {shown(what)} …")


def _key(what: str) -> str:
    """What is remembered: of a recipe its path and content, so that a changed one is asked for anew."""
    if not what.startswith("command:"):
        return what
    path = Path(device_urls.parts(what)[1]).expanduser()
    try:
        digest = hashlib.sha256(read_regular(path, _RECIPE_BYTES)).hexdigest()
    except OSError:
        digest = "unreadable"
    return f"command:{path.absolute()} {digest}"


def _known() -> set[str]:
    try:
        data = read_json(_file())
    except (OSError, ValueError, RuntimeError):
        return set()
    return {item for item in data if isinstance(item, str)} if isinstance(data, list) else set()


def _file() -> Path:
    """``trusted.json`` among the user's settings."""
    return user_files.config_folder() / "trusted.json"
