"""What a validation asks of a device is told before it begins; each part of a job has its own count and rate."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_isp import SmallIsp, make_lab

from workbench.console.progress import Progress
from workbench.judge.methods import NONE, ValidationSettings
from workbench.judge.validation import validate
from workbench.lab.dataset import Dataset


def told(lab: Path, oracle: int) -> list[tuple[str, int]]:
    """The lines, each with how many frames the device had given by then."""
    device, lines = SmallIsp(), []
    settings = ValidationSettings((NONE,), fixed=NONE, industry=NONE, oracle_captures=oracle)
    with Dataset.open(lab) as dataset:
        validate(lab, dataset, device, settings, tell=lambda line: lines.append((line, device.asked)))
    return lines


def test_a_validation_tells_beforehand_what_it_asks_for(tmp_path: Path) -> None:
    make_lab(tmp_path)
    cheaper = "; --oracle-captures 0 or --test-raws N makes it cheaper"
    start = "up to 32 captures of small are to be asked for (8 of 1 method, 24 of the per-image oracle)"
    assert told(tmp_path, 3) == [(start + cheaper, 0)]
    known = "up to 24 captures of small are to be asked for (24 of the per-image oracle), about 0.024 s at 1 ms a frame"
    assert told(tmp_path, 3) == [(known + cheaper, 0)]
    assert told(tmp_path, 0) == []


def test_each_part_of_a_job_has_its_own_count_unit_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("refine", 0)
    progress.part("reading RAWs", "RAW", 1, 11, "reading RAWs")
    now[0] += 10
    progress.part("reading RAWs", "RAW", 6, 11, "reading RAWs")
    assert progress.line(now[0] - progress._start) == "6 of 11 RAWs, 2 s each, 0:10 left, reading RAWs"
    now[0] += 90
    progress.part("rounds", "capture", 4, 104, "round 1")
    now[0] += 5
    progress.part("rounds", "capture", 54, 104, "round 2")
    assert progress.line(now[0] - progress._start) == "54 of 104 captures, 10/s, 0:05 left, round 2"
    progress.part("training", "step", 1, 9)
    assert progress.line(now[0] - progress._start) == "1 of 9 steps"
