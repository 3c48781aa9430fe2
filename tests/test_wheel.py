"""The wheel is whole: installed elsewhere, its commands run and every file that they read is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("drivers", "sim", "proxy", "predictor", "workbench")
USE = """
import sys
from pathlib import Path

import drivers, workbench
from workbench.lab.dataset import Dataset
from workbench.tasks.detectors import open_detector

assert all(Path(p.__file__).is_relative_to(sys.prefix) for p in (drivers, workbench)), workbench.__file__
with Dataset.open(Path(sys.argv[1]), create=True) as dataset:
    assert not list(dataset.raws())
print(open_detector("offline:mask-rcnn").name)
"""


def run(*words: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(w) for w in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{words[0]}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout


def test_a_wheel_installed_elsewhere_has_all_it_needs(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    run(*wheel, "-w", tmp_path, source, cwd=tmp_path)
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=tmp_path)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # What it depends on are this environment's packages, without the project itself, which is there as a link.
    folder = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (folder / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (file,) = tmp_path.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q"]
    run(*install, "--force-reinstall", "--prefix", place, file, cwd=tmp_path)

    missing = [
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file() and not (folder / path.relative_to(source)).is_file()
    ]
    assert missing == []
    command = python.parent / "workbench"
    assert "hardware in the loop" in run(command, "--help", cwd=tmp_path)
    assert "--task" in run(command, "demo", "--help", cwd=tmp_path)
    assert "sim20" in run(command, "device", "info", "sim:sim20", cwd=tmp_path)
    assert run(python, "-c", USE, tmp_path / "lab", cwd=tmp_path).strip()
