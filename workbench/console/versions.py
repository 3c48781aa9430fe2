"""Which workbench this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def workbench_version() -> str:
    """The version of the installed package, or ``not installed``."""
    try:
        return version("isp-workbench")
    except PackageNotFoundError:
        return "not installed"
