"""Which workbench this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def workbench_version() -> str:
    """The version of the installed package, or ``not installed``."""
    try:
        return version("isp-workbench")
    except PackageNotFoundError:
        return "not installed"
