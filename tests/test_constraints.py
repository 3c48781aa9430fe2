"""The tested set of versions installs on every Python that pyproject.toml promises."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]


def test_every_pinned_version_takes_the_oldest_python_promised() -> None:
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = promised.removeprefix(">=") + ".0"
    pins = [line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    wanted = {}
    for name in pins:
        try:
            wanted[name] = ",".join(metadata(name).get_all("Requires-Python", []))
        except PackageNotFoundError:  # a pin for another system
            continue
    assert len(wanted) > len(pins) / 2
    assert {name: python for name, python in wanted.items() if oldest not in SpecifierSet(python)} == {}
